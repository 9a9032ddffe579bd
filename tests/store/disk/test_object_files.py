"""Stores on object stores: against a real server in its own process, and in memory."""

import contextlib
import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import obstore
import pytest
import zarr
from obstore.store import MemoryStore, from_url
from tests.object_server import object_server
from zarr.core.buffer import Buffer as AnyBuffer
from zarr.core.buffer.cpu import Buffer
from zarr.storage import MemoryStore as ZarrMemory

from isogloss.errors import (
    CorruptData,
    Fenced,
    InvalidInput,
    LaneEnded,
    NotFound,
    StorageError,
    StoreOwned,
)
from isogloss.store import Recording, RecordingSpec, RowBatch, Store, store_owner
from isogloss.store.disk.filesystem import UncertainRecord
from isogloss.store.disk.object_files import ObjectFiles, open_url
from isogloss.store.fenced.records import COMMITS
from isogloss.store.testing import check_sample, sample_batch, sample_spec
from isogloss.store.testing.fenced_processes import (
    append_groups,
    duel,
    kill_between_rows_and_record,
    wake_a_joiner,
    wake_a_sleeper,
)
from isogloss.store.testing.lane_contract import LaneWriterContract
from isogloss.store.testing.reader_contract import ReaderContract

SPEC = sample_spec()
SHARD_BYTES = 16 << 10
T = TypeVar("T")


class InMemory:
    """Recordings of stores on an object store in memory."""

    @contextmanager
    def make(self, directory: Path, spec: RecordingSpec) -> Generator[Recording]:
        kept = self.__dict__.setdefault("kept", {})
        files = ObjectFiles(kept.setdefault(directory, MemoryStore()))
        with Store.open("/", files=files) as store:
            yield store.create_recording(spec, ["a"], shard_bytes=SHARD_BYTES)


class TestLaneWriterOnObjects(InMemory, LaneWriterContract):
    pass


class TestReaderOfObjects(InMemory, ReaderContract):
    pass


@pytest.fixture(scope="module")
def bucket() -> Generator[str]:
    """The address of an empty bucket of a real server."""
    with object_server() as address:
        yield address


def batches(first: int, count: int) -> list[RowBatch]:
    return [sample_batch(SPEC, "p", number) for number in range(first, first + count)]


def test_a_store_lives_on_s3_from_creation_to_deletion(bucket: str) -> None:
    address = f"{bucket}/life/of/a/store"
    with Store.open(address) as store:
        assert (store.fencing, store.address) == ("create", address)
        recording = store.create_recording(SPEC, ["a", "b"], shard_bytes=SHARD_BYTES)
        append_groups(recording, 1, 3)
        assert check_sample(recording.reader(), {"p": 6}) == {"p": 6}
        pinned = recording.reader()
        recording.derive()
        with recording.open_lane() as lane:
            lane.append(batches(7, 3))
            reader = recording.reader()
            assert check_sample(reader, {"p": 9}) == {"p": 9}
            rows = np.random.default_rng(0).permutation(reader.rows)
            whole = reader.read("layer.2", 0, reader.rows)
            assert reader.take("layer.2", rows).tobytes() == whole[rows].tobytes()
            for batch in reader.shuffled(["layer.2"], seed=1, epoch=0, batch_rows=8):
                assert batch.sites["layer.2"].tobytes() == whole[batch.rows].tobytes()
        assert check_sample(pinned, {"p": 6}) == {"p": 6}
        assert recording.statistics("layer.2").count == reader.rows
        assert recording.compact().into == 1
        assert len(recording.lanes()) == 1
        for compacted, batch in ((pinned, 6), (reader, 9), (recording.reader(), 9)):
            assert check_sample(compacted, {}) == {"p": batch}
        assert recording.compress() == len(SPEC.sites)
        assert reader.read("layer.2", 0, reader.rows).tobytes() == whole.tobytes()
        assert recording.vocabulary() == ("a", "b")
        assert recording.verify() == []
        with pytest.raises(InvalidInput, match="recordings only"):
            store.artifact("probe", recording.uid)
        with Store.attach(address) as other:
            assert check_sample(other.recording("sample").reader(), {"p": 9}) == {"p": 9}
        owner = store_owner(address)
        assert owner is not None
        assert owner.pid == os.getpid()
        with pytest.raises(StoreOwned, match=str(os.getpid())):
            Store.open(address, lease_s=1.0)
    assert store_owner(address) is None
    with Store.open(address) as store:
        store.delete_recording("sample", store.recording("sample").etag)
        assert store.recordings() == []
        with pytest.raises(NotFound):
            store.recording("sample")
        left = [m["path"] for part in obstore.list(from_url(address)) for m in part]
        assert [key for key in left if key.startswith("recordings/")] == []


