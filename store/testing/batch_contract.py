# ruff: noqa: D102  (the name of a test is its sentence)
"""The contract of a batch, in memory and on the wire, as tests to subclass."""

import json
import struct
import tracemalloc
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import (
    InvalidInput,
    NonFiniteRows,
    ResourceExhausted,
    ShapeError,
    UnsupportedVersion,
)
from isogloss.store.schema.batch import BatchLimits, RowBatch
from isogloss.store.schema.document import Document
from isogloss.store.schema.recording_spec import Dtype, RecordingSpec, SiteSpec
from isogloss.store.testing.checks import any_bits, contract_spec, require, same, same_columns

_PREFIX = struct.Struct("<4sI")
_SPEC = contract_spec("bfloat16")


class RowBatchContract:
    """Tests of :class:`~isogloss.store.RowBatch` and of its bytes (docs/wire.md)."""

    def make(self, spec: RecordingSpec, rows: int) -> RowBatch:
        """Return a batch of so many rows that fits ``spec`` and describes one document's text."""
        raise TypeError(f"{type(self).__name__} must override make()")

    @pytest.mark.parametrize("has_spans", [True, False])
    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    def test_it_survives_the_wire_bit_for_bit(self, dtype: Dtype, has_spans: bool) -> None:
        spec = contract_spec(dtype, has_spans=has_spans)
        for rows in (1, 2, 7):
            made = self.make(spec, rows)
            _same_batch(type(made).decode(_joined(made), spec), made)
            patterns = replace(made, sites=any_bits(spec, "p", rows, rows).sites)
            _same_batch(type(made).decode(_joined(patterns), spec), patterns)

    @pytest.mark.parametrize("step", [1, 40_000, (1 << 64) - 1])
    def test_a_training_step_survives_the_wire_and_says_that_it_is_there(self, step: int) -> None:
        plain = self.make(_SPEC, 5)
        made = replace(plain, step=step)
        found = type(made).decode(_joined(made), _SPEC)
        _same_batch(found, made)
        require(set(found.columns.step.tolist()) == {step}, f"rows have {found.columns.step}")
        require(_header(made)["schema_version"] == 2, "who knows no steps would take it")
        require(_header(plain)["schema_version"] == 1, "step 0 asks for a later release")
        require("step" not in _header(plain), "step 0 costs bytes")

    def test_a_training_step_outside_64_bits_is_refused(self) -> None:
        made = self.make(_SPEC, 2)
        for wrong in (-1, 1 << 64, True):
            with pytest.raises(InvalidInput, match=r"step .*whole number"):
                replace(made, step=wrong)

    def test_a_header_that_lies_about_its_step_is_refused(self) -> None:
        whole = _joined(replace(self.make(_SPEC, 2), step=3))
        for step in (-1, 1 << 64, 1.5, True, "3", None, [3]):
            with pytest.raises(InvalidInput, match="step"):
                RowBatch.decode(_forged(whole, {"step": step}), _SPEC)
        with pytest.raises(UnsupportedVersion, match="reads 1 and 2"):
            RowBatch.decode(_forged(whole, {"schema_version": 3}), _SPEC)

    def test_arrays_of_any_strides_travel_row_by_row(self) -> None:
        made = self.make(_SPEC, 6)
        sites = {name: np.asfortranarray(rows) for name, rows in made.sites.items()}
        require(_joined(replace(made, sites=sites)) == _joined(made), "strides change the bytes")

    def test_encoding_and_decoding_copy_no_array(self) -> None:
        made = self.make(_SPEC, 6)
        views = [np.frombuffer(piece, np.uint8) for piece in made.encode() if len(piece)]
        buffer = bytearray(_joined(made))
        memory = np.frombuffer(buffer, np.uint8)
        for name, sent, read in _arrays(made, type(made).decode(buffer, _SPEC)):
            require(any(np.shares_memory(sent, view) for view in views), f"{name} was copied out")
            require(np.shares_memory(read, memory), f"{name} was copied in")

    def test_documents_of_every_kind_survive_the_wire(self) -> None:
        text = Document.from_text("twice", group="source")
        documents = (
            text,
            Document.from_text(""),
            Document.from_text("é\U0001f600", group="Ω"),
            Document.from_token_ids([7, 8]),
            text,
        )
        for kept in (documents, ()):
            made = replace(self.make(_SPEC, 3), documents=kept)
            found = type(made).decode(_joined(made), _SPEC).documents
            require(found == kept, f"documents came back as {found}")

    def test_a_text_changed_on_the_way_is_refused(self) -> None:
        made = replace(self.make(_SPEC, 3), documents=(Document.from_text("told"),))
        with pytest.raises(InvalidInput, match="sha256"):
            type(made).decode(_joined(made).replace(b"told", b"tald"), _SPEC)

    def test_bytes_cut_or_extended_anywhere_are_refused(self) -> None:
        made = self.make(_SPEC, 2)
        whole = _joined(made)
        for length in range(len(whole)):
            with pytest.raises(InvalidInput):
                type(made).decode(whole[:length], _SPEC)
        with pytest.raises(InvalidInput):
            type(made).decode(whole + bytes(8), _SPEC)

    def test_sizes_are_checked_before_anything_is_allocated(self) -> None:
        made = self.make(_SPEC, 3)
        whole = _joined(made)
        key = made.documents[0].key.hex()
        lies: list[tuple[Mapping[str, object], type[Exception]]] = [
            ({"rows": 1 << 20}, InvalidInput),
            ({"rows": 1 << 62}, ResourceExhausted),
            ({"rows": 0}, ResourceExhausted),
            ({"rows": -1}, InvalidInput),
            ({"rows": 2.5}, InvalidInput),
            ({"documents": [[key, "", 1 << 27]]}, InvalidInput),
            ({"documents": [[key, "", 1 << 62]]}, ResourceExhausted),
            ({"documents": [[key[:-2], "", 1]]}, InvalidInput),
            ({"documents": [["z" * len(key), "", 1]]}, InvalidInput),
        ]
        tracemalloc.start()
        try:
            for changes, error in lies:
                piece = _forged(whole, changes)
                tracemalloc.reset_peak()
                before, _ = tracemalloc.get_traced_memory()
                with pytest.raises(error):
                    type(made).decode(piece, _SPEC)
                _, peak = tracemalloc.get_traced_memory()
                require(peak - before < 1 << 20, f"{changes} made it allocate {peak - before}")
        finally:
            tracemalloc.stop()

    def test_limits_are_kept_to_the_last_unit(self) -> None:
        made = replace(self.make(_SPEC, 3), documents=(Document.from_text("four"),))
        whole = _joined(made)
        _, header_bytes = _PREFIX.unpack(whole[: _PREFIX.size])
        exact = BatchLimits(
            max_rows=3, max_documents=1, max_header_bytes=header_bytes, max_text_bytes=4
        )
        _same_batch(type(made).decode(whole, _SPEC, exact), made)
        for limits in (
            replace(exact, max_rows=2),
            replace(exact, max_documents=0),
            replace(exact, max_header_bytes=header_bytes - 1),
            replace(exact, max_text_bytes=3),
        ):
            with pytest.raises(ResourceExhausted, match=r"limit|split"):
                type(made).decode(whole, _SPEC, limits)

    @pytest.mark.parametrize("shape", [(4,), (3, 13), (5, 13), (4, 13, 1), (0, 13)])
    def test_a_site_whose_rows_differ_from_the_columns_is_refused(
        self, shape: tuple[int, ...]
    ) -> None:
        made = self.make(_SPEC, 4)
        values = np.zeros(shape, _SPEC.sites[0].numpy_dtype)
        with pytest.raises(ShapeError, match="same rows"):
            replace(made, sites={**made.sites, _SPEC.sites[0].name: values})

    def test_columns_of_another_dtype_or_shape_are_refused(self) -> None:
        made = self.make(_SPEC, 4)
        with pytest.raises(ShapeError, match="token_id"):
            replace(made, token_id=np.zeros(4, np.int64))
        with pytest.raises(ShapeError, match="token_id"):
            replace(made, token_id=np.zeros((4, 1), np.uint32))
        with pytest.raises(ShapeError, match="document"):
            replace(made, document=np.zeros(4, np.int64))
        with pytest.raises(ShapeError, match="position"):
            replace(made, position=np.zeros(3, np.uint32))
        for span in (np.zeros(4, np.uint32), np.zeros((4, 2), np.int32)):
            with pytest.raises(ShapeError, match="span"):
                replace(made, span=span)

    def test_a_batch_needs_rows_a_producer_and_a_sequence(self) -> None:
        made = self.make(_SPEC, 4)
        none = made.columns.slice(0, 0)
        with pytest.raises(ShapeError, match="no rows"):
            replace(
                made,
                sites={name: rows[:0] for name, rows in made.sites.items()},
                token_id=none.token_id,
                document=none.document,
                position=none.position,
                span=none.span,
            )
        for producer in ("", "p" * 257):
            with pytest.raises(InvalidInput, match="producer"):
                replace(made, producer=producer)
        for sequence in (0, -1, 1 << 63):
            with pytest.raises(InvalidInput, match="sequence"):
                replace(made, sequence=sequence)

    def test_a_batch_for_another_recording_is_refused(self) -> None:
        made = self.make(_SPEC, 4)
        made.check(_SPEC)
        first, second = _SPEC.sites
        others = [
            (replace(_SPEC, sites=(first,)), "layer.2"),
            (replace(_SPEC, sites=(first, second, SiteSpec(name="x", width=1))), "'x'"),
            (replace(_SPEC, sites=(replace(first, width=12), second)), "12"),
            (replace(_SPEC, sites=(replace(first, dtype="float16"), second)), "float16"),
            (replace(_SPEC, has_spans=False), "spans"),
        ]
        for spec, message in others:
            with pytest.raises(ShapeError, match=message):
                made.check(spec)
        with pytest.raises(ShapeError, match="lacks spans"):
            replace(made, span=None).check(_SPEC)
        for spec, _ in (*others[:2], (replace(_SPEC, has_spans=False), "")):
            with pytest.raises((ShapeError, InvalidInput)):
                type(made).decode(_joined(made), spec)

    @pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
    def test_rows_that_are_not_finite_are_refused_where_the_recording_says_so(
        self, dtype: Dtype
    ) -> None:
        spec = contract_spec(dtype)
        strict = replace(spec, nonfinite="reject")
        made = self.make(spec, 4)
        made.check(strict)
        for value in (np.nan, np.inf, -np.inf):
            rows = made.sites["layer.2"].astype(np.float32)
            rows[2, 4] = value
            wrong = replace(
                made, sites={**made.sites, "layer.2": rows.astype(spec.sites[1].numpy_dtype)}
            )
            wrong.check(spec)
            with pytest.raises(NonFiniteRows, match="1 rows"):
                wrong.check(strict)
            with pytest.raises(NonFiniteRows, match="first at 2"):
                type(made).decode(_joined(wrong), strict)


