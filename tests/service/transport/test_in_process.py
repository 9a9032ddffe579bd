"""The way within one process: batches reach the lane as they are."""

import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import isogloss
from isogloss.errors import StorageError, StorageFull
from isogloss.service.control.recordings import Recordings
from isogloss.service.ingest.sessions import Session
from isogloss.store import LaneWriter, RecordingSpec, RowBatch
from isogloss.store.testing import sample_batch, sample_spec


def test_a_batch_reaches_the_lane_without_being_encoded_split_joined_or_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = sample_spec()
    batches = [sample_batch(spec, "p", sequence) for sequence in (1, 2, 3)]
    committed: list[RowBatch] = []
    checked: list[int] = []
    append, check = LaneWriter.append, RowBatch.check

    def watch(lane: LaneWriter, group: Sequence[RowBatch]) -> object:
        committed.extend(group)
        return append(lane, group)

    def count(batch: RowBatch, wanted: RecordingSpec) -> None:
        checked.append(batch.sequence)
        check(batch, wanted)

    def refuse(*_: object) -> object:
        raise AssertionError("the batch was turned into bytes, or taken from bytes")

    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        client.create_recording(spec, ["a"] * 1000)
        monkeypatch.setattr(LaneWriter, "append", watch)
        monkeypatch.setattr(RowBatch, "check", count)
        monkeypatch.setattr(RowBatch, "encode", refuse)
        monkeypatch.setattr(RowBatch, "decode", refuse)
        monkeypatch.setattr(Session, "offer", refuse)
        with client.appender(spec.recording, "p") as appender:
            for batch in batches:
                appender.write(batch)
        assert [id(batch) for batch in committed] == [id(batch) for batch in batches]
        assert sorted(checked) == [1, 1, 2, 2, 3, 3], "checked by the sender and by the lane"
        for site in spec.sites:
            wanted = np.concatenate([batch.sites[site.name] for batch in batches])
            np.testing.assert_array_equal(client.read(spec.recording, site.name), wanted)


def test_what_the_system_refuses_is_an_error_of_ours_here_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> object:
        raise OSError(errno.ENOSPC, "No space left on device", "/some/where")

    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        client.create_recording(sample_spec(), ["a"] * 1000)
        with client.appender("sample", "p") as appender:
            appender.write(sample_batch(sample_spec(), "p", 1))
        for log in tmp_path.glob("store/recordings/*/vocabulary/token_ends/c.0"):
            log.unlink()
            log.mkdir()
        with pytest.raises(StorageError):
            client.vocabulary("sample")
        monkeypatch.setattr(Recordings, "info", full)
        with pytest.raises(StorageFull, match="no room") as caught:
            client.recording("sample")
        assert isinstance(caught.value.__cause__, OSError)
