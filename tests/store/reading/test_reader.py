import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import InvalidInput, NoSharedDocuments, NotFound, ShapeError
from isogloss.store import (
    Recording,
    RecordingReader,
    Store,
    shared_documents,
)
from isogloss.store.testing import sample_batch, sample_spec

SITES = ("layer.1/out", "layer.2")
SPEC = sample_spec()


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recording]:
    """Three lanes of small shards: sealed, sealed and derived, live."""
    with Store.open(tmp_path_factory.mktemp("readers")) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=12 << 10)
        for first in (1, 21, 41):
            lane = recording.open_lane()
            lane.append([sample_batch(SPEC, "p", first + i) for i in range(20)])
            if first == 1:
                lane.close()
                recording.derive()
            elif first == 21:
                lane.close()
        yield recording


@pytest.fixture(scope="module")
def reader(recording: Recording) -> RecordingReader:
    return recording.reader()


def wanted(site: str) -> np.ndarray:
    return np.concatenate([sample_batch(SPEC, "p", i).sites[site] for i in range(1, 61)])


@pytest.mark.parametrize("site", SITES)
def test_ranges_and_single_rows_agree_with_what_was_written(
    reader: RecordingReader, site: str
) -> None:
    rows = wanted(site)
    assert reader.rows == len(rows)
    for start, stop in [(0, 0), (0, len(rows)), (5, 6), (100, 900), (len(rows), len(rows))]:
        assert reader.read(site, start, stop).tobytes() == rows[start:stop].tobytes()
    chosen = np.random.default_rng(0).integers(0, len(rows), 500)
    assert reader.take(site, chosen).tobytes() == rows[chosen].tobytes()
    assert reader.take(site, np.empty(0, np.int64)).shape == (0, rows.shape[1])


def test_rows_outside_the_revision_are_refused(reader: RecordingReader) -> None:
    for start, stop in [(-1, 2), (0, reader.rows + 1), (5, 4)]:
        with pytest.raises(ShapeError, match="must lie in"):
            reader.read(SITES[0], start, stop)
        with pytest.raises(ShapeError, match="must lie in"):
            reader.tokens(start, stop)
    for row in (-1, reader.rows):
        with pytest.raises(ShapeError, match="must lie in"):
            reader.take(SITES[0], np.array([row]))
    with pytest.raises(NotFound, match="layer"):
        reader.read("nope", 0, 1)


def test_token_columns_are_the_same_from_log_and_from_files(
    recording: Recording, reader: RecordingReader
) -> None:
    batches = [sample_batch(SPEC, "p", i) for i in range(1, 61)]
    columns = reader.tokens()
    for name in ("token_id", "document", "position", "span"):
        want = np.concatenate([getattr(batch.columns, name) for batch in batches])
        np.testing.assert_array_equal(getattr(columns, name), want)
    part = reader.tokens(300, 700)
    np.testing.assert_array_equal(part.token_id, columns.token_id[300:700])
    assert recording.reader().documents() == {b.documents[0].id: b.documents[0] for b in batches}


def test_the_rows_of_a_document_are_found(reader: RecordingReader) -> None:
    batch = sample_batch(SPEC, "p", 30)
    before = sum(sample_batch(SPEC, "p", i).rows for i in range(1, 30))
    rows = reader.document_rows(batch.documents[0].id)
    assert rows.tolist() == list(range(before, before + batch.rows))
    assert reader.document_rows(1).size == 0


def test_shared_documents_are_those_that_all_have_rows_of(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        readers: dict[str, RecordingReader] = {}
        for name, numbers in (("one", (1, 2, 3)), ("two", (2, 3, 4)), ("three", (8,))):
            spec = sample_spec(name)
            recording = store.create_recording(spec, [])
            with recording.open_lane() as lane:
                for sequence, number in enumerate(numbers, 1):
                    batch = sample_batch(spec, "p", number)
                    lane.append([dataclasses.replace(batch, sequence=sequence)])
            readers[name] = recording.reader()
        two = {name: readers[name] for name in ("one", "two")}
        ids = sorted(sample_batch(SPEC, "p", n).documents[0].id for n in (2, 3))
        assert shared_documents(two) == tuple(ids)
        with pytest.raises(NoSharedDocuments, match="one corpus"):
            shared_documents(readers)
        with pytest.raises(InvalidInput, match="no recordings"):
            shared_documents({})


def test_a_token_column_is_read_whole_and_kept(reader: RecordingReader) -> None:
    for name in ("token_id", "document", "position", "span"):
        np.testing.assert_array_equal(reader.column(name), getattr(reader.tokens(), name))
        assert reader.column(name) is reader.column(name)
        assert not reader.column(name).flags.writeable
    with pytest.raises(NotFound, match=r"no token column 'nope'; it has \['token_id'"):
        reader.column("nope")


def test_rows_that_repeat_an_earlier_one_of_their_step_are_marked(tmp_path: Path) -> None:
    one, other = sample_batch(SPEC, "p", 1), sample_batch(SPEC, "p", 2)
    written = [(one, 0), (one, 0), (other, 5), (one, 5), (other, 5), (one, 6), (other, 5)]
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        for part in (written[:4], written[4:]):  # in two lanes
            with recording.open_lane() as lane:
                start = 1 if part[0][1] == 0 else 5
                lane.append(
                    [
                        dataclasses.replace(batch, sequence=start + n, step=step)
                        for n, (batch, step) in enumerate(part)
                    ]
                )
        reader = recording.reader()
    marked = np.repeat([0, 1, 0, 0, 1, 0, 1], [batch.rows for batch, _ in written])
    assert reader.repeated_rows().tolist() == marked.astype(bool).tolist()
    # at step 0 a loop that shows a document again means it
    counts = [(info.step, info.repeated_rows) for info in reader.steps()]
    assert counts == [(0, 0), (5, 2 * other.rows), (6, 0)]


def test_the_steps_that_are_meant_are_those_named_or_the_only_one(tmp_path: Path) -> None:
    batch = sample_batch(SPEC, "p", 1)
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        empty = recording.reader()
        with recording.open_lane() as lane:
            lane.append([batch])
        one = recording.reader()
        with recording.open_lane() as lane:
            many = [dataclasses.replace(batch, sequence=n + 2, step=n + 1) for n in range(20)]
            lane.append(many)
        several = recording.reader()
    assert empty.chosen_steps(None) == ()
    assert one.chosen_steps(None) == (0,)
    assert several.chosen_steps([3, 1, 3]) == (1, 3)
    with pytest.raises(InvalidInput, match=r"21 training steps \(0: \d+ rows, .*\.\.\., 20: "):
        several.chosen_steps(None)
    with pytest.raises(InvalidInput, match="no rows of training step 3; it has 0"):
        one.chosen_steps([3])
    for wrong in ([], [-1]):
        with pytest.raises(InvalidInput, match="step"):
            several.chosen_steps(wrong)
    assert list(several.rows_of_steps().items()) == [(n, batch.rows) for n in range(21)]
