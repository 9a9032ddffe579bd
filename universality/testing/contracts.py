# ruff: noqa: D102  (the name of a test is its sentence)
"""What holds for the probe of any recordings, as tests to subclass.

Override the fixture :meth:`ProbeContract.subject` in a class whose name begins with ``Test``::

    class TestProbeOfWords(ProbeContract):
        @pytest.fixture
        def subject(self, record: Record) -> ProbeSubject: ...
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.store import RecordingReader
from isogloss.universality.probe.build import build_probe
from isogloss.universality.probe.grid import Grid
from isogloss.universality.probe.probe import Probe
from isogloss.universality.probe.rows import segment_rows

_ARRAYS = (
    "documents",
    "segment_document",
    "segment_source",
    "segment_span",
    "stratum_token",
    "stratum_position",
    "half",
    "keys",
)


@dataclass(frozen=True, kw_only=True)
class ProbeSubject:
    """Recordings to cut a probe from."""

    readers: Mapping[str, RecordingReader]
    """Recordings that share held-out documents, by id."""

    joining: RecordingReader
    """One more recording of all these documents; of their tokenizer, for the grid of tokens."""

    grid: Grid
    """What a segment of this probe is: a token or a word."""

    holdout: float = 0.25
    """Documents with ``split_position`` below this were held out."""

    def build(self, probe_id: str = "probe", seed: int = 0) -> Probe:
        """Cut the probe of :attr:`readers`."""
        return build_probe(
            self.readers, holdout=self.holdout, seed=seed, grid=self.grid, probe_id=probe_id
        )


class ProbeContract:
    """Tests of the :class:`~isogloss.universality.Probe` seam."""

    @pytest.fixture
    def subject(self) -> ProbeSubject:
        """Return the recordings."""
        raise TypeError(f"{type(self).__name__} must override the fixture subject")

    def test_its_arrays_agree_with_each_other(self, subject: ProbeSubject) -> None:
        probe = subject.build()
        for name in _ARRAYS[1:]:
            rows = len(getattr(probe, name))
            _require(rows == probe.segments, f"{name} has {rows} rows, keys {probe.segments}")
        _require(bool((np.diff(probe.documents) > 0).all()), "documents are not ascending")
        found, firsts = np.unique(probe.segment_document, return_index=True)
        _require(
            found.tolist() == list(range(len(probe.documents))), "a document has no segment, or "
            "a segment no document",
        )  # fmt: skip
        _require(bool((np.diff(probe.segment_document) >= 0).all()), "segments are out of order")
        within = np.arange(probe.segments) - firsts[probe.segment_document]
        _require(np.array_equal(probe.stratum_position, within), "places are not counted from 0")
        ends = probe.segment_span[:, 1].astype(np.int64)
        same = np.diff(probe.segment_document) == 0
        _require(bool((np.diff(ends)[same] > 0).all()), "spans of a document do not ascend")
        _require(len(np.unique(probe.keys)) == probe.segments, "two segments have one name")
        _require(probe.grid == subject.grid, f"the grid is {probe.grid}, not {subject.grid}")

    def test_its_documents_are_held_out_and_in_every_recording(self, subject: ProbeSubject) -> None:
        probe = subject.build()
        for name, reader in subject.readers.items():
            held = reader.documents()
            for document in probe.documents.tolist():
                _require(document in held, f"recording {name} lacks document {document:016x}")
                place = held[document].split_position
                _require(place < subject.holdout, f"{document:016x} at {place} was not held out")

    def test_a_source_is_in_one_half_and_both_halves_have_some(self, subject: ProbeSubject) -> None:
        probe = subject.build()
        halves = np.unique(np.stack([probe.segment_source, probe.half]), axis=1)
        _require(len(np.unique(halves[0])) == halves.shape[1], "a source is in both halves")
        _require(set(probe.half.tolist()) == {0, 1}, "a half is empty")
        sources = np.unique(np.stack([probe.segment_document, probe.segment_source]), axis=1)
        _require(sources.shape[1] == len(probe.documents), "a document is of two sources")
        wanted = set(range(len(set(probe.segment_source.tolist()))))
        _require(set(probe.segment_source.tolist()) == wanted, "sources are not counted from 0")

    def test_cutting_it_again_gives_the_same(self, subject: ProbeSubject) -> None:
        _require_equal(subject.build(), subject.build())

    def test_the_order_of_recordings_changes_nothing(self, subject: ProbeSubject) -> None:
        readers = dict(reversed(list(subject.readers.items())))
        other = build_probe(readers, holdout=subject.holdout, grid=subject.grid)
        _require_equal(subject.build(), other)

    def test_another_seed_moves_sources_between_the_halves_alone(
        self, subject: ProbeSubject
    ) -> None:
        before, after = subject.build(seed=0), subject.build(seed=1)
        for name in _ARRAYS:
            same = np.array_equal(getattr(before, name), getattr(after, name))
            _require(same is (name != "half"), f"{name} is {'equal' if same else 'different'}")

    def test_it_survives_saving_and_loading(self, subject: ProbeSubject, tmp_path: Path) -> None:
        probe = subject.build("mine", seed=3)
        probe.save(tmp_path / "probe")
        loaded = Probe.load(tmp_path / "probe")
        _require_equal(probe, loaded)
        for name in ("id", "grid", "recordings", "origin"):
            before, after = getattr(probe, name), getattr(loaded, name)
            _require(before == after, f"{name} {before!r} came back as {after!r}")
        _require(loaded.id == "mine", f"its id is {loaded.id!r}")

    def test_each_row_is_of_the_last_token_that_ends_in_the_segment(
        self, subject: ProbeSubject
    ) -> None:
        probe = subject.build()
        for name, reader in subject.readers.items():
            wanted = _last_tokens(probe, reader)
            found = segment_rows(probe, reader)
            wrong = np.flatnonzero(found != wanted)
            _require(
                wrong.size == 0,
                f"{name}: {wrong.size} of {probe.segments} rows differ, the first at segment "
                f"{wrong[:1]}: {found[wrong[:1]]}, wanted {wanted[wrong[:1]]}",
            )
            _require(bool((found >= 0).any()), f"{name} has no row on the probe")

    def test_adding_a_model_changes_nothing(self, subject: ProbeSubject) -> None:
        more = {**subject.readers, "joining": subject.joining}
        before = subject.build()
        after = build_probe(more, holdout=subject.holdout, grid=subject.grid)
        _require_equal(before, after)
        _require(before.uid == after.uid, "the probe would have another directory")
        joined = segment_rows(before, subject.joining)
        _require(bool((joined >= 0).any()), "the recording that joined has no row on the probe")


def _last_tokens(probe: Probe, reader: RecordingReader) -> NDArray[np.int64]:
    """Find each segment's row by looking at every token of its document, one after the other."""
    tokens = reader.tokens()
    rows: dict[int, list[int]] = {}
    for row, document in enumerate(tokens.document.tolist()):
        rows.setdefault(document, []).append(row)
    # (end of the token in the text, its position, its row), by the unit of the segment's span
    ends = tokens.position if tokens.span is None or probe.grid == "tokens" else tokens.span[:, 1]
    starts = ends if tokens.span is None or probe.grid == "tokens" else tokens.span[:, 0]
    is_empty = (starts == ends) if probe.grid == "word_ends" else np.zeros(len(ends), np.bool_)
    found: list[int] = []
    for document, (start, end) in zip(
        probe.documents[probe.segment_document].tolist(), probe.segment_span.tolist(), strict=True
    ):
        first = start if probe.grid == "word_ends" else start - 1
        inside = [
            (int(ends[row]), int(tokens.position[row]), -row)
            for row in rows.get(document, [])
            if first < ends[row] <= end and not is_empty[row]
        ]
        found.append(-max(inside)[2] if inside else -1)
    return np.array(found, np.int64)


def _require_equal(a: Probe, b: Probe) -> None:
    for name in _ARRAYS:
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise AssertionError(f"{name} differs")
    if a.digest != b.digest:
        raise AssertionError("the arrays are equal and their digests differ")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)