def test_sealed_lanes_on_s3_are_zarr(bucket: str) -> None:
    with Store.open(f"{bucket}/zarr") as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=SHARD_BYTES)
        append_groups(recording, 1, 4)
        recording.derive()
        lane = recording.lanes()[0]
        assert lane.seal is not None
        prefix = f"zarr/recordings/{recording.uid}/lanes/{lane.name}/site-1/"
        objects = from_url(bucket)
        found = {
            meta["path"].removeprefix(prefix): obstore.get(objects, meta["path"]).bytes()
            for part in obstore.list(objects, prefix)
            for meta in part
        }
        kept: dict[str, AnyBuffer] = {
            key: Buffer.from_bytes(bytes(value)) for key, value in found.items()
        }
        array = zarr.open_array(ZarrMemory(kept), mode="r")
        wanted = recording.reader().read("layer.2", 0, lane.rows)
        assert np.asarray(array[:]).tobytes() == wanted.tobytes()


def test_a_writer_killed_between_put_and_commit_leaves_nothing_visible(bucket: str) -> None:
    kill_between_rows_and_record(f"{bucket}/killed")


def test_a_sleeper_that_wakes_after_the_takeover_acknowledges_nothing(bucket: str) -> None:
    wake_a_sleeper(f"{bucket}/sleeper")


def test_an_owner_that_wakes_while_it_joins_lanes_changes_nothing(bucket: str) -> None:
    wake_a_joiner(f"{bucket}/joiner")


def test_two_writers_that_fence_each_other_lose_and_repeat_nothing(bucket: str) -> None:
    duel(f"{bucket}/duel", 2)


