import contextlib
import dataclasses
import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isogloss.errors import (
    InvalidInput,
    IsoglossError,
    NonFiniteRows,
    ResourceExhausted,
    ShapeError,
)
from isogloss.store import BatchLimits, Document, RowBatch
from isogloss.store.schema.batch import TokenColumns, finite_rows
from isogloss.store.schema.recording_spec import DTYPES
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()


def encoded(batch: RowBatch) -> bytes:
    return b"".join(batch.encode())


def with_header(piece: bytes, **changes: object) -> bytes:
    _, length = struct.unpack("<4sI", piece[:8])
    header = json.loads(piece[8 : 8 + length]) | changes
    text = json.dumps(header).encode()
    return struct.pack("<4sI", b"ISRB", len(text)) + text + piece[8 + length :]


def test_a_batch_survives_the_wire() -> None:
    batch = sample_batch(SPEC, "p", 3)
    back = RowBatch.decode(encoded(batch), SPEC)
    assert (back.producer, back.sequence, back.rows) == ("p", 3, batch.rows)
    assert back.documents == batch.documents
    for name, values in batch.sites.items():
        assert back.sites[name].dtype == values.dtype
        assert back.sites[name].tobytes() == values.tobytes()
    for name in ("token_id", "document", "position", "span"):
        np.testing.assert_array_equal(getattr(back, name), getattr(batch, name))


def test_documents_without_text_and_empty_texts_survive_the_wire() -> None:
    documents = (Document.from_token_ids([7]), Document.from_text(""), Document.from_text("é"))
    batch = dataclasses.replace(sample_batch(SPEC, "p", 1), documents=documents)
    assert RowBatch.decode(encoded(batch), SPEC).documents == documents


def test_decoding_copies_no_array() -> None:
    buffer = bytearray(encoded(sample_batch(SPEC, "p", 1)))
    back = RowBatch.decode(buffer, SPEC)
    for values in (*back.sites.values(), back.token_id):
        assert np.shares_memory(values, np.frombuffer(buffer, np.uint8))


@pytest.mark.parametrize("cut", [0, 5, 8, 40, -1])
def test_a_batch_cut_short_is_refused(cut: int) -> None:
    with pytest.raises(InvalidInput):
        RowBatch.decode(encoded(sample_batch(SPEC, "p", 1))[:cut], SPEC)


def test_a_header_that_lies_about_rows_is_refused_before_anything_is_allocated() -> None:
    piece = encoded(sample_batch(SPEC, "p", 1))
    with pytest.raises(InvalidInput, match="its header lies"):
        RowBatch.decode(with_header(piece, rows=1_000_000), SPEC)
    with pytest.raises(ResourceExhausted, match="split it"):
        RowBatch.decode(with_header(piece, rows=1 << 60), SPEC)
    with pytest.raises(InvalidInput, match="rows"):
        RowBatch.decode(with_header(piece, rows=-1), SPEC)


@pytest.mark.parametrize("byte", [0x80, 0xFF, 0x00])
def test_a_header_that_is_no_text_is_refused(byte: int) -> None:
    piece = bytearray(encoded(sample_batch(SPEC, "p", 1)))
    piece[12] = byte
    with pytest.raises(InvalidInput, match="header is not JSON"):
        RowBatch.decode(piece, SPEC)


def test_limits_are_kept() -> None:
    piece = encoded(sample_batch(SPEC, "p", 1))
    for limits in (
        BatchLimits(max_rows=0),
        BatchLimits(max_documents=0),
        BatchLimits(max_header_bytes=10),
        BatchLimits(max_text_bytes=1),
    ):
        with pytest.raises(ResourceExhausted, match=r"limit|split"):
            RowBatch.decode(piece, SPEC, limits)


def test_a_document_whose_text_was_changed_on_the_way_is_refused() -> None:
    piece = encoded(sample_batch(SPEC, "p", 1))
    with pytest.raises(InvalidInput, match="sha256"):
        RowBatch.decode(piece[:-1] + b"!", SPEC)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_mutated_bytes_are_refused_or_read_but_never_crash(data: st.DataObject) -> None:
    piece = bytearray(encoded(sample_batch(SPEC, "p", 1, rows=3)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(piece) - 1))
        piece[at] = data.draw(st.integers(0, 255))
    with contextlib.suppress(IsoglossError):
        RowBatch.decode(piece, SPEC)


