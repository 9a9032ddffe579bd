from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.dictionaries import Source
from isogloss.dictionaries.rows.joined import join_rows
from isogloss.errors import InvalidInput
from isogloss.store import (
    Document,
    ModelInfo,
    RecordingReader,
    RecordingSpec,
    RowBatch,
    SiteSpec,
    Store,
)

LENGTH = 5


def _record(
    store: Store,
    documents: list[int],
    *,
    model: str,
    tokens: int = 0,
    steps: Sequence[int] = (0,),
) -> RecordingReader:
    """Record documents of 5 rows each at some training steps, one after the other.

    A row holds its document's number, and its position beside a thousand times the step.
    """
    spec = RecordingSpec(
        recording=model,
        model=ModelInfo(name=model),
        tokenizer="numbers",
        corpus="numbers",
        sites=(SiteSpec(name="s", width=2, dtype="float32"),),
        has_spans=False,
        provenance={},
    )
    recording = store.create_recording(spec, ["zero"])
    known = {n: Document.from_token_ids(np.array([n], dtype=np.uint32)) for n in documents}
    number = np.repeat(documents, LENGTH)
    position = np.tile(np.arange(LENGTH), len(documents))
    batches = [
        RowBatch(
            producer="test",
            sequence=sequence,
            sites={"s": np.stack([number, position + 1000 * step], axis=1).astype(np.float32)},
            token_id=(number * LENGTH + position + tokens).astype(np.uint32),
            document=np.array([known[n].id for n in number], dtype=np.uint64),
            position=position.astype(np.uint32),
            span=None,
            documents=tuple(known.values()),
            step=step,
        )
        for sequence, step in enumerate(steps, 1)
    ]
    lane = recording.open_lane()
    lane.append(batches)
    lane.close()
    return recording.reader()


def _sources(*readers: RecordingReader) -> list[Source]:
    return [Source(reader=reader, site="s") for reader in readers]


def test_rows_of_one_recording_are_all_there(tmp_path: Path):
    with Store.open(tmp_path / "store") as store:
        reader = _record(store, [1, 2], model="a")
        joined = join_rows(_sources(reader, reader))
        assert joined.present.all()
        assert joined.numbers == (None, None)
        assert joined.widths == (2, 2)


def test_rows_of_two_recordings_are_joined_by_document_and_position(tmp_path: Path):
    with Store.open(tmp_path / "store") as store:
        first = _record(store, [1, 2, 3], model="a")
        second = _record(store, [3, 9, 1], model="b")
        joined = join_rows(_sources(first, second))
        rows = np.flatnonzero(joined.present).astype(np.int64)
        assert rows.tolist() == [0, 1, 2, 3, 4, 10, 11, 12, 13, 14]
        found: list[NDArray[np.generic]] = [joined.take(place, rows) for place in (0, 1)]
        np.testing.assert_array_equal(found[0], found[1])


def test_rows_that_cannot_be_joined_are_refused(tmp_path: Path):
    with Store.open(tmp_path / "store") as store:
        first = _record(store, [1, 2], model="a")
        with pytest.raises(InvalidInput, match="share no document"):
            join_rows(_sources(first, _record(store, [3], model="b")))
        other = _record(store, [2], model="c", tokens=7)
        with pytest.raises(InvalidInput, match=r"token 10 at position 0.*'a' and 17 in 'c'"):
            join_rows(_sources(first, other))
        twice = _record(store, [2, 2], model="d")
        with pytest.raises(InvalidInput, match=r"'d' has rows of one document and position sev"):
            join_rows(_sources(first, twice))
        with pytest.raises(InvalidInput, match="0 sources"):
            join_rows([])


def test_each_recording_is_joined_at_the_named_step_that_it_has(tmp_path: Path):
    with Store.open(tmp_path / "store") as store:
        first = _record(store, [1, 2, 3], model="a", steps=(0, 500))
        second = _record(store, [3, 1], model="b", steps=(0, 7))
        for steps, rows in (((500, 7), range(15, 30)), ((0,), range(15))):
            joined = join_rows(_sources(first, second), steps)
            found = np.flatnonzero(joined.present).astype(np.int64)
            assert found.tolist() == [row for row in rows if not 5 <= row % 15 < 10]
            assert joined.steps == (steps[:1], steps[-1:])
            mine, theirs = (np.asarray(joined.take(i, found), np.float32) for i in range(2))
            np.testing.assert_array_equal(mine % 1000, theirs % 1000)
            assert {*(mine[:, 1] // 1000).tolist()} == {steps[0]}
            assert {*(theirs[:, 1] // 1000).tolist()} == {steps[-1]}
        for steps, said in (
            ((), "2 training steps"),
            ((500, 8), "no rows of training step 8, 500"),
        ):
            with pytest.raises(InvalidInput, match=said):
                join_rows(_sources(first, second), steps)
        with pytest.raises(InvalidInput, match=r"'a' has rows of one document.*name one step"):
            join_rows(_sources(first, second), (0, 500))
