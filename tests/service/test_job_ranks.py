"""Jobs of several processes and jobs that start from a dictionary, through a real server."""

import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from tests.service import planted
from tests.service.planted_server import planted_store
from typer.testing import CliRunner

import isogloss
from isogloss import Client
from isogloss.errors import InvalidInput, NotFound
from isogloss.service import DictionaryInfo
from isogloss.service.cli.main import app

NAME = "small-docs"
SITE = planted.SITES[NAME]
COMMON: Mapping[str, object] = {"batch_rows": 512, "learning_rate": 0.01, "checkpoint_every": 4}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with planted_store(tmp_path_factory.mktemp("ranks") / "store", NAME) as store:
        yield store


@pytest.fixture(scope="module")
def client(store: Path) -> Iterator[Client]:
    with isogloss.connect(store, timeout_s=180.0) as client:
        assert not client.is_local
        yield client


@pytest.fixture(scope="module")
def first(client: Client) -> DictionaryInfo:
    (made,) = client.train_many(
        NAME, site=SITE, runs=[{**COMMON, "features": 40, "k": 3, "dictionary": "first"}]
    ).result(240)
    return made


def weights(made: DictionaryInfo) -> object:
    return made.provenance["weights_sha256"]


def test_a_job_starts_from_another_dictionary_and_tells_what_became_of_the_start(
    client: Client, store: Path, first: DictionaryInfo
) -> None:
    made = client.train(
        NAME, site=SITE, features=40, k=3, epochs=0.5, seed=1, init=first, dictionary="after"
    ).result(240)
    init = made.provenance["config"]
    assert isinstance(init, Mapping)
    assert init["init"]["dictionary"] == "first"
    assert made.provenance["init_hash"] != first.provenance["init_hash"]
    assert float(str(made.provenance["init_cosine"])) > 0.9
    same = client.train(
        NAME, site=SITE, features=40, k=3, epochs=0.5, seed=1, dictionary="after-by-name",
        init={"directions": "given", "dictionary": "first"},
    ).result(240)  # fmt: skip
    assert weights(same) == weights(made)
    shown = CliRunner().invoke(app, ["describe", NAME, "--store", str(store)])
    assert shown.exit_code == 0, shown.output
    line = next(line for line in shown.output.splitlines() if line.lstrip().startswith("after "))
    assert "first" in line
    assert f"{float(str(made.provenance['init_cosine'])):.3f}" in line


def test_a_start_that_is_not_there_or_does_not_fit_is_refused_at_once(
    client: Client, first: DictionaryInfo
) -> None:
    with pytest.raises(NotFound, match="nobody"):
        client.train(NAME, site=SITE, features=40, init="nobody")
    with pytest.raises(InvalidInput, match=r"\[40, 24\] .* wanted \[48, 24\]"):
        client.train(NAME, site=SITE, features=48, init=first)
    with pytest.raises(InvalidInput, match="init is 3, wanted a dictionary"):
        client.train(NAME, site=SITE, features=40, init=3)  # pyright: ignore[reportArgumentType] - refused
    with pytest.raises(InvalidInput, match="processes is 0"):
        client.train(NAME, site=SITE, features=40, processes=0)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rank_of_a_job_is_killed_and_the_job_ends_with_the_bits_of_one_process(
    client: Client, store: Path, first: DictionaryInfo
) -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one processor")
    run = {**COMMON, "features": 40, "k": 3, "epochs": 30.0, "kind": "batch_topk", "seed": 2}
    job = client.train_many(NAME, site=SITE, runs=[{**run, "dictionary": "two"}], processes=2)
    killed, until = 0, time.monotonic() + 240
    for info in job.progress():
        if info.step > 12 and not killed:
            for process in psutil.process_iter(["cmdline"]):
                words = process.info["cmdline"] or []
                if "isogloss.service.processes.rank" in words and str(store) in words:
                    process.kill()
                    killed += 1
        assert time.monotonic() < until
    assert killed == 1
    (two,) = job.result(240)
    (one,) = client.train_many(NAME, site=SITE, runs=[{**run, "dictionary": "one"}]).result(240)
    assert weights(two) == weights(one)


@pytest.mark.slow
def test_the_command_takes_processes_and_a_start(
    client: Client, store: Path, first: DictionaryInfo
) -> None:
    words = ["train", NAME, "--site", SITE, "--features", "40", "--k", "3", "--epochs", "0.5"]
    words += ["--init", first.id, "--processes", "1", "--dictionary", "by-command", "--json"]
    done = CliRunner().invoke(app, [*words, "--store", str(store)])
    assert done.exit_code == 0, done.output
    config = client.dictionary_info("by-command").provenance["config"]
    assert isinstance(config, Mapping)
    assert config["init"]["dictionary"] == "first"
    words[words.index("--processes") + 1] = "4096"
    refused = CliRunner().invoke(app, [*words, "--store", str(store)])
    assert isinstance(refused.exception, InvalidInput)
    assert "processes is 4096" in str(refused.exception)