def _joined(batch: RowBatch) -> bytes:
    return b"".join(batch.encode())


def _header(batch: RowBatch) -> Mapping[str, object]:
    """Return the header of an encoded batch."""
    piece = _joined(batch)
    _, length = _PREFIX.unpack(piece[: _PREFIX.size])
    found: Mapping[str, object] = json.loads(piece[_PREFIX.size : _PREFIX.size + length])
    return found


def _forged(piece: bytes, changes: Mapping[str, object]) -> bytes:
    """Return an encoded batch with fields of its header changed."""
    magic, length = _PREFIX.unpack(piece[: _PREFIX.size])
    body = _PREFIX.size + length
    header = json.dumps({**json.loads(piece[_PREFIX.size : body]), **changes}).encode()
    header += b" " * (-(_PREFIX.size + len(header)) % 8)
    return _PREFIX.pack(magic, len(header)) + header + piece[body:]


def _arrays(
    one: RowBatch, other: RowBatch
) -> list[tuple[str, NDArray[np.generic], NDArray[np.generic]]]:
    pairs = [
        *((name, rows, other.sites[name]) for name, rows in one.sites.items()),
        ("token_id", one.token_id, other.token_id),
        ("document", one.document, other.document),
        ("position", one.position, other.position),
    ]
    if one.span is not None and other.span is not None:
        pairs.append(("span", one.span, other.span))
    return pairs


def _same_batch(found: RowBatch, wanted: RowBatch) -> None:
    same_columns(found.columns, wanted.columns)
    for name, there, here in _arrays(found, wanted):
        same(name, there, here)
    require(list(found.sites) == list(wanted.sites), f"sites came back as {list(found.sites)}")
    require(found.documents == wanted.documents, f"documents came back as {found.documents}")
    names = (found.producer, found.sequence, found.rows, found.step)
    require(
        names == (wanted.producer, wanted.sequence, wanted.rows, wanted.step),
        f"came back as {names}",
    )
