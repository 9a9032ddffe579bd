"""Several dictionaries of one job, through a real server: their bits, progress, cancel, resume."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.service import planted
from tests.service.planted_server import planted_store
from typer.testing import CliRunner, Result

import isogloss
from isogloss import Client
from isogloss.errors import (
    AlreadyExists,
    Conflict,
    InvalidInput,
    InvalidName,
    JobCancelled,
    JobFailed,
)
from isogloss.service import DictionaryInfo
from isogloss.service.cli.main import app

NAME = "small-docs"
SITE = planted.SITES[NAME]
COMMON = {"epochs": 1.0, "batch_rows": 512, "learning_rate": 0.01, "checkpoint_every": 4}
RUNS: list[Mapping[str, object]] = [
    {"features": 40, "k": 3, **COMMON},
    {"features": 32, "kind": "jumprelu", "settings": {"target_l0": 3.0}, **COMMON},
    {"features": 40, "k": 3, "seed": 5, "dictionary": "of-seed-five", **COMMON},
]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with planted_store(tmp_path_factory.mktemp("many") / "store", NAME) as store:
        yield store


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[Client]:
    with isogloss.connect(store, timeout_s=180.0) as client:
        assert not client.is_local
        yield client


def weights(made: DictionaryInfo) -> object:
    return made.provenance["weights_sha256"]


def test_each_has_the_bits_that_it_has_alone_and_its_own_progress(client: Client) -> None:
    job = client.train_many(NAME, site=SITE, runs=RUNS)
    last = [*job.progress()][-1]
    together = job.result(120)
    assert [made.features for made in together] == [40, 32, 40]
    assert [made.kind for made in together] == ["topk", "jumprelu", "topk"]
    assert together[2].id == "of-seed-five"
    for made in together:
        assert last.metrics[f"{made.id}/step"] == last.metrics[f"{made.id}/total_steps"] > 0
        assert 0 < last.metrics[f"{made.id}/fvu"] < 1
        assert 0 < made.metrics["fvu"] < 1
    assert last.step == last.total_steps == 3 * last.metrics["of-seed-five/step"]
    (single,) = client.train_many(
        NAME, site=SITE, runs=[{**RUNS[1], "dictionary": "alone"}]
    ).result(120)
    assert weights(single) == weights(together[1])
    by_train = client.train(
        NAME, site=SITE, features=40, k=3, seed=5, epochs=1.0, dictionary="by-train",
        more={"rows_seed": 0, "batch_rows": 512, "learning_rate": 0.01, "checkpoint_every": 4},
    ).result(120)  # fmt: skip
    assert weights(by_train) == weights(together[2])


def test_a_cancelled_job_goes_on_where_it_was_and_ends_with_the_same_bits(client: Client) -> None:
    longer = [{**run, "epochs": 6.0, "dictionary": f"cut-{n}"} for n, run in enumerate(RUNS)]
    job = client.train_many(NAME, site=SITE, runs=longer)
    for info in job.progress():
        if info.step > 20:
            job.cancel()
    with pytest.raises(JobCancelled):
        job.result(60)
    assert not {"cut-0", "cut-1", "cut-2"} & {made.id for made in client.dictionaries()}
    whole = [{**run, "dictionary": f"whole-{n}"} for n, run in enumerate(longer)]
    again = client.train_many(NAME, site=SITE, runs=longer)
    assert again.name != job.name
    wanted = client.train_many(NAME, site=SITE, runs=whole).result(240)
    assert [*map(weights, again.result(240))] == [*map(weights, wanted)]


@pytest.mark.slow
def test_the_same_again_makes_nothing_and_one_more_makes_one(client: Client) -> None:
    runs = [{**run, "dictionary": f"more-{n}", "epochs": 1.0} for n, run in enumerate(RUNS)]
    first = client.train_many(NAME, site=SITE, runs=runs[:2]).result(120)
    after = client.train_many(NAME, site=SITE, runs=runs).result(120)
    assert [made.etag for made in after[:2]] == [made.etag for made in first]
    assert after[2].id == "more-2"
    changed = [*runs[:2], {**runs[2], "seed": 6}]
    with pytest.raises(JobFailed, match="'more-2' exists and differs in seed"):
        client.train_many(NAME, site=SITE, runs=changed).result(120)


def test_two_jobs_never_make_one_dictionary_and_what_is_made_is_not_deleted(client: Client) -> None:
    runs = [{**run, "dictionary": f"busy-{n}", "epochs": 60.0} for n, run in enumerate(RUNS)]
    job = client.train_many(NAME, site=SITE, runs=runs)
    try:
        with pytest.raises(AlreadyExists, match="'busy-2' is being made by job"):
            client.train_many(NAME, site=SITE, runs=runs[2:])
        recording = client.recording(NAME)
        with pytest.raises(Conflict, match=job.name):
            client.delete_recording(NAME, recording.etag)
    finally:
        job.cancel()


@pytest.mark.parametrize(
    ("runs", "said"),
    [
        ([], "0 runs"),
        ([{"k": 3}], "features of a run is None"),
        ([RUNS[0], RUNS[0]], "asked for twice in one job"),
        ([RUNS[0], {"features": 8, "wings": 2}], "no setting 'wings'"),
        ([RUNS[0], {"features": 8, "k": 9}], "k is 9 but features is 8"),
        (
            [RUNS[0], {"features": 8, "k": 2, "batch_rows": 100_000}],
            "training rows of 9,600, fewer",
        ),
        ([RUNS[0], {"features": 8, "settings": [1]}], "settings of a run is"),
        ([RUNS[0], {"features": 8, "dictionary": "../up"}], "is not of the form"),
    ],
)
def test_what_cannot_be_is_refused_when_it_is_asked_for(
    client: Client, runs: list[Mapping[str, object]], said: str
) -> None:
    before = len(client.jobs())
    with pytest.raises((InvalidInput, InvalidName), match=said):
        client.train_many(NAME, site=SITE, runs=runs)
    assert len(client.jobs()) == before


def command_line(store: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--store", str(store)])


def test_a_sweep_trains_the_grid_once_and_draws_its_frontier(
    store: Path, client: Client, tmp_path: Path
) -> None:
    plot = tmp_path / "frontier.svg"
    words = [
        *("sweep", NAME, "--site", SITE, "--features", "24", "--features", "40", "--k", "2"),
        *("--k", "4", "--seed", "0", "--seed", "1", "--epochs", "1", "--batch-rows", "512"),
        *("--plot", str(plot)),
    ]
    done = command_line(store, *words, "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert len(found["dictionaries"]) == 8
    assert {one["dictionary"] for one in found["dictionaries"]} <= {
        d.id for d in client.dictionaries()
    }
    assert [cell["seeds"] for cell in found["cells"]] == [2] * 4
    assert {cell["verdict"] for cell in found["cells"]} <= {"higher", "not distinguishable"}
    assert found["reseeding"]["degrees"] == 4
    assert {*found["laws"][0]["exponents"]} == {"features", "k"}
    assert "<polygon" in plot.read_text()
    jobs, etags = len(client.jobs()), {d.id: d.etag for d in client.dictionaries()}
    again = command_line(store, *words)
    assert again.exit_code == 0, again.output
    assert "topk" in again.stdout
    listed = command_line(store, *words, "--csv")
    rows = list(csv.DictReader(io.StringIO(listed.stdout)))
    assert [row["verdict"] for row in rows] == [cell["verdict"] for cell in found["cells"]]
    assert len(client.jobs()) == jobs + 2
    assert client.jobs()[-1].total_steps == 0, "it trained again"
    assert {d.id: d.etag for d in client.dictionaries()} == etags


@pytest.mark.slow
def test_train_with_several_sizes_makes_one_of_each(store: Path, client: Client) -> None:
    words = ["train", NAME, "--site", SITE, "--features", "24", "--k", "2", "--k", "3"]
    done = command_line(store, *words, "--epochs", "1", "--batch-rows", "512", "--json")
    assert done.exit_code == 0, done.output
    assert [one["settings"]["k"] for one in json.loads(done.stdout)] == [2, 3]
    named = command_line(store, *words, "--dictionary", "one-name")
    assert isinstance(named.exception, InvalidInput)
    assert "--dictionary names one" in str(named.exception)


def test_sites_that_want_a_wiring_are_told_which(store: Path, client: Client) -> None:
    also = f"{NAME}:{SITE}"
    done = command_line(store, "train", NAME, "--site", SITE, "--also", also, "--features", "8")
    assert isinstance(done.exception, InvalidInput)
    assert "2 sites are given and no wiring: add --wiring crosscoder" in str(done.exception)