def test_a_batch_for_another_recording_is_refused() -> None:
    batch = sample_batch(SPEC, "p", 1)
    with pytest.raises(ShapeError, match="wanted bfloat16"):
        dataclasses.replace(
            batch, sites={n: v.astype(np.float32) for n, v in batch.sites.items()}
        ).check(SPEC)
    with pytest.raises(ShapeError, match="lacks spans"):
        dataclasses.replace(batch, span=None).check(SPEC)
    with pytest.raises(ShapeError, match="send all of them"):
        dataclasses.replace(batch, sites={"layer.2": batch.sites["layer.2"]}).check(SPEC)
    narrow = {name: values[:, :-1] for name, values in batch.sites.items()}
    with pytest.raises(ShapeError, match=r"\[rows, 12\]"):
        dataclasses.replace(batch, sites=narrow).check(SPEC)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("token_id", np.zeros(3, np.int64)),
        ("document", np.zeros(3, np.uint32)),
        ("position", np.zeros(2, np.uint32)),
        ("span", np.zeros((3, 1), np.uint32)),
    ],
)
def test_columns_that_do_not_fit_are_refused(field: str, value: NDArray[np.generic]) -> None:
    batch = sample_batch(SPEC, "p", 1, rows=3)
    with pytest.raises(ShapeError, match=field):
        dataclasses.replace(batch, **{field: value})


def test_a_batch_needs_rows_a_producer_and_a_sequence() -> None:
    batch = sample_batch(SPEC, "p", 1, rows=3)
    with pytest.raises(InvalidInput, match="sequence 0"):
        dataclasses.replace(batch, sequence=0)
    with pytest.raises(InvalidInput, match="0 characters"):
        dataclasses.replace(batch, producer="")
    with pytest.raises(ShapeError, match="every site"):
        dataclasses.replace(batch, sites={n: v[:2] for n, v in batch.sites.items()})
    with pytest.raises(ShapeError, match="no rows"):
        RowBatch(
            producer="p",
            sequence=1,
            sites={},
            token_id=np.zeros(0, np.uint32),
            document=np.zeros(0, np.uint64),
            position=np.zeros(0, np.uint32),
        )


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_rows_with_nan_or_infinity_are_found_in_every_dtype(dtype: str) -> None:
    values = np.ones((5, 4), np.float32)
    values[1, 2], values[3, 0], values[4, 1] = np.nan, -np.inf, 3e4
    found = finite_rows(values.astype(DTYPES[dtype]))
    assert found.tolist() == [True, False, True, False, True]


def test_a_recording_can_refuse_rows_that_are_not_finite() -> None:
    batch = sample_batch(SPEC, "p", 1, rows=3)
    values = batch.sites["layer.2"].copy()
    values[1, 1] = np.nan
    batch = dataclasses.replace(batch, sites={**batch.sites, "layer.2": values})
    batch.check(SPEC)
    with pytest.raises(NonFiniteRows, match="first at 1"):
        batch.check(dataclasses.replace(SPEC, nonfinite="reject"))


def test_a_batch_keeps_its_arrays_when_the_caller_fills_its_mapping_again() -> None:
    sites = dict(sample_batch(sample_spec(), "p", 1).sites)
    kept = dataclasses.replace(sample_batch(sample_spec(), "p", 1), sites=sites)
    (name, *_) = sites
    before = sites[name]
    sites[name] = np.zeros_like(before)
    assert kept.sites[name] is before


def test_columns_of_no_parts_have_no_rows_and_their_own_shapes() -> None:
    none = TokenColumns.concatenate([], has_spans=True)
    assert none.span is not None
    assert (none.span.shape, none.span.dtype) == ((0, 2), np.uint32)
    columns = (none.token_id, none.document, none.position)
    assert [(c.shape, c.dtype.name) for c in columns] == [
        ((0,), "uint32"), ((0,), "uint64"), ((0,), "uint32"),
    ]  # fmt: skip
    assert TokenColumns.concatenate([], has_spans=False).span is None
