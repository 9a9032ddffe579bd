# ruff: noqa: D102  (the name of a test is its sentence)
"""The contract of a lane writer, as tests to subclass."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import DocumentMismatch, InvalidInput, LaneEnded, SequenceGap, ShapeError
from isogloss.store.schema.batch import RowBatch
from isogloss.store.schema.document import Document
from isogloss.store.schema.recording_spec import Dtype, RecordingSpec
from isogloss.store.testing.checks import (
    RecordingContract,
    any_bits,
    contract_spec,
    holds,
    in_threads,
    numbered,
    require,
    same,
)
from isogloss.store.testing.protocols import GrowingRecording, WritableLane
from isogloss.store.testing.samples import sample_batch


@dataclass(frozen=True, kw_only=True, slots=True)
class _Opened:
    """A recording with a lane of it open."""

    spec: RecordingSpec
    recording: GrowingRecording
    lane: WritableLane

    def holds(self, batches: Sequence[RowBatch]) -> None:
        holds(self.recording.reader(), self.spec, batches)


class LaneWriterContract(RecordingContract):
    """Tests of what a :class:`~isogloss.store.LaneWriter` does."""

    @contextmanager
    def _lane(self, directory: Path, spec: RecordingSpec) -> Generator[_Opened]:
        with self.make(directory, spec) as recording:
            yield _Opened(spec=spec, recording=recording, lane=recording.open_lane())

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    def test_rows_are_readable_in_order_once_append_returns(
        self, tmp_path: Path, dtype: Dtype
    ) -> None:
        with self._lane(tmp_path, contract_spec(dtype, has_spans=dtype != "float16")) as opened:
            groups = [
                numbered(opened.spec, "p", 1, 3),
                [any_bits(opened.spec, "p", 4)],
                numbered(opened.spec, "p", 5, 2),
            ]
            sent: list[RowBatch] = []
            for group in groups:
                commit = opened.lane.append(group)
                sent += group
                require(commit.lane == opened.lane.name, f"commit names lane {commit.lane!r}")
                require(dict(commit.cursors) == {"p": sent[-1].sequence}, f"{commit} acknowledges")
                opened.holds(sent)

    def test_rows_of_any_strides_are_stored_row_by_row(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            plain = sample_batch(opened.spec, "p", 1, 9)
            sites = {name: np.asfortranarray(rows) for name, rows in plain.sites.items()}
            opened.lane.append([replace(plain, sites=sites)])
            opened.holds([plain])

    def test_what_was_acknowledged_is_there_when_opened_again(self, tmp_path: Path) -> None:
        spec = contract_spec("bfloat16")
        first, second = numbered(spec, "p", 1, 2), numbered(spec, "p", 3, 2)
        with self._lane(tmp_path, spec) as opened:
            opened.lane.append(first)
        with self._lane(tmp_path, spec) as opened:
            opened.holds(first)
            require(dict(opened.lane.cursors) == {"p": 2}, f"went on at {opened.lane.cursors}")
            opened.lane.append(second)
            opened.holds([*first, *second])

    def test_every_row_keeps_its_training_step(self, tmp_path: Path) -> None:
        spec = contract_spec("float32")
        steps = [0, 7, 7, (1 << 64) - 1, 0]
        sent = [
            replace(batch, step=step)
            for batch, step in zip(numbered(spec, "p", 1, 5), steps, strict=True)
        ]
        with self._lane(tmp_path, spec) as opened:
            opened.lane.append(sent[:1])
            opened.holds(sent[:1])
            opened.lane.append(sent[1:3])
            opened.holds(sent[:3])
        with self._lane(tmp_path, spec) as opened:
            opened.holds(sent[:3])
            opened.lane.append(sent[3:])
            opened.holds(sent)

    def test_a_repeated_sequence_is_acknowledged_and_not_written(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            sent = numbered(opened.spec, "p", 1, 3)
            opened.lane.append(sent[:2])
            again = opened.lane.append(sent[:1])
            require(dict(again.cursors) == {"p": 2}, f"a repeat gave cursors {again.cursors}")
            opened.holds(sent[:2])
            opened.lane.append([sent[1], sent[2], sent[2]])
            opened.holds(sent)

    def test_a_repeat_with_other_rows_changes_nothing(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            sent = sample_batch(opened.spec, "p", 1)
            opened.lane.append([sent])
            opened.lane.append([replace(sample_batch(opened.spec, "p", 2), sequence=1)])
            opened.holds([sent])

    def test_a_gap_is_refused_with_its_whole_group(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            sent = numbered(opened.spec, "p", 1, 3)
            for group in ([sent[1]], [sent[0], sent[2]]):
                with pytest.raises(SequenceGap, match="'p'"):
                    opened.lane.append(group)
                opened.holds([])
            opened.lane.append(sent)
            opened.holds(sent)

    @pytest.mark.parametrize("fault", ["dtype", "width", "site", "spans", "document"])
    def test_a_bad_batch_spoils_its_group_and_nothing_else(
        self, tmp_path: Path, fault: str
    ) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            sent = numbered(opened.spec, "p", 1, 2)
            bad = _spoiled(sample_batch(opened.spec, "q", 1), fault)
            with pytest.raises(InvalidInput if fault == "document" else ShapeError):
                opened.lane.append([*sent, bad])
            opened.holds([])
            require(not opened.lane.cursors, f"refused batches moved {opened.lane.cursors}")
            unknown = _with_document(sent[0], sent[0].documents[0].id)
            with pytest.raises(InvalidInput, match="document"):
                opened.lane.append([unknown])
            opened.lane.append(sent)
            opened.holds(sent)

    def test_producers_have_cursors_of_their_own(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float16")) as opened:
            p, q = numbered(opened.spec, "p", 1, 3), numbered(opened.spec, "q", 1, 2)
            first = opened.lane.append([p[0], q[0], p[1]])
            require(dict(first.cursors) == {"p": 2, "q": 1}, f"cursors are {first.cursors}")
            second = opened.lane.append([p[2]])
            require(dict(second.cursors) == {"p": 3}, f"cursors are {second.cursors}")
            require(dict(opened.lane.cursors) == {"p": 3, "q": 1}, f"{opened.lane.cursors}")
            opened.holds([p[0], q[0], p[1], p[2]])

    def test_producers_in_threads_lose_and_repeat_nothing(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("bfloat16")) as opened:
            sent = {name: numbered(opened.spec, name, 1, 4) for name in ("p", "q", "r")}

            def produce(name: str) -> None:
                for batch in sent[name]:
                    opened.lane.append([batch])

            in_threads([lambda name=name: produce(name) for name in sent])
            reader = opened.recording.reader()
            rows = sum(batch.rows for batches in sent.values() for batch in batches)
            require(reader.rows == rows, f"reader has {reader.rows} rows, wanted {rows}")
            for batches in sent.values():
                for batch in batches:
                    places = reader.document_rows(batch.documents[0].id)
                    for name, values in batch.sites.items():
                        same(f"site {name!r}", reader.take(name, places), values)
                firsts = [reader.document_rows(b.documents[0].id)[0] for b in batches]
                require(firsts == sorted(firsts), "batches of one producer changed places")

    def test_documents_that_differ_under_one_key_are_refused(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            first, following = numbered(opened.spec, "p", 1, 2)
            known = Document.from_text("known", group="a")
            first = _with_document(first, known.id, known)
            regrouped = replace(known, group="b")
            namesake = Document(key=known.key[:8] + bytes(24))
            for other in (regrouped, namesake):
                differing = _with_document(following, known.id, other)
                with pytest.raises(DocumentMismatch):
                    opened.lane.append([first, differing])
                opened.holds([])
            opened.lane.append([first])
            for other in (regrouped, namesake):
                with pytest.raises(DocumentMismatch):
                    opened.lane.append([_with_document(following, known.id, other)])
                opened.holds([first])
            again = _with_document(following, known.id, known)
            opened.lane.append([again])
            opened.holds([first, again])

    def test_a_document_described_once_may_be_used_ever_after(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            first, second, third = numbered(opened.spec, "p", 1, 3)
            known = first.documents[0]
            silent = _with_document(second, known.id)
            opened.lane.append([first, silent])
            opened.lane.close()
            lane = opened.recording.open_lane()
            last = _with_document(third, known.id)
            lane.append([last])
            opened.holds([first, silent, last])

    def test_a_closed_lane_takes_no_more(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            sent = numbered(opened.spec, "p", 1, 2)
            opened.lane.append(sent[:1])
            require(opened.lane.is_open, "the lane says it is closed")
            opened.lane.close()
            opened.lane.close()
            require(not opened.lane.is_open, "the closed lane says it is open")
            for group in (sent[1:], sent[:1], []):
                with pytest.raises(LaneEnded, match="new lane"):
                    opened.lane.append(group)
            opened.holds(sent[:1])

    def test_cursors_go_on_over_lanes(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            p, q = numbered(opened.spec, "p", 1, 3), numbered(opened.spec, "q", 1, 1)
            opened.lane.append([p[0], q[0]])
            opened.lane.close()
            lane = opened.recording.open_lane()
            require(lane.name != opened.lane.name, f"two lanes are called {lane.name!r}")
            require((lane.rows, dict(lane.own_cursors)) == (0, {}), "a new lane is not empty")
            require(dict(lane.cursors) == {"p": 1, "q": 1}, f"cursors are {lane.cursors}")
            with pytest.raises(SequenceGap):
                lane.append([p[2]])
            commit = lane.append([p[0], p[1]])
            require(commit.rows == lane.rows == p[1].rows, f"the repeat was written: {commit}")
            require(dict(lane.own_cursors) == {"p": 2}, f"own cursors are {lane.own_cursors}")
            require(opened.recording.cursor("p") == 2, "recording lost the cursor of 'p'")
            require(opened.recording.cursor("q") == 1, "recording lost the cursor of 'q'")
            require(opened.recording.cursor("nobody") == 0, "a producer came from nowhere")
            opened.holds([p[0], q[0], p[1]])

    def test_appending_nothing_is_harmless(self, tmp_path: Path) -> None:
        with self._lane(tmp_path, contract_spec("float32")) as opened:
            commit = opened.lane.append([])
            require((commit.rows, dict(commit.cursors)) == (0, {}), f"nothing gave {commit}")
            opened.holds([])


def _with_document(batch: RowBatch, row_document: int, *described: Document) -> RowBatch:
    column = np.full(batch.rows, row_document, np.uint64)
    return replace(batch, document=column, documents=described)


def _spoiled(batch: RowBatch, fault: str) -> RowBatch:
    """Return a batch that does not fit the recording it was made for."""
    sites = dict(batch.sites)
    name, rows = next(iter(sites.items()))
    if fault == "dtype":
        sites[name] = rows.astype(np.float64)
    elif fault == "width":
        sites[name] = rows[:, :-1]
    elif fault == "site":
        del sites[name]
    elif fault == "spans":
        return replace(batch, span=None)
    else:
        return _with_document(batch, Document.from_text("nobody described me").id)
    return replace(batch, sites=sites)
