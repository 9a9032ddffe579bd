"""What jobs do, on planted recordings: real training, real probe, real match, real workers."""

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from tests.service import planted
from tests.service.run_here import run_here

from isogloss.dictionaries import (
    TrainProgress,
    load_dictionary,
    load_provenance,
    read_passport,
    write_passport,
)
from isogloss.dictionaries.registry import Registry
from isogloss.dictionaries.wirings import load
from isogloss.errors import AlreadyExists, InvalidInput, PassportRefused, ShapeError, from_reason
from isogloss.service.control.entries import dictionary_info, probe_info
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.query.queries import Queries, newest_probe
from isogloss.service.tasks import probe
from isogloss.service.tasks.heart import Heart
from isogloss.service.tasks.train import _Told
from isogloss.service.values.job_kinds import read_spec
from isogloss.service.values.jobs import JobState
from isogloss.service.values.json_fields import default_probe_id
from isogloss.store import Store
from isogloss.universality import (
    Atlas,
    Probe,
    ProbedDictionary,
    load_probed,
    segment_rows,
    signatures,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("tasks") / "store") as store:
        planted.record(store, "small-docs", seed=1)
        planted.record(store, "large-docs", seed=2)
        yield store


@pytest.fixture(scope="module")
def matched(store: Store) -> Store:
    """The store after the whole path: two dictionaries, their default probe, a match."""
    run_here(store, "train", planted.train_spec("small-docs", "small"))
    run_here(store, "train", planted.train_spec("large-docs", "large", seed=1))
    ended = run_here(store, "match", {"match": "both", "a": "small", "b": "large", "settings": {}})
    assert ended.result == {"match": "both"}
    return store


def test_a_trained_dictionary_is_in_the_catalog_with_held_out_figures(matched: Store) -> None:
    entry = matched.catalog.get("dictionary", "small")
    assert entry.body["recording"] == "small-docs"
    assert entry.body["site"] == "layer.1"
    assert entry.body["sources"] == [
        {name: entry.body[name] for name in ("recording", "recording_uid", "site", "revision")}
    ]
    assert entry.body["wiring"] == "sae"
    settings = {"features": 40, "k": 3, "aux_k": None}
    settings |= {"k_start": None, "k_anneal": 0.0, "clip_norm": None, "init_norm": 0.2}
    settings |= {"adam": "exact"}
    assert entry.body["settings"] == settings
    assert entry.body["revision"] == matched.recording("small-docs").revision().to_dict()
    metrics = entry.body["metrics"]
    assert isinstance(metrics, dict)
    assert 0 < metrics["fvu"] < 0.2
    dictionary = load_dictionary(matched.artifact("dictionary", entry.uid))
    assert (dictionary.width, dictionary.features) == (24, 40)
    assert not list(matched.artifact("dictionary", entry.uid).glob("checkpoint*"))


def test_a_trained_dictionary_has_its_passport_which_every_match_compares(matched: Store) -> None:
    entry = matched.catalog.get("dictionary", "small")
    directory = matched.artifact("dictionary", entry.uid)
    passport = read_passport(directory)
    assert passport is not None
    assert (passport.sites, passport.widths, passport.kind) == (("layer.1",), (24,), "topk")
    reader = matched.recording("small-docs").reader()
    found = probe._checked(matched, entry, reader, "layer.1")
    assert (found.width, found.features) == (24, 40)
    write_passport(replace(passport, sites=("layer.2",), activation={"k": 4}), directory)
    try:
        with pytest.raises(PassportRefused, match=r"allow=\['activation', 'site'\]"):
            probe._checked(matched, entry, reader, "layer.1")
    finally:
        write_passport(passport, directory)