def test_of_writers_that_race_for_a_sequence_one_acknowledges(bucket: str) -> None:
    writers = [open_url(f"{bucket}/race") for _ in range(4)]
    wins: list[tuple[int, int]] = []

    def write(number: int, sequence: int, barrier: threading.Barrier) -> None:
        barrier.wait()
        path = Path(f"/{COMMITS}/{sequence:016d}")
        with contextlib.suppress(FileExistsError):
            writers[number].create_record(path, f"{number}".encode())
            wins.append((sequence, number))

    for sequence in range(20):
        barrier = threading.Barrier(4)
        threads = [
            threading.Thread(target=write, args=(number, sequence, barrier)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [sequence for sequence, _ in wins] == list(range(20))
    assert len({number for _, number in wins}) > 1, "nobody was ever beaten: no race"
    for sequence, number in wins:
        path = Path(f"/{COMMITS}/{sequence:016d}")
        assert writers[0].read_whole(path) == f"{number}".encode()


class LosesAnswers(ObjectFiles):
    """An object store that does what it is asked, and whose answers get lost."""

    lost = ""

    def _call(self, what: Path | str, request: Callable[[], T]) -> T:
        done = super()._call(what, request)
        if self.lost and self.lost in str(what):
            self.lost = ""
            raise OSError(errno.EIO, "connection reset by peer")
        return done


def test_a_record_whose_answer_was_lost_is_known_by_its_content() -> None:
    files = LosesAnswers(MemoryStore())
    files.lost = "r"
    files.create_record(Path("/r"), b"mine")
    assert files.read_whole(Path("/r")) == b"mine"
    files.create_record(Path("/r"), b"mine")
    with pytest.raises(FileExistsError):
        files.create_record(Path("/r"), b"other")
    files.lost = "r"  # the answer to the question who won
    with pytest.raises(UncertainRecord):
        files.create_record(Path("/r"), b"other")
    assert files.read_whole(Path("/r")) == b"mine"


def test_a_commit_whose_answer_was_lost_is_acknowledged_once() -> None:
    files = LosesAnswers(MemoryStore())
    with Store.open("/", files=files) as store:
        recording = store.create_recording(SPEC, ["a"])
        lane = recording.open_lane()
        lane.append(batches(1, 1))
        files.lost = COMMITS
        assert lane.append(batches(2, 1)).cursors == {"p": 2}
        assert lane.append(batches(2, 2)).cursors == {"p": 3}
        assert check_sample(recording.reader(), {"p": 3}) == {"p": 3}


class GoesDown(ObjectFiles):
    """An object store that cannot be reached after the next record, which it may have taken."""

    armed = False
    takes_it = False
    is_down = False

    def _call(self, what: Path | str, request: Callable[[], T]) -> T:
        if self.armed and COMMITS in str(what):
            self.is_down = True
            if self.takes_it:
                super()._call(what, request)
        if self.is_down:
            raise OSError(errno.EIO, "no route to host")
        return super()._call(what, request)


@pytest.mark.parametrize("takes_it", [True, False])
def test_a_commit_that_may_still_arrive_ends_the_lane_and_counts_at_most_once(
    takes_it: bool,
) -> None:
    files = GoesDown(MemoryStore())
    with Store.open("/", files=files) as store:
        recording = store.create_recording(SPEC, ["a"])
        lane = recording.open_lane()
        lane.append(batches(1, 1))
        files.armed, files.takes_it = True, takes_it
        with pytest.raises(LaneEnded, match="open a new lane"):
            lane.append(batches(2, 1))
        with pytest.raises(StorageError, match="no route"):
            recording.reader()
        files.armed = files.is_down = False
        assert recording.cursor("p") == (2 if takes_it else 1)
        with recording.open_lane() as following:
            following.append(batches(2, 2))
        assert check_sample(recording.reader(), {"p": 3}) == {"p": 3}


def test_an_uncertain_record_says_so() -> None:
    files = GoesDown(MemoryStore())
    files.armed = True
    with pytest.raises(UncertainRecord, match="not known"):
        files.create_record(Path(f"/{COMMITS}/1"), b"x")


def test_damaged_and_missing_objects_are_named() -> None:
    objects = MemoryStore()
    files = ObjectFiles(objects)
    with Store.open("/", files=files) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=SHARD_BYTES)
        append_groups(recording, 1, 3)
        recording.derive()
        shard = next(
            m["path"] for p in obstore.list(objects) for m in p if "site-0/c/" in m["path"]
        )
        whole = bytes(obstore.get(objects, shard).bytes())
        obstore.put(objects, shard, whole[:4200] + b"????" + whole[4204:])
        assert any("checksum" in problem.message for problem in recording.verify())
        obstore.put(objects, shard, whole[:4200])
        assert recording.verify() != []
        with pytest.raises(CorruptData, match="too early"):
            recording.reader().read("layer.1/out", 0, recording.reader().rows)
        reader = recording.reader()
        assert reader.read("layer.2", 0, 1).shape == (1, 6)
        obstore.delete(objects, shard)
        with pytest.raises(CorruptData, match="missing"):
            recording.reader().read("layer.1/out", 0, 1)


def test_a_reader_of_deleted_rows_is_told_so() -> None:
    with Store.open("/", files=ObjectFiles(MemoryStore())) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=SHARD_BYTES)
        append_groups(recording, 1, 2)
        reader = recording.reader()
        reader.read("layer.2", 0, 1)
        store.delete_recording("sample")
        with pytest.raises((CorruptData, NotFound), match="deleted"):
            reader.read("layer.2", 0, reader.rows)


