"""A recording that is deleted, or whose files vanish, is told so; nobody reads something else."""

import shutil
from pathlib import Path

import pytest

from isogloss.errors import Conflict, IsoglossError, LaneEnded, NotFound
from isogloss.store import Recording, Store
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()
SITES = tuple(site.name for site in SPEC.sites)


def make(store: Store) -> Recording:
    recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
    for first in (1, 4):
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(3)])
    return recording


def test_an_etag_of_before_a_change_deletes_nothing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        with pytest.raises(Conflict, match="read it again"):
            store.delete_recording("sample", "0123456789abcdef")
        assert check_sample(recording.reader(), {"p": 6}) == {"p": 6}
        old = recording.etag
        store.delete_recording("sample", old)
        assert make(store).etag != old
        with pytest.raises(Conflict, match=old):
            store.delete_recording("sample", old)
        assert check_sample(store.recording("sample").reader(), {"p": 6}) == {"p": 6}


def test_a_recording_that_takes_batches_is_not_deleted(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        lane = recording.open_lane()
        with pytest.raises(Conflict, match="open lane: close it first"):
            store.delete_recording("sample", recording.etag)
        lane.append([sample_batch(SPEC, "p", 7)])
        lane.close()
        store.delete_recording("sample", recording.etag)
        with pytest.raises(NotFound):
            store.recording("sample")
        with pytest.raises(LaneEnded):
            lane.append([sample_batch(SPEC, "p", 8)])
        with pytest.raises(NotFound, match="it was deleted"):
            recording.open_lane()


@pytest.mark.parametrize("how", ["deleted", "directory removed"])
def test_readers_of_a_deleted_recording_are_told(tmp_path: Path, how: str) -> None:
    with Store.open(tmp_path) as store, Store.attach(tmp_path) as attached:
        recording = make(store)
        unread, begun = recording.reader(), attached.recording("sample").reader()
        begun.read("layer.2", 0, 5)
        tokens = attached.recording("sample").reader()
        mapped = recording.reader().shuffled(SITES, seed=0, epoch=0, batch_rows=8)
        first = next(mapped)
        revision = recording.revision()
        if how == "deleted":
            store.delete_recording("sample", recording.etag)
        else:
            shutil.rmtree(recording.directory)
        for reader in (unread, begun):
            with pytest.raises(NotFound, match="'sample' was deleted while it was read"):
                reader.read("layer.1/out", 0, reader.rows)
        with pytest.raises(NotFound, match="was deleted while it was read"):
            tokens.tokens()
        with pytest.raises(NotFound, match="was deleted while it was read"):
            tokens.documents()
        with pytest.raises(NotFound, match="was deleted while it was read"):
            next(unread.shuffled(SITES, seed=0, epoch=0, batch_rows=8, prefetch=0))
        with pytest.raises(NotFound, match="gone"):
            recording.reader(revision)
        # what was mapped before stays: the system keeps removed files until nobody uses them
        rows = [batch.rows.tolist() for batch in (first, *mapped)]
        assert sum(map(len, rows)) > 0


def test_a_lane_that_vanishes_alone_is_damage_and_named(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        reader, name = recording.reader(), recording.lanes()[1].name
        shutil.rmtree(recording.directory / "lanes" / name / "site-0")
        with pytest.raises(IsoglossError, match=f"missing from lane '{name}'"):
            reader.read("layer.1/out", 0, reader.rows)
        assert reader.read("layer.2", 0, reader.rows).shape == (reader.rows, 6)
        assert {problem.lane for problem in store.verify()} == {name}


def test_what_a_crash_left_of_a_recording_is_collected_and_the_others_stay(tmp_path: Path) -> None:
    """Under a lock nobody else is at work: what the catalog does not know is litter at any age."""
    with Store.open(tmp_path) as store:
        recording = make(store)
        left = recording.directory.with_name("0" * 24)
        shutil.copytree(recording.directory, left)
        assert store.collect_garbage(3600.0) == 1
        assert not left.exists()
        assert store.collect_garbage(3600.0) == 0
        assert check_sample(store.recording("sample").reader(), {"p": 6}) == {"p": 6}
