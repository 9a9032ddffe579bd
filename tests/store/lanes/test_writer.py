import dataclasses
import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tensorstore
import zarr

from isogloss.errors import (
    AlreadyExists,
    Conflict,
    CorruptData,
    DocumentMismatch,
    InvalidInput,
    LaneEnded,
    NotFound,
    SequenceGap,
    ShapeError,
    StorageError,
)
from isogloss.store import (
    Document,
    LaneWriter,
    Recording,
    RecordingSpec,
    SiteSpec,
    Store,
    register_bfloat16,
)
from isogloss.store.disk.filesystem import FULL_ERRNOS, FileSystem
from isogloss.store.lanes.seal import read_seal
from isogloss.store.lanes.writer import _SHORT, _distinct
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()
SHARD_BYTES = 64 << 10


def new_recording(store: Store, spec: RecordingSpec = SPEC) -> Recording:
    return store.create_recording(spec, ["a", "b"], shard_bytes=SHARD_BYTES)


def site_path(recording: Recording, lane: LaneWriter, index: int) -> str:
    return str(recording.directory / "lanes" / lane.name / f"site-{index}")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_appended_rows_are_read_back_unchanged_and_in_order(store: Store) -> None:
    recording = new_recording(store)
    with recording.open_lane() as lane:
        commits = [
            lane.append([sample_batch(SPEC, name, sequence) for name in ("p", "q")])
            for sequence in range(1, 60)
        ]
        commit = commits[-1]
        assert commit.cursors == {"p": 59, "q": 59}
        assert commit.rows == lane.rows == recording.revision().rows
        assert check_sample(recording.reader(), commit.cursors) == commit.cursors
    assert check_sample(recording.reader(), {}) == {"p": 59, "q": 59}


@pytest.mark.parametrize("rows", [1, 31, 100, 333, 1024, 1500])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_zarr_and_tensorstore_read_a_live_lane_at_any_fill(
    store: Store, rows: int, dtype: str
) -> None:
    site = SiteSpec.from_dict({"name": "s", "width": 24, "dtype": dtype})
    spec = sample_spec(sites=(site,), has_spans=False)
    recording = new_recording(store, spec)
    register_bfloat16()
    with recording.open_lane() as lane:
        batch = sample_batch(spec, "p", 1, rows)
        lane.append([batch])
        lane.publish()
        path = site_path(recording, lane, 0)
        assert_equal_everywhere(path, batch.sites["s"])
    assert_equal_everywhere(path, batch.sites["s"])


def assert_equal_everywhere(path: str, wanted: np.ndarray) -> None:
    by_zarr = zarr.open_array(path, mode="r")
    assert by_zarr.shape == wanted.shape
    assert np.asarray(by_zarr[:]).tobytes() == wanted.tobytes()
    assert np.asarray(by_zarr[-1:]).tobytes() == wanted[-1:].tobytes()
    spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": path}}
    by_tensorstore = tensorstore.open(spec).result().read().result()
    assert by_tensorstore.tobytes() == wanted.tobytes()


def test_zarr_never_sees_rows_that_are_not_committed(store: Store) -> None:
    recording = new_recording(store)
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
        path = site_path(recording, lane, 1)
        assert zarr.open_array(path, mode="r").shape[0] <= lane.rows
        lane.publish()
        assert zarr.open_array(path, mode="r").shape[0] == lane.rows


def test_a_repeated_batch_is_acknowledged_and_not_written(store: Store) -> None:
    recording = new_recording(store)
    with recording.open_lane() as lane:
        first = lane.append([sample_batch(SPEC, "p", 1), sample_batch(SPEC, "p", 2)])
        again = lane.append([sample_batch(SPEC, "p", 1)])
        assert again.rows == first.rows
        assert again.cursors == {"p": 2}
        mixed = [sample_batch(SPEC, "p", 2), sample_batch(SPEC, "p", 3), sample_batch(SPEC, "p", 3)]
        assert lane.append(mixed).cursors == {"p": 3}
        assert check_sample(recording.reader(), {"p": 3}) == {"p": 3}


def test_a_gap_is_refused_and_nothing_of_its_group_is_written(store: Store) -> None:
    recording = new_recording(store)
    with recording.open_lane() as lane:
        with pytest.raises(SequenceGap, match="send 2 first"):
            lane.append([sample_batch(SPEC, "p", 1), sample_batch(SPEC, "p", 3)])
        assert lane.rows == 0
        assert lane.append([sample_batch(SPEC, "p", 1)]).cursors == {"p": 1}


def test_a_bad_batch_spoils_its_group_and_nothing_else(store: Store) -> None:
    recording = new_recording(store)
    good, bad = sample_batch(SPEC, "p", 1), sample_batch(SPEC, "q", 1)
    bad = dataclasses.replace(bad, sites={n: v[:, 1:] for n, v in bad.sites.items()})
    with recording.open_lane() as lane:
        with pytest.raises(ShapeError, match="wanted bfloat16"):
            lane.append([good, bad])
        assert lane.rows == 0
        lane.append([good])
        assert check_sample(recording.reader(), {"p": 1}) == {"p": 1}


def test_rows_of_a_document_that_was_not_described_are_refused(store: Store) -> None:
    with new_recording(store).open_lane() as lane:
        batch = dataclasses.replace(sample_batch(SPEC, "p", 1), documents=())
        with pytest.raises(InvalidInput, match="put it in `documents`"):
            lane.append([batch])


