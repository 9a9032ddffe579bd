"""A dictionary on a probe reads its codes and sums, and refuses what does not fit."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import (
    DeadFeature,
    InvalidInput,
    UnsupportedVersion,
)
from isogloss.store import CodesFile, RecordingReader, read_arrays, write_arrays
from isogloss.universality import Probe, load_probed
from isogloss.universality.codes.probed import has_sums

Encoded = tuple[RecordingReader, Probe, Path]

Floats = NDArray[np.float32]


def dense(codes: CodesFile) -> Floats:
    block = codes.row_slice(0, codes.rows)
    rows = np.repeat(np.arange(codes.rows), np.diff(block.indptr))
    values = np.zeros((codes.rows, codes.features), np.float32)
    values[rows, block.indices] = block.values
    return values


def test_moments_are_those_of_the_present_segments(encoded: Encoded) -> None:
    probed = load_probed(encoded[2], "d")
    found = dense(probed.codes).astype(np.float64)
    assert probed.moments.rows == probed.present.sum()
    np.testing.assert_allclose(probed.moments.total, found.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(probed.moments.squares, (found**2).sum(axis=0), rtol=1e-12)
    assert np.array_equal(probed.moments.fires, (found > 0).sum(axis=0))


@pytest.mark.parametrize("resident", [0, 10**6])
def test_features_are_read_in_the_order_asked(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch, resident: int
) -> None:
    monkeypatch.setattr("isogloss.universality.codes.probed._RESIDENT_ENTRIES", resident)
    probed = load_probed(encoded[2], "d")
    found = probed.features_matrix([7, 2, 7]).toarray()
    np.testing.assert_array_equal(found, dense(probed.codes)[:, [7, 2, 7]].T)
    assert probed.features_matrix([]).shape == (0, encoded[1].segments)


def test_sums_are_known_to_be_there_or_not(encoded: Encoded, tmp_path: Path) -> None:
    assert has_sums(encoded[2])
    assert not has_sums(tmp_path)


def test_unfit_features_are_refused(encoded: Encoded) -> None:
    probed = load_probed(encoded[2], "d")
    with pytest.raises(InvalidInput, match="features 0 to 23"):
        probed.check_feature(24)
    fires = int(probed.moments.fires[3])
    probed.check_feature(3, fires)
    with pytest.raises(DeadFeature, match=f"fires on {fires} of"):
        probed.check_feature(3, fires + 1)


def test_sums_of_a_later_release_are_refused(encoded: Encoded) -> None:
    directory = encoded[2]
    arrays, attributes = read_arrays(directory / "sums")
    write_arrays(directory / "sums", arrays, {**attributes, "version": 2})
    with pytest.raises(UnsupportedVersion, match="version 2"):
        load_probed(directory, "d")
