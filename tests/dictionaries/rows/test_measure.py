import logging
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.dictionaries import Source, WiredColumns, training_rows
from isogloss.dictionaries.kinds.kind import Normalisation
from isogloss.dictionaries.rows.joined import join_rows
from isogloss.dictionaries.rows.measure import measure_rows
from isogloss.errors import InvalidInput
from isogloss.store import RecordingReader

SITE = "encoder.layer.3"


def _measured(
    reader: RecordingReader, keep: NDArray[np.bool_], width: int, sites: int = 1
) -> Normalisation:
    joined = join_rows([Source(reader=reader, site=SITE)] * sites)
    writes = range((sites - 1) * width, sites * width)
    return measure_rows(joined, keep, WiredColumns(reads=range(width), writes=writes)).normalisation


def _all(reader: RecordingReader) -> NDArray[np.bool_]:
    return np.ones(reader.rows, dtype=np.bool_)


def test_rows_are_scaled_to_a_total_variance_of_their_width(recorded: RecordingReader):
    keep = training_rows(recorded, 0.25)
    found = _measured(recorded, keep, 32)
    rows = recorded.read(SITE, 0, recorded.rows)[keep].astype(np.float64) * found.scale
    assert found.variance == pytest.approx(32, rel=1e-9)
    assert np.square(rows - rows.mean(0)).sum(1).mean() == pytest.approx(32, rel=1e-9)
    np.testing.assert_allclose(found.mean.numpy(), rows.mean(0), atol=1e-12)


def test_the_variance_is_that_of_the_columns_to_reconstruct(recorded: RecordingReader):
    keep = training_rows(recorded, 0.25)
    half = _measured(recorded, keep, 32, sites=2)
    assert half.mean.shape == (64,)
    assert half.variance == pytest.approx(32, rel=1e-9)


def test_a_constant_offset_changes_neither_scale_nor_variance(
    record: Callable[..., RecordingReader],
):
    rows = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    plain = _measured(reader := record(rows, dtype="float32"), _all(reader), 8)
    rows[:, 2] += 1e4
    moved = _measured(reader := record(rows, dtype="float32"), _all(reader), 8)
    assert moved.scale == pytest.approx(plain.scale, rel=1e-6)
    assert moved.variance == pytest.approx(plain.variance, rel=1e-6)


def test_one_huge_row_is_not_measured_and_it_is_said(
    record: Callable[..., RecordingReader], caplog: pytest.LogCaptureFixture
):
    rows = np.random.default_rng(0).standard_normal((8000, 8)).astype(np.float32)
    plain = _measured(reader := record(rows, dtype="float32"), _all(reader), 8)
    rows[4000] = 1e6
    with caplog.at_level(logging.WARNING):
        found = _measured(reader := record(rows, dtype="float32"), _all(reader), 8)
    assert found.scale == pytest.approx(plain.scale, rel=1e-3)
    np.testing.assert_allclose(found.mean.numpy(), plain.mean.numpy(), atol=1e-3)
    assert "1 of 8000 rows of site encoder.layer.3" in caplog.text


@pytest.mark.parametrize("offset", [1.0, 1e6])
def test_rows_that_do_not_vary_are_refused_however_large_they_are(
    record: Callable[..., RecordingReader], offset: float
):
    reader = record(np.full((200, 4), offset, dtype=np.float32), dtype="float32")
    with pytest.raises(InvalidInput, match="do not vary"):
        _measured(reader, _all(reader), 4)


def test_rows_of_which_most_are_equal_have_no_limit(record: Callable[..., RecordingReader]):
    rows = np.zeros((300, 4), dtype=np.float32)
    rows[::5] = np.random.default_rng(0).standard_normal((60, 4))
    reader = record(rows, dtype="float32")
    found = _measured(reader, _all(reader), 4)
    assert found.variance == pytest.approx(4, rel=1e-9)