def test_objects_are_written_once_and_in_order() -> None:
    files = ObjectFiles(MemoryStore())
    descriptor = files.create(Path("/x"))
    files.write(descriptor, [b"abc", np.arange(3, dtype=np.uint8)], 0)
    with pytest.raises(OSError, match="in order"):
        files.write(descriptor, [b"late"], 2)
    assert not files.exists(Path("/x"))
    files.sync_data(descriptor)
    files.close(descriptor)
    assert files.read_whole(Path("/x")) == b"abc\x00\x01\x02"
    again = files.create(Path("/x"))
    files.write(again, [b"other"], 0)
    with pytest.raises(FileExistsError):
        files.sync_data(again)
    opened = files.open(Path("/x"))
    with pytest.raises(OSError, match="written once"):
        files.write(opened, [b"more"], 6)
    with pytest.raises(OSError, match="cut"):
        files.truncate(opened, 1)
    with pytest.raises(OSError, match="locked"):
        files.lock(opened)
    files.close(opened)
    with pytest.raises(OSError, match="not open"):
        files.size(opened)
    with pytest.raises(FileNotFoundError):
        files.open(Path("/y"))


def test_a_group_that_is_moved_counts_at_its_new_place_last_and_leaves_the_old_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files = ObjectFiles(MemoryStore())
    for name in ("zarr.json", "a/zarr.json", "z/c/0"):
        files.write_whole(Path("/old") / name, iter([b"x"]))
    seen: list[str] = []
    copy, delete = obstore.copy, obstore.delete

    def copied(store: MemoryStore, source: str, target: str) -> None:
        seen.append(target)
        copy(store, source, target)

    def deleted(store: MemoryStore, keys: list[str]) -> None:
        seen.append(" ".join(sorted(keys)))
        delete(store, keys)

    monkeypatch.setattr(obstore, "copy", copied)
    monkeypatch.setattr(obstore, "delete", deleted)
    files.replace(Path("/old"), Path("/new"))
    assert seen == [
        *("new/a/zarr.json", "new/z/c/0", "new/zarr.json"),
        *("old/zarr.json", "old/a/zarr.json old/z/c/0"),
    ]


def test_large_content_goes_up_in_parts(bucket: str) -> None:
    files = open_url(f"{bucket}/large")
    piece = np.random.default_rng(0).integers(0, 256, 5 << 20, np.uint8)
    files.write_whole(Path("/a/big"), (piece for _ in range(4)))
    descriptor = files.open(Path("/a/big"))
    assert files.size(descriptor) == 20 << 20
    part = np.empty(1 << 20, np.uint8)
    files.read_into(descriptor, part, (15 << 20) + 7)
    assert part.tobytes() == piece[7 : 7 + (1 << 20)].tobytes()
    files.replace(Path("/a"), Path("/b"))
    assert (files.names(Path("/")), files.names(Path("/b"))) == (["b"], ["big"])
    files.remove_tree(Path("/b"))
    assert not files.is_directory(Path("/b"))


def test_addresses_of_other_schemes_are_refused(tmp_path: Path) -> None:
    for address in ("http://host/x", "ftp://x/y"):
        with pytest.raises(InvalidInput, match="scheme"):
            Store.open(address)
    with pytest.raises(InvalidInput, match="no locks"):
        Store.open("/", files=ObjectFiles(MemoryStore()), fencing="lock")
    with pytest.raises(NotFound, match="create one"):
        Store.attach("/", files=ObjectFiles(MemoryStore())).close()


def test_the_extra_is_named_where_it_is_missing(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['obstore'] = None\n"
        "import isogloss.store\n"
        "from isogloss.store import Store\n"
        "Store.open(sys.argv[1]).close()\n"
        "try:\n"
        "    Store.open('s3://bucket/x')\n"
        "except isogloss.errors.MissingExtra as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "pip install isogloss[cloud]" in done.stdout


def test_a_store_in_a_directory_needs_no_obstore(tmp_path: Path) -> None:
    code = (
        "import sys; from isogloss.store import Store\n"
        "Store.open(sys.argv[1], fencing='create').close()\n"
        "print([name for name in sys.modules if name.startswith('obstore')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_an_owner_of_objects_is_fenced_like_any_other() -> None:
    objects = MemoryStore()
    with Store.open("/", files=ObjectFiles(objects)) as first:
        lane = first.create_recording(SPEC, ["a"]).open_lane()
        lane.append(batches(1, 1))
        with Store.open("/", files=ObjectFiles(objects), force=True) as second:
            with pytest.raises(Fenced):
                lane.append(batches(2, 1))
            assert second.recording("sample").cursor("p") == 1
