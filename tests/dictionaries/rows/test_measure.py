import numpy as np
import pytest

from isogloss.dictionaries import training_rows
from isogloss.dictionaries.rows.measure import measure_rows
from isogloss.store import RecordingReader

SITE = "encoder.layer.3"


def test_rows_are_scaled_to_a_mean_squared_norm_of_their_width(recorded: RecordingReader):
    keep = training_rows(recorded, 0.25)
    found = measure_rows(recorded, [SITE], keep, range(32))
    rows = recorded.read(SITE, 0, recorded.rows)[keep].astype(np.float64) * found.scale
    assert np.square(rows).sum(1).mean() == pytest.approx(32, rel=1e-9)
    assert found.variance == pytest.approx(np.square(rows - rows.mean(0)).sum(1).mean(), rel=1e-9)
    np.testing.assert_allclose(found.mean.numpy(), rows.mean(0), atol=1e-12)


def test_the_variance_is_that_of_the_columns_to_reconstruct(recorded: RecordingReader):
    keep = training_rows(recorded, 0.25)
    half = measure_rows(recorded, [SITE, SITE], keep, range(32, 64))
    rows = recorded.read(SITE, 0, recorded.rows)[keep].astype(np.float64) * half.scale
    assert half.mean.shape == (64,)
    assert 2 * np.square(rows).sum(1).mean() == pytest.approx(64, rel=1e-9)
    assert half.variance == pytest.approx(np.square(rows - rows.mean(0)).sum(1).mean(), rel=1e-9)
