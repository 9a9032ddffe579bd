"""One lane is read from its shards and log, from derived files, and from where it was joined."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData, NotFound
from isogloss.store import Recording, Store
from isogloss.store.lanes.files import LaneFiles, check_proven, read_commits, read_header
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()
NUMBERS = (range(1, 21), range(21, 31))


@pytest.fixture
def recording(tmp_path: Path) -> Iterator[Recording]:
    """Two sealed lanes of small shards."""
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [], shard_bytes=12 << 10)
        for numbers in NUMBERS:
            with recording.open_lane() as lane:
                lane.append([sample_batch(SPEC, "p", number) for number in numbers])
        yield recording


def lane_files(recording: Recording, index: int) -> LaneFiles:
    state = recording.lanes()[index]
    directory = recording.directory / "lanes" / state.name
    return LaneFiles(recording.files, directory, SPEC, state.rows)


def rows_of(lane: LaneFiles, site: int, first: int, count: int) -> bytes:
    out = np.empty((count, SPEC.sites[site].row_bytes), np.uint8)
    lane.read_into(site, first, out)
    return out.tobytes()


def wanted(index: int, site: int) -> bytes:
    name = SPEC.sites[site].name
    return b"".join(sample_batch(SPEC, "p", n).sites[name].tobytes() for n in NUMBERS[index])


@pytest.mark.parametrize("change", ["nothing", "derive", "compress", "quantise", "compact"])
def test_an_open_reader_of_a_lane_follows_it_everywhere(recording: Recording, change: str) -> None:
    lanes = [lane_files(recording, index) for index in (0, 1)]
    documents = [lane.documents() for lane in lanes]
    lanes = [lane_files(recording, index) for index in (0, 1)]
    if change != "nothing":
        getattr(recording, change)()
    for index, lane in enumerate(lanes):
        batches = [sample_batch(SPEC, "p", number) for number in NUMBERS[index]]
        assert lane.documents() == documents[index]
        columns = lane.columns(0, lane.rows)
        assert columns.token_id.tobytes() == b"".join(b.token_id.tobytes() for b in batches)
        for site, spec in enumerate(SPEC.sites):
            if change != "quantise":
                assert rows_of(lane, site, 0, lane.rows) == wanted(index, site)
                part = wanted(index, site)[3 * spec.row_bytes : 9 * spec.row_bytes]
                assert rows_of(lane, site, 3, 6) == part
            assert sum(len(block) for block in lane.blocks(site, 7)) == lane.rows


def test_a_missing_shard_and_a_lane_that_is_gone_are_named(recording: Recording) -> None:
    lane = lane_files(recording, 0)
    (lane.directory / "site-0" / "c" / "0" / "0").unlink()
    with pytest.raises(CorruptData, match=r"shard 0 of site 'layer\.1/out' is missing"):
        rows_of(lane, 0, 0, 1)
    recording.retire(0)
    with pytest.raises(NotFound, match="retired"):
        rows_of(lane_files(recording, 1), 0, 0, 1)
    nowhere = recording.directory / "lanes" / "nowhere"
    with pytest.raises(NotFound, match="deleted"):
        read_header(recording.files, nowhere)
    with pytest.raises(NotFound, match="deleted"):
        list(read_commits(recording.files, nowhere, 1))


def test_commits_are_read_until_the_rows_are_covered(recording: Recording) -> None:
    lane = lane_files(recording, 0)
    assert len(list(read_commits(recording.files, lane.directory, 1))) == 1
    assert list(read_commits(recording.files, lane.directory, 0)) == []
    assert read_header(recording.files, lane.directory).lane == lane.name
    check_proven(lane.directory, 3, 3)
    with pytest.raises(CorruptData, match="proves 2 rows, wanted 3"):
        check_proven(lane.directory, 2, 3)


@pytest.mark.parametrize("is_derived", [False, True])
def test_documents_are_known_at_each_step_or_at_one(tmp_path: Path, is_derived: bool) -> None:
    batches = [
        sample_batch(SPEC, "p", n, rows=5, step=step) for n, step in ((1, 0), (2, 0), (3, 7))
    ]
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, [])
        with recording.open_lane() as lane:
            for batch in batches:
                lane.append([batch])
        if is_derived:
            recording.derive()
        for step, wanted in ((None, batches), (0, batches[:2]), (7, batches[2:]), (1, [])):
            known = lane_files(recording, 0).known_documents(step)
            assert set(known.step.tolist()) == {batch.step for batch in wanted}
            assert int(known.rows.sum()) == sum(batch.rows for batch in wanted)
            documents = {name for batch in wanted for name in batch.document.tolist()}
            assert set(known.document.tolist()) == documents
