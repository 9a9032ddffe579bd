"""Limits are checked before anything is accepted."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import (
    InvalidInput,
    StorageFull,
)
from isogloss.store import LaneLimits, Store
from isogloss.store.testing import (
    sample_batch,
    sample_spec,
)

SPEC = sample_spec()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a", "b"], shard_bytes=3 << 10)
        for first in (1, 5):
            with recording.open_lane() as lane:
                for sequence in range(first, first + 4):
                    lane.append([sample_batch(SPEC, "p", sequence)])
            if first == 1:
                recording.derive()
        recording.open_lane().append([sample_batch(SPEC, "p", 9)])
        yield store


def test_limits_are_checked_before_anything_is_accepted(store: Store) -> None:
    recording = store.recording("sample")
    recording.close()
    rows = recording.revision().rows
    batch = sample_batch(SPEC, "p", 10)
    row_bytes = SPEC.row_bytes + 24
    for limits, match in (
        (LaneLimits(max_rows=rows + batch.rows - 1), "rows would pass the limit"),
        (LaneLimits(max_bytes=(rows + batch.rows) * row_bytes - 1), "bytes would pass the limit"),
        (LaneLimits(free_bytes=1 << 60), "must stay free"),
    ):
        with recording.open_lane(limits) as lane:
            with pytest.raises(StorageFull, match=match):
                lane.append([batch])
            assert lane.rows == 0
            assert lane.append([sample_batch(SPEC, "p", 9)]).cursors == {"p": 9}
    with recording.open_lane(LaneLimits(max_rows=rows + batch.rows)) as lane:
        lane.append([batch])
    with pytest.raises(InvalidInput, match="max_rows -1"):
        LaneLimits(max_rows=-1)
