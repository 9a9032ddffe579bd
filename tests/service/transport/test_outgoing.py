"""Batches on their way: as they are, and cut into parts."""

import numpy as np
import pytest
import xxhash

from isogloss.service.transport.outgoing import as_it_is, encoded, parts_of
from isogloss.store import RowBatch
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()
BATCH = sample_batch(SPEC, "p", 3)
CONTENT = b"".join(BATCH.encode())


@pytest.mark.parametrize("part_bytes", [1, 7, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 1])
def test_parts_join_to_the_encoding_and_carry_their_checksums(part_bytes: int) -> None:
    found = list(parts_of(encoded(BATCH), part_bytes))
    payloads = [b"".join(part.payload) for part in found]
    assert b"".join(payloads) == CONTENT
    assert {len(payload) for payload in payloads[:-1]} <= {part_bytes}
    for number, (part, payload) in enumerate(zip(found, payloads, strict=True)):
        head = part.head
        assert (head.sequence, head.part, head.parts) == (3, number, len(found))
        assert (head.batch_bytes, head.xxh3) == (
            len(CONTENT),
            xxhash.xxh3_64_intdigest(payload),
        )


def test_a_batch_as_it_is_has_the_size_of_its_arrays_and_texts() -> None:
    outgoing = as_it_is(BATCH)
    assert outgoing.batch is BATCH
    assert outgoing.pieces == ()
    arrays = [*BATCH.sites.values(), BATCH.token_id, BATCH.document, BATCH.position, BATCH.span]
    texts = sum(len((document.text or "").encode()) for document in BATCH.documents)
    assert outgoing.size == sum(np.asarray(array).nbytes for array in arrays) + texts
    assert 0 < encoded(BATCH).size - outgoing.size < 1000, "the encoding adds more than a header"
    assert RowBatch.decode(CONTENT, SPEC).sequence == 3