def test_a_document_may_come_again_but_not_with_another_group(store: Store) -> None:
    recording = new_recording(store)
    first = sample_batch(SPEC, "p", 1)
    second = dataclasses.replace(
        sample_batch(SPEC, "p", 2),
        document=np.full(sample_batch(SPEC, "p", 2).rows, first.document[0]),
        documents=first.documents,
    )
    with recording.open_lane() as lane:
        lane.append([first])
        lane.append([second])
        assert list(recording.reader().documents().values()) == list(first.documents)
    text = first.documents[0].text or ""
    changed = dataclasses.replace(
        second, sequence=3, documents=(Document.from_text(text, group="other"),)
    )
    with recording.open_lane() as lane, pytest.raises(DocumentMismatch, match="other"):
        lane.append([changed])


def test_a_closed_lane_is_sealed_with_its_rows(store: Store) -> None:
    recording = new_recording(store)
    with recording.open_lane() as lane:
        rows = lane.append([sample_batch(SPEC, "p", 1)]).rows
    seal = read_seal(recording._files, recording.directory / "lanes" / lane.name)
    assert seal is not None
    assert (seal.rows, seal.reason, seal.damage, seal.cursors) == (rows, "closed", "", {"p": 1})


def test_an_equal_recording_is_resumed_and_a_different_one_refused(store: Store) -> None:
    recording = new_recording(store)
    assert new_recording(store) is recording
    assert recording.vocabulary() == ("a", "b")
    with pytest.raises(AlreadyExists, match="vocabulary"):
        store.create_recording(SPEC, ["a", "c"])
    with pytest.raises(AlreadyExists, match="corpus"):
        store.create_recording(dataclasses.replace(SPEC, corpus="other"), ["a", "b"])


def test_a_deleted_recording_is_gone_and_its_id_free(store: Store) -> None:
    recording = new_recording(store)
    lane = recording.open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    with pytest.raises(Conflict, match="open lane"):
        store.delete_recording("sample", recording.etag)
    lane.close()
    reader = recording.reader()
    reader.read("layer.2", 0, 1)
    with pytest.raises(Conflict, match="etag"):
        store.delete_recording("sample", "0" * 16)
    store.delete_recording("sample", recording.etag)
    assert store.recordings() == []
    assert not recording.directory.exists()
    assert len(reader.read("layer.2", 0, 1)) == 1
    with pytest.raises(NotFound, match="is gone"):
        recording.reader(reader.revision).tokens()
    assert new_recording(store).revision().rows == 0


@pytest.mark.parametrize("lost", ["shard", "log", "lane"])
def test_a_lane_whose_files_are_deleted_ends_and_acknowledges_nothing_more(
    store: Store, lost: str
) -> None:
    lane = new_recording(store).open_lane()
    lane.append([sample_batch(SPEC, "p", 1)])
    directory = next(store.root.glob(f"recordings/*/lanes/{lane.name}"))
    if lost == "lane":
        shutil.rmtree(directory)
    else:
        pattern = "commit.log" if lost == "log" else "site-0/c/*/*"
        for path in directory.glob(pattern):
            path.unlink()
    with pytest.raises(LaneEnded, match=r"deleted while it was written|No such file"):
        lane.append([sample_batch(SPEC, "p", 2)])
    with pytest.raises(LaneEnded):
        lane.append([sample_batch(SPEC, "p", 2)])
    lane.close()


def test_rows_whose_shard_was_deleted_keep_their_numbers_and_later_ones_are_read(
    store: Store,
) -> None:
    recording = new_recording(store)
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", 1)])
        for path in store.root.glob(f"recordings/*/lanes/{lane.name}/site-0/c/*/*"):
            path.unlink()
        with pytest.raises(LaneEnded):
            lane.append([sample_batch(SPEC, "p", 2)])
    assert recording.cursor("p") == 1, "what was acknowledged is not asked for again"
    lost = recording.revision().rows
    assert lost == sample_batch(SPEC, "p", 1).rows
    with recording.open_lane() as lane:
        lane.append([sample_batch(SPEC, "p", 2)])
    site, reader = SPEC.sites[0].name, recording.reader()
    wanted = sample_batch(SPEC, "p", 2).sites[site]
    assert reader.read(site, lost, reader.rows).tobytes() == wanted.tobytes()
    with pytest.raises(CorruptData):
        reader.read(site, 0, lost)
    assert any("lost" in problem.message for problem in recording.verify())


def test_a_log_that_cannot_be_extended_beforehand_is_written_all_the_same(tmp_path: Path) -> None:
    class Full(FileSystem):
        error = errno.ENOSPC

        def allocate(self, descriptor: int, length: int) -> None:
            raise OSError(self.error, os.strerror(self.error))

    files = Full()
    with Store.open(tmp_path, files=files) as store:
        recording = new_recording(store)
        with recording.open_lane() as lane:
            for error in sorted(FULL_ERRNOS):
                files.error = error
                lane.append([sample_batch(SPEC, "p", lane.cursors.get("p", 0) + 1)])
        lane = recording.open_lane()
        files.error = errno.EIO
        with pytest.raises(StorageError):
            lane.append([sample_batch(SPEC, "p", lane.cursors["p"] + 1)])
        whole = {"p": len(FULL_ERRNOS)}
        assert check_sample(recording.reader(), whole) == whole


@pytest.mark.parametrize("rows", [0, 1, 2, _SHORT, _SHORT + 1, 5000])
def test_the_documents_of_a_batch_are_found_whatever_its_length(rows: int) -> None:
    column = np.sort(np.random.default_rng(rows).integers(0, 1 << 64, rows // 9 + 1, np.uint64))
    documents = np.resize(column, rows)
    assert _distinct(documents) == set(documents.tolist())
