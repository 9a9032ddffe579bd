"""Rows are cut into batches by bytes and by documents."""

from dataclasses import replace

import numpy as np
import pytest

from isogloss.errors import ResourceExhausted
from isogloss.service.recording.packing import BATCH_BYTES, Packer, StoredRows
from isogloss.service.transport.outgoing import encoded
from isogloss.store import Document, ModelInfo, RecordingSpec, RowBatch, SiteSpec


def spec(width: int, sites: int = 1, has_spans: bool = False) -> RecordingSpec:
    return RecordingSpec(
        recording="r",
        model=ModelInfo(name="m"),
        tokenizer="t",
        corpus="c",
        sites=tuple(SiteSpec(name=f"s{i}", width=width, dtype="float32") for i in range(sites)),
        has_spans=has_spans,
    )


def rows_of(spec: RecordingSpec, lengths: list[int], step: int = 0, first: int = 0) -> StoredRows:
    documents = tuple(Document.from_text(f"text {first + i}") for i in range(len(lengths)))
    ids = np.array([document.id for document in documents], np.uint64)
    rows = sum(lengths)
    chance = np.random.default_rng(first)
    return StoredRows(
        sites={s.name: chance.random((rows, s.width), np.float32) for s in spec.sites},
        token_id=np.arange(rows, dtype=np.uint32),
        document=np.repeat(ids, lengths),
        position=np.concatenate([np.arange(n, dtype=np.uint32) for n in lengths]),
        span=np.zeros((rows, 2), np.uint32) if spec.has_spans else None,
        documents=documents,
        ends=np.cumsum(lengths),
        step=step,
    )


def packed(packer: Packer, *added: StoredRows) -> list[RowBatch]:
    return [*(batch for one in added for batch in packer.add(one)), *packer.rest()]


@pytest.mark.parametrize("has_spans", [False, True])
@pytest.mark.parametrize(("width", "sites"), [(64, 1), (512, 3)])
def test_batches_fit_and_hold_every_row_once_in_order(
    width: int, sites: int, has_spans: bool
) -> None:
    described = spec(width, sites, has_spans)
    largest = 200_000
    added = [rows_of(described, [40, 7, 100], first=0), rows_of(described, [90, 1], first=10)]
    batches = packed(Packer(described, 64, largest), *added)
    assert all(encoded(batch).size <= largest for batch in batches)
    for batch in batches:
        batch.check(described)
        assert set(batch.document.tolist()) == {document.id for document in batch.documents}
    for column in ("token_id", "document", "position"):
        wanted = np.concatenate([getattr(one, column) for one in added])
        found = np.concatenate([getattr(batch, column) for batch in batches])
        np.testing.assert_array_equal(found, wanted)
    for site in described.sites:
        wanted = np.concatenate([one.sites[site.name] for one in added])
        found = np.concatenate([batch.sites[site.name] for batch in batches])
        np.testing.assert_array_equal(found, wanted)


def test_a_document_is_in_one_batch_where_it_fits() -> None:
    described = spec(1000)
    lengths = [30] * 20
    batches = packed(Packer(described, 1 << 20, 400_000), rows_of(described, lengths))
    assert len(batches) > 4
    for batch in batches:
        assert batch.rows % 30 == 0


def test_a_document_larger_than_a_batch_is_cut() -> None:
    described = spec(1000)
    batches = packed(Packer(described, 1 << 20, 400_000), rows_of(described, [5, 350, 5]))
    assert sum(batch.rows for batch in batches) == 360
    assert [batch.rows for batch in batches] == [5, 98, 98, 98, 61]
    assert all(encoded(batch).size <= 400_000 for batch in batches)


@pytest.mark.parametrize("has_spans", [False, True])
def test_a_cut_document_leaves_little_of_its_batches_empty(has_spans: bool) -> None:
    """Small rows and a long group: a byte too much for each of their bytes would be seen."""
    described = spec(1, has_spans=has_spans)
    stored = rows_of(described, [20_000])
    group = "\N{GRINNING FACE}" * 500  # four bytes each, the most that a character takes
    document = replace(stored.documents[0], group=group)
    batches = packed(Packer(described, 1 << 20, 100_000), replace(stored, documents=(document,)))
    assert len(batches) > 3
    for batch in batches[:-1]:
        assert 100_000 - 256 < encoded(batch).size <= 100_000


def test_a_batch_ends_at_its_bytes_although_it_has_few_rows() -> None:
    described = spec(1 << 18)
    batches = packed(Packer(described, 1 << 20, 64 << 20), rows_of(described, [10, 10, 10]))
    assert [batch.rows for batch in batches] == [10, 10, 10]
    assert 10 * described.row_bytes < BATCH_BYTES


def test_a_batch_ends_where_the_step_changes() -> None:
    described = spec(8)
    added = [rows_of(described, [3], step=n // 2, first=n) for n in range(5)]
    batches = packed(Packer(described, 1 << 20, 1 << 20), *added)
    assert [(batch.step, batch.rows) for batch in batches] == [(0, 6), (1, 6), (2, 3)]


def test_sequences_that_are_one_document_stay_apart_as_rows() -> None:
    described = spec(8)
    one = rows_of(described, [3, 3])
    same = StoredRows(
        sites=one.sites,
        token_id=one.token_id,
        document=np.full(6, one.documents[0].id, np.uint64),
        position=one.position,
        span=None,
        documents=(one.documents[0], one.documents[0]),
        ends=one.ends,
        step=0,
    )
    (batch,) = packed(Packer(described, 100, 1 << 20), same)
    assert (batch.rows, len(batch.documents)) == (6, 1)


def test_a_row_or_a_text_that_no_batch_holds_is_refused() -> None:
    with pytest.raises(ResourceExhausted, match="fewer sites"):
        Packer(spec(1000, 20), 64, 50_000)
    described = spec(8)
    long = rows_of(described, [2])
    text = Document.from_text("x" * 50_000)
    odd = StoredRows(
        sites=long.sites,
        token_id=long.token_id,
        document=np.full(2, text.id, np.uint64),
        position=long.position,
        span=None,
        documents=(text,),
        ends=long.ends,
        step=0,
    )
    with pytest.raises(ResourceExhausted, match="passages"):
        packed(Packer(described, 64, 40_000), odd)