def test_training_the_same_again_gives_the_same_dictionary_without_work(matched: Store) -> None:
    before = matched.catalog.get("dictionary", "small")
    record = run_here(matched, "train", planted.train_spec("small-docs", "small"))
    assert record.result == {"dictionary": "small"}
    assert (record.step, record.total_steps) == (0, 0), "it trained again"
    assert matched.catalog.get("dictionary", "small") == before


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"config": {"features": 64}}, "ALREADY_EXISTS", "differs in features"),
        ({"recording": "large-docs", "site": "encoder.layer.2"}, "ALREADY_EXISTS", "recording"),
        ({"site": "layer.2"}, "UNKNOWN_SITE", "nearest: layer.1"),
        ({"recording": "lost"}, "NOT_FOUND", "lost"),
        ({"config": {"features": 0}}, "INVALID_INPUT", "features is 0"),
        ({"config": {"features": 8, "wings": 2}}, "INVALID_INPUT", "wings"),
    ],
)
def test_a_train_job_that_cannot_be_done_says_why(
    matched: Store, change: dict[str, object], reason: str, message: str
) -> None:
    wrong = planted.train_spec("small-docs", "small") | change
    with pytest.raises(from_reason(reason), match=message):
        run_here(matched, "train", wrong)


def test_a_dictionary_of_two_sites_is_trained_and_named_by_both(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = {"side_by_side": "tests.dictionaries.two_sites:SideBySide"}
    monkeypatch.setattr(load, "WIRINGS", Registry(noun="wiring", group="-", built_in=rows))
    one = planted.train_spec("small-docs", "both-sites", epochs=1.0, wiring="side_by_side")
    source = {"recording": one.pop("recording"), "site": one.pop("site")}
    run_here(store, "train", {**one, "sources": [source, source]})
    found = dictionary_info(store.catalog.get("dictionary", "both-sites"))
    assert (found.width, found.wiring) == (48, "side_by_side")
    whole = found.metrics["fvu"]
    sites = [found.metrics[f"site_{place}_fvu"] for place in range(2)]
    assert min(sites) <= whole <= max(sites) < 1
    assert [s.site for s in found.sources] == ["layer.1", "layer.1"]
    assert {s.recording_uid for s in found.sources} == {store.recording("small-docs").uid}
    with pytest.raises(AlreadyExists, match="differs in site"):
        run_here(store, "train", {**one, **source})
    spec: dict[str, object] = {"probe": "p2", "recordings": [], "dictionaries": ["both-sites"]}
    with pytest.raises(InvalidInput, match=r"is a side_by_side of 2 sites.*wiring sae"):
        run_here(store, "probe", spec)


def test_a_match_finds_the_planted_concepts_beyond_their_null(matched: Store) -> None:
    pairs = Queries(matched).pairs("both", min_r=0.5)
    assert len(pairs) >= planted.CONCEPTS // 2
    assert pairs == sorted(pairs, key=lambda pair: -pair.r)
    data = Queries(matched).match("both").details["data"]
    assert isinstance(data, dict)
    level = next(level for level in data["counts"] if level["threshold"] == 0.5)
    assert level["shared"] > 3 * level["nulls"]["none"]


@pytest.fixture(scope="module")
def default_probe(matched: Store) -> dict[str, object]:
    """What the catalog says of the default probe before it gains a dictionary."""
    found = matched.catalog.get("probe", default_probe_id(["small-docs", "large-docs"]))
    return {**found.body}


def test_the_default_probe_was_built_of_held_out_documents(
    default_probe: dict[str, object],
) -> None:
    assert default_probe["dictionaries"] == ["large", "small"]
    held_out = sum(document.split_position < 0.25 for document in planted.documents())
    assert default_probe["documents"] == held_out
    assert default_probe["grid"] == "tokens"


@pytest.fixture(scope="module")
def with_other_seed(matched: Store, default_probe: dict[str, object]) -> Store:
    """The store with a second dictionary of one recording."""
    assert default_probe
    run_here(matched, "train", planted.train_spec("small-docs", "other-seed", seed=5, epochs=4))
    return matched


def test_a_probe_gains_a_dictionary_and_its_atlas_is_replaced(
    with_other_seed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    matched, sketched = with_other_seed, list[str]()

    def counted(probed: ProbedDictionary, on: Probe, *, m: int) -> NDArray[np.float32]:
        sketched.append(probed.id)
        return signatures(probed, on, m=m)

    monkeypatch.setattr("isogloss.service.tasks.probe.signatures", counted)
    probe = default_probe_id(["small-docs", "large-docs"])
    before = matched.catalog.get("atlas", probe)
    spec: dict[str, object] = {
        "probe": probe,
        "recordings": ["small-docs"],
        "dictionaries": ["other-seed"],
    }
    assert run_here(matched, "probe", spec).result == {"probe": probe}
    after = matched.catalog.get("atlas", probe)
    assert after.uid != before.uid
    assert not matched.artifact("atlas", before.uid).exists()
    assert matched.catalog.get("probe", probe).body["dictionaries"] == [
        "large",
        "other-seed",
        "small",
    ]
    assert run_here(matched, "probe", spec).result == {"probe": probe}
    assert matched.catalog.get("atlas", probe).uid == after.uid
    assert sketched == ["other-seed"]
    assert set(Atlas.load(matched.artifact("atlas", after.uid)).dictionaries) == {
        "large",
        "other-seed",
        "small",
    }


def test_a_probe_takes_no_document_that_a_dictionary_was_trained_on(matched: Store) -> None:
    run_here(matched, "train", planted.train_spec("small-docs", "greedy", holdout=0.1, epochs=2))
    probe = default_probe_id(["small-docs", "large-docs"])
    wrong: dict[str, object] = {"probe": probe, "recordings": [], "dictionaries": ["greedy"]}
    with pytest.raises(ValueError, match=r"trained with holdout 0\.1"):
        run_here(matched, "probe", wrong)
    spec: dict[str, object] = {"probe": "careful", "recordings": [], "dictionaries": ["greedy"]}
    run_here(matched, "probe", spec)
    assert matched.catalog.get("probe", "careful").body["holdout"] == 0.1


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"recordings": ["lost"], "probe": "new"}, "NOT_FOUND", "lost"),
        ({"dictionaries": ["lost"]}, "NOT_FOUND", "lost"),
        ({"holdout": 0.2}, "ALREADY_EXISTS", "holdout 0.25, wanted 0.2"),
        ({"grid": "word_ends"}, "ALREADY_EXISTS", "wanted 'word_ends'"),
        ({"grid": "letters"}, "INVALID_INPUT", "letters"),
    ],
)
def test_a_probe_job_that_cannot_be_done_says_why(
    matched: Store, change: dict[str, object], reason: str, message: str
) -> None:
    probe = default_probe_id(["small-docs", "large-docs"])
    spec: dict[str, object] = {"probe": probe, "recordings": ["small-docs"], "dictionaries": []}
    with pytest.raises(from_reason(reason), match=message):
        run_here(matched, "probe", spec | change)


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        ({"b": "small"}, "INVALID_INPUT", "both dictionaries are 'small'"),
        ({"b": "lost"}, "NOT_FOUND", "lost"),
        ({"settings": {"draws": 2}}, "ALREADY_EXISTS", "differs in settings"),
        ({"settings": {"wings": 2}}, "INVALID_INPUT", "wings"),
        ({"a": "large", "b": "small"}, "ALREADY_EXISTS", "a_uid"),
    ],
)
def test_a_match_job_that_cannot_be_done_says_why(
    matched: Store, change: dict[str, object], reason: str, message: str
) -> None:
    spec: dict[str, object] = {"match": "both", "a": "small", "b": "large"}
    with pytest.raises(from_reason(reason), match=message):
        run_here(matched, "match", spec | change)


