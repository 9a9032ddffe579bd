"""Batches in the order of the recording hold all rows once, with their tokens."""

from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import InvalidInput, NotFound, ShapeError
from isogloss.store import Store, TokenColumns
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec()
SITES = ("layer.1/out", "layer.2")


@pytest.mark.parametrize("batch_rows", [1, 64, 10_000])
def test_batches_are_all_rows_in_their_order(tmp_path: Path, batch_rows: int) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        lane = recording.open_lane()
        lane.append([sample_batch(SPEC, "p", i) for i in range(1, 11)])
        reader = recording.reader()
        found = list(reader.batches(SITES, batch_rows=batch_rows))
        assert [batch.start for batch in found] == list(range(0, reader.rows, batch_rows))
        for site in SITES:
            joined = np.concatenate([batch.sites[site] for batch in found])
            assert joined.tobytes() == reader.read(site, 0, reader.rows).tobytes()
        tokens = TokenColumns.concatenate([batch.tokens for batch in found], SPEC.has_spans)
        np.testing.assert_array_equal(tokens.token_id, reader.tokens().token_id)
        assert sum(batch.rows for batch in found) == reader.rows
        part = list(reader.batches(SITES[:1], batch_rows=7, start=3, stop=20))
        assert [batch.rows for batch in part] == [7, 7, 3]
        assert list(reader.batches(SITES, start=5, stop=5)) == []
        with pytest.raises(InvalidInput, match="batch_rows 0"):
            reader.batches(SITES, batch_rows=0)
        with pytest.raises(NotFound, match="nope"):
            reader.batches(["nope"])
        with pytest.raises(ShapeError, match="must lie"):
            reader.batches(SITES, stop=reader.rows + 1)
