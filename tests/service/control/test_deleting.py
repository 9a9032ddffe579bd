"""Deleting dictionaries, probes and matches with what mentions them, and what is garbage after."""

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service import planted
from tests.service.run_here import run_here
from tests.service.serving import server_on

import isogloss
from isogloss import Client
from isogloss.errors import Conflict, CorruptData, InvalidInput, NotFound
from isogloss.service.jobs.queue import JobTable
from isogloss.store import Store

PROBE_FOLDERS = ("dictionaries", "probes", "atlases", "matches")


@pytest.fixture(scope="module")
def matched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with three dictionaries on one probe, and a match of two of them."""
    root = tmp_path_factory.mktemp("deleting") / "store"
    quick = {"epochs": 2.0, "features": 32}
    with Store.open(root) as store:
        planted.record(store, "small-docs", seed=1)
        planted.record(store, "large-docs", seed=2)
        run_here(store, "train", planted.train_spec("small-docs", "small", **quick))
        run_here(store, "train", planted.train_spec("large-docs", "large", **quick))
        run_here(store, "train", planted.train_spec("large-docs", "third", seed=3, **quick))
        run_here(store, "match", {"match": "both", "a": "small", "b": "large"})
        (probe,) = store.catalog.list("probe")
        recordings = ["large-docs", "small-docs"]
        more = {"recordings": recordings, "dictionaries": ["third"]}
        run_here(store, "probe", {"probe": probe.id, **more})
    return root


@pytest.fixture
def root(matched: Path, tmp_path: Path) -> Path:
    """The same, to be spoilt."""
    return Path(shutil.copytree(matched, tmp_path / "store"))


@pytest.fixture(params=["in process", "server"])
def client(root: Path, request: pytest.FixtureRequest) -> Iterator[Client]:
    if request.param == "server":
        with server_on(root), isogloss.connect(root) as client:
            yield client
    else:
        with isogloss.connect(root, run_workers=False) as client:
            yield client


def directories(root: Path) -> dict[str, set[str]]:
    """Names of the artifact directories in each folder."""
    return {name: {path.name for path in (root / name).glob("*")} for name in PROBE_FOLDERS}


def test_a_dictionary_that_is_mentioned_is_deleted_only_with_what_mentions_it(
    client: Client, root: Path
) -> None:
    (probe,) = client.probes()
    small, both = client.dictionary_info("small"), client.get_match("both")
    with pytest.raises(Conflict, match=f"by matches/both, probes/{probe.id}: delete those first"):
        client.delete_dictionary("small", small.etag)
    with pytest.raises(Conflict, match="etag"):
        client.delete_dictionary("small", "old", cascade=True)
    with pytest.raises(InvalidInput, match="etag is empty"):
        client.delete_dictionary("small", "", cascade=True)
    assert client.dictionary_info("small") == small
    deleted = client.delete_dictionary("small", small.etag, cascade=True)
    assert deleted == ["matches/both", f"probes/{probe.id}"]
    with pytest.raises(NotFound, match="small"):
        client.dictionary_info("small")
    assert client.matches() == []
    assert client.probe(probe.id).dictionaries == ("large", "third")
    left = directories(root)
    assert small.uid not in left["dictionaries"]
    assert len(left["dictionaries"]) == 2
    assert both.uid not in left["matches"]
    assert left["atlases"] == set()
    assert not (root / "codes" / small.uid / probe.uid).exists()
    assert len(list((root / "codes").glob("*/*"))) == 2


def test_what_is_left_of_a_probe_is_indexed_anew_by_a_job(root: Path) -> None:
    with isogloss.connect(root, run_workers=False) as client:
        (probe,) = client.probes()
        client.delete_dictionary("small", client.dictionary_info("small").etag, cascade=True)
        (job,) = [job for job in client.jobs() if job.state == "QUEUED"]
        assert job.kind == "probe"
        with pytest.raises(NotFound, match="is being indexed anew"):
            client.nearest(client.dictionary_info("large").feature(0), ["third"], probe=probe.id)
    with Store.open(root) as store:
        spec = JobTable(store.catalog.path).get(job.name).spec
        done = run_here(store, "probe", dict(spec))
        assert done.id == job.name
        assert set(store.catalog.get("atlas", probe.id).body["dictionaries"]) == {"large", "third"}  # pyright: ignore[reportArgumentType] - a JSON object
    with isogloss.connect(root, run_workers=False) as client:
        ref = client.dictionary_info("large").feature(0)
        assert client.nearest(ref, ["third"], probe=probe.id, count=1)[0].dictionary == "third"


def test_a_match_and_then_its_probe_can_be_deleted(client: Client, root: Path) -> None:
    (probe,) = client.probes()
    with pytest.raises(Conflict, match="mentioned by matches/both"):
        client.delete_probe(probe.id, probe.etag)
    both = client.get_match("both")
    with pytest.raises(Conflict, match="etag"):
        client.delete_match("both", "old")
    client.delete_match("both", both.etag)
    with pytest.raises(NotFound, match="both"):
        client.get_match("both")
    assert client.delete_probe(probe.id, probe.etag) == []
    assert client.probes() == []
    left = directories(root)
    assert len(left["dictionaries"]) == 3
    assert left["probes"] | left["atlases"] | left["matches"] == set()
    assert list((root / "codes").glob("*/*")) == []
    small = client.dictionary_info("small")
    assert client.delete_dictionary("small", small.etag) == []


def test_a_probe_goes_with_its_matches_when_told_so(root: Path) -> None:
    with isogloss.connect(root, run_workers=False) as client:
        (probe,) = client.probes()
        assert client.delete_probe(probe.id, probe.etag, cascade=True) == ["matches/both"]
        assert client.matches() == []


def test_what_an_unfinished_job_uses_is_not_deleted(root: Path) -> None:
    with isogloss.connect(root, run_workers=False) as client:
        (probe,) = client.probes()
        job = client.match("large", "third", probe=probe.id)
        for name in ("large", "third"):
            with pytest.raises(Conflict, match=f"used by job '{job.name}'.*cancel it"):
                client.delete_dictionary(name, client.dictionary_info(name).etag, cascade=True)
        with pytest.raises(Conflict, match=f"used by job '{job.name}'"):
            client.delete_probe(probe.id, probe.etag, cascade=True)
        queued = client.train("large-docs", site="encoder.layer.2", features=8, k=2)
        etag = client.recording("large-docs").etag
        with pytest.raises(Conflict, match=f"'large-docs' is used by job '{queued.name}'"):
            client.delete_recording("large-docs", etag)
        queued.cancel()
        client.delete_recording("large-docs", etag)
        job.cancel()
        client.delete_dictionary("third", client.dictionary_info("third").etag, cascade=True)


# Garbage.


def test_garbage_is_what_the_catalog_does_not_know_and_logs_of_old_jobs(
    client: Client, root: Path
) -> None:
    before = directories(root)
    orphans = [root / name / "0123456789abcdef01234567" for name in PROBE_FOLDERS]
    orphans.append(root / "codes" / "0123456789abcdef01234567" / "0123456789abcdef01234567")
    for orphan in orphans:
        orphan.mkdir(parents=True)
        (orphan / "file").write_bytes(b"x")
    logs = root / "jobs"
    logs.mkdir(exist_ok=True)
    over = client.jobs()[0].name
    for name in (over, "train-unknown"):
        (logs / f"{name}.log").write_text("said something")
    assert (client.collect_garbage(3600).files, client.collect_garbage(3600).logs) == (0, 0)
    assert all(orphan.exists() for orphan in orphans)
    done = client.collect_garbage(0)
    assert (done.files, done.logs) == (len(orphans), 2)
    assert not any(orphan.exists() for orphan in orphans)
    assert list(logs.glob("*")) == []
    assert directories(root) == before
    assert client.get_match("both").pairs >= 0
    assert client.collect_garbage(0) == type(done)(files=0, logs=0)
    with pytest.raises(InvalidInput, match="older_s is -1"):
        client.collect_garbage(-1)


def test_what_an_unfinished_job_goes_on_with_is_no_garbage(root: Path) -> None:
    uid = "0123456789abcdef01234567"
    with isogloss.connect(root, run_workers=False) as client:
        job = client.train("small-docs", site="layer.1", features=8, k=2)
        log = root / "jobs" / f"{job.name}.log"
        log.parent.mkdir(exist_ok=True)
        log.write_text("said something")
        table = JobTable(root / "catalog.sqlite")
        claimed = table.claim(30)
        assert claimed is not None
        orphan, pinned = root / "dictionaries" / ("f" * 24), root / "dictionaries" / uid
        orphan.mkdir()
        pinned.mkdir()
        table.remember(job.name, claimed.attempt, {"uid": uid})
        assert client.collect_garbage(0).files == 0, "a worker runs, which may be writing"
        table.release(job.name, claimed.attempt, blame="", limit=5, backoff_s=0)
        table.close()
        assert client.collect_garbage(0).files == 1
        assert (pinned.exists(), orphan.exists(), log.exists()) == (True, False, True)
        job.cancel()
        old = time.time() - 7200
        os.utime(pinned, (old, old))
        done = client.collect_garbage(3600)
        assert (done.files, done.logs) == (1, 0), "the job ended just now, so its log stays"
        assert client.collect_garbage(0).logs == 1


def test_what_is_gone_from_the_disk_can_be_deleted_all_the_same(root: Path) -> None:
    with isogloss.connect(root, run_workers=False) as client:
        (directory,) = (root / "matches").iterdir()
        shutil.rmtree(directory)
        with pytest.raises(CorruptData, match="delete match 'both' and match again"):
            client.get_match("both")
        (found,) = client.matches()
        client.delete_match("both", found.etag)
        assert client.matches() == []