def test_two_dictionaries_of_one_recording_are_named_related(with_other_seed: Store) -> None:
    matched = with_other_seed
    run_here(matched, "match", {"match": "seeds", "a": "small", "b": "other-seed"})
    report = Queries(matched).match("seeds").details
    data = report["data"]
    assert isinstance(data, dict)
    assert "SHARED_ANCESTRY" in [caution["code"] for caution in data["cautions"]]
    assert json.dumps(report, allow_nan=False)


def test_workers_killed_at_any_point_give_the_tensors_of_an_unbroken_run(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store, Jobs(store, max_stalls=50) as jobs:
        planted.record(store, "small-docs", seed=1)
        names = ("broken", "unbroken")
        work = [
            jobs.submit(read_spec("train", planted.train_spec("small-docs", name, epochs=80)))
            for name in names
        ]
        rng = np.random.default_rng(3)
        for attempt in (1, 2):
            while not (now := jobs.get(work[0].id)).state.is_final and (
                now.attempt < attempt or now.state is not JobState.RUNNING or now.step == 0
            ):
                time.sleep(0.01)
            time.sleep(float(rng.uniform(0, 0.2)))
            for child in psutil.Process().children():
                child.kill()
        last = [jobs.wait(job.id) for job in work]
        assert [record.state for record in last] == [JobState.SUCCEEDED] * 2
        assert last[0].attempt >= 2, "it was never killed in mid-run"
        hashes = [
            load_dictionary(
                store.artifact("dictionary", store.catalog.get("dictionary", name).uid)
            ).provenance.weights_sha256
            for name in names
        ]
    assert hashes[0] == hashes[1]


def test_a_cancelled_training_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store, Jobs(store) as jobs:
        planted.record(store, "small-docs", seed=1)
        spec = planted.train_spec("small-docs", "small", epochs=2000.0)
        job = jobs.submit(read_spec("train", spec))
        while jobs.get(job.id).step < 20:
            time.sleep(0.02)
        jobs.cancel(job.id)
        last = jobs.wait(job.id)
        assert last.state is JobState.CANCELLED
        assert last.step < last.total_steps, "it trained to its end in spite of the cancel"
        assert store.catalog.list("dictionary") == []


@pytest.fixture(scope="module")
def at_steps(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A recording of two training steps, a dictionary of each, and these matched at their own."""
    with Store.open(tmp_path_factory.mktemp("steps") / "store") as store:
        planted.record(store, "small-docs", seed=1, steps={0: 1, 500: 9})
        for name, step in (("first", 0), ("later", 500)):
            run_here(store, "train", planted.train_spec("small-docs", name, steps=[step], epochs=2))
        run_here(store, "match", {"match": "own", "a": "first", "b": "later"})
        yield store


def test_a_train_job_that_is_not_told_a_step_names_those_that_there_are(at_steps: Store) -> None:
    with pytest.raises(InvalidInput, match=r"2 training steps \(0: 9,600 rows, 500: 9,600 rows\)"):
        run_here(at_steps, "train", planted.train_spec("small-docs", "mixed"))
    with pytest.raises(AlreadyExists, match="differs in steps"):
        run_here(
            at_steps, "train", planted.train_spec("small-docs", "first", steps=[500], epochs=2)
        )


def test_a_dictionary_says_of_which_steps_its_rows_were(at_steps: Store) -> None:
    for name, steps in (("first", (0,)), ("later", (500,))):
        entry = at_steps.catalog.get("dictionary", name)
        info = dictionary_info(entry)
        assert [source.steps for source in info.sources] == [steps]
        provenance = load_provenance(at_steps.artifact("dictionary", entry.uid))
        assert [site.steps for site in provenance.sites] == [steps]
        assert provenance.config is not None
        assert provenance.config.steps == steps
        assert provenance.rows_trained <= 2 * 9600
        assert 0 < info.metrics["fvu"] < 0.5  # held out at its own step


def test_dictionaries_of_two_steps_of_one_recording_are_each_read_at_their_own(
    at_steps: Store,
) -> None:
    entry = at_steps.catalog.get("probe", default_probe_id(["small-docs"]))
    assert "steps" not in entry.body
    reader = at_steps.recording("small-docs").reader()
    probe = Probe.load(at_steps.artifact("probe", entry.uid))
    for name, step in (("first", 0), ("later", 500)):
        found = at_steps.catalog.get("dictionary", name)
        codes = load_probed(at_steps.artifact("codes", found.uid, entry.uid), name)
        assert codes.present.all()
        rows = segment_rows(probe, reader, [step])
        dictionary = load_dictionary(at_steps.artifact("dictionary", found.uid))
        wanted = dictionary.encode(torch.from_numpy(reader.take("layer.1", rows[:50])))
        assert codes.codes.row_slice(0, 50).values.tolist() == pytest.approx(
            wanted.to_ragged().values.tolist(), rel=1e-4
        )


def test_a_match_at_another_step_reads_a_probe_of_its_own(at_steps: Store) -> None:
    spec: dict[str, object] = {"match": "at", "a": "first", "b": "later", "steps": [500]}
    run_here(at_steps, "match", spec)
    body = at_steps.catalog.get("match", "at").body
    assert body["probe"] == default_probe_id(["small-docs"], [500])
    assert body["steps"] == [500]
    assert probe_info(at_steps.catalog.get("probe", str(body["probe"]))).steps == (500,)
    with pytest.raises(AlreadyExists, match="differs in steps"):
        run_here(at_steps, "match", {**spec, "steps": [0]})
    probe: dict[str, object] = {"probe": str(body["probe"]), "recordings": ["small-docs"]}
    with pytest.raises(AlreadyExists, match=r"exists with steps \[500\], wanted \[0\]"):
        run_here(at_steps, "probe", {**probe, "dictionaries": [], "steps": [0]})
    with pytest.raises(InvalidInput, match="no rows of training step 501"):
        run_here(at_steps, "probe", {**probe, "probe": "x", "dictionaries": [], "steps": [501]})
    # who names none gets the probe that compares each at its own step
    newest = newest_probe(at_steps, {"first", "later"})
    assert newest is not None
    assert newest.id == default_probe_id(["small-docs"])


def test_a_dictionary_of_two_steps_is_compared_at_the_one_that_is_named(at_steps: Store) -> None:
    spec = planted.train_spec("small-docs", "over-time", steps=[500, 0], epochs=1)
    run_here(at_steps, "train", spec)
    probe: dict[str, object] = {"probe": "over", "recordings": [], "dictionaries": ["over-time"]}
    with pytest.raises(InvalidInput, match=r"trained on: 0, 500.*say which"):
        run_here(at_steps, "probe", probe)
    run_here(at_steps, "probe", {**probe, "steps": [500]})
    assert at_steps.catalog.get("probe", "over").body["dictionaries"] == ["over-time"]


def _wired_spec(name: str, wiring: str, settings: dict[str, object]) -> dict[str, object]:
    sources = [
        {"recording": one, "site": planted.SITES[one]} for one in ("small-docs", "large-docs")
    ]
    config = {
        "settings": {"features": 40, "k": 3, **settings},
        "wiring": wiring,
        "epochs": 1.0,
        "batch_rows": 256,
        "learning_rate": 1e-2,
        "controls": ["frozen_decoder"],
    }
    return {"dictionary": name, "sources": sources, "config": config}


@pytest.mark.parametrize(
    ("wiring", "settings", "reads", "writes"),
    [("crosscoder", {"dedicated": 0.1}, 56, 56), ("transcoder", {"skip": True}, 24, 32)],
)
def test_sites_of_two_aligned_recordings_are_wired_to_one_dictionary(
    store: Store, wiring: str, settings: dict[str, object], reads: int, writes: int
) -> None:
    run_here(store, "train", _wired_spec(wiring, wiring, settings))
    info = dictionary_info(store.catalog.get("dictionary", wiring))
    assert (info.wiring, info.width) == (wiring, reads)
    assert [source.recording for source in info.sources] == ["small-docs", "large-docs"]
    assert info.metrics["fvu"] < 0.9
    sites = [info.metrics[name] for name in sorted(info.metrics) if name.startswith("site_")]
    assert len(sites) == (2 if wiring == "crosscoder" else 0)
    for figure in ("fvu", "usual_fvu", "l0", "dead_fraction"):
        assert f"control_frozen_decoder_{figure}" in info.metrics
    assert info.metrics["control_frozen_decoder_fvu"] > info.metrics["fvu"]
    assert not list(store.artifact("dictionary", info.uid).glob("control-*"))
    queries = Queries(store)
    values, _ = queries.encode(wiring, np.ones((5, reads), np.float32))
    assert values.shape == (5, 3)
    with pytest.raises(ShapeError, match=r"large-docs|side by side|transcoder reads"):
        queries.encode(wiring, np.ones((5, reads + 1), np.float32))
    dictionary = load_dictionary(store.artifact("dictionary", info.uid))
    assert dictionary.decoder.shape == (40, writes)
    assert ("skip" in dictionary.tensors) == (wiring == "transcoder")
    probe: dict[str, object] = {"probe": "no", "recordings": [], "dictionaries": [wiring]}
    with pytest.raises(InvalidInput, match=f"{wiring!r} is a {wiring} of 2 sites.*wiring sae"):
        run_here(store, "probe", probe)


def test_dictionaries_of_two_recordings_start_from_seeds_of_their_own(store: Store) -> None:
    seeds: list[object] = []
    for recording in ("small-docs", "large-docs"):
        spec = planted.train_spec(recording, f"seed-{recording}")
        config = spec["config"]
        assert isinstance(config, dict)
        config.pop("seed", None)
        run_here(store, "train", spec | {"config": config | {"epochs": 0.5}})
        run_here(store, "train", spec | {"config": config | {"epochs": 0.5}})  # the same again
        found = store.catalog.get("dictionary", f"seed-{recording}").body["provenance"]
        assert isinstance(found, dict)
        seeds.append(found["init_seed"])
    assert seeds[0] != seeds[1]


def test_a_probe_tells_of_its_work_in_order_and_to_its_end(
    matched: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []
    progress = Heart.progress

    def noted(self: Heart, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
        told.append((step, total_steps))
        progress(self, step, total_steps, metrics)

    monkeypatch.setattr(Heart, "progress", noted)
    names = {"recordings": ["large-docs", "small-docs"], "dictionaries": ["large", "small"]}
    run_here(matched, "probe", {"probe": "told", **names})
    (total,) = {total for _, total in told}
    steps = [step for step, _ in told]
    assert steps == sorted(steps)
    assert (steps[0], steps[-1]) == (0, total)
    assert len(set(steps)) > 3, "each dictionary is told of"


def test_runs_that_have_not_begun_count_as_long_as_the_longest_that_has() -> None:
    told: list[tuple[int, int]] = []

    class Noted:
        def progress(self, step: int, total_steps: int, metrics: Mapping[str, float]) -> None:
            told.append((step, total_steps))

    def at(step: int, total: int) -> TrainProgress:
        return TrainProgress(
            step=step, total_steps=total, rows=0, fvu=0.5, loss=0.5, l0=2.0, dead_fraction=0.0,
            rows_per_s=1.0,
        )  # fmt: skip

    several = _Told(cast("Heart", Noted()), {0: "a", 1: "b", 2: "c"})
    several.tell(0, at(2, 10))
    several.tell(1, at(1, 40))
    several.tell(7, at(1, 999))  # a control
    several.tell(2, at(5, 5))
    assert told == [(2, 30), (3, 10 + 40 + 40), (8, 10 + 40 + 5)]
