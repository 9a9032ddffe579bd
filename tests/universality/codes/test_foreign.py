"""Codes of another tool lie on disk as our own do, whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from isogloss.errors import NotFound, ShapeError
from isogloss.store import CheckedCodes, CodesFile, check_codes
from isogloss.universality import load_probed, write_foreign_codes
from isogloss.universality.testing import ProbeShape, random_codes, synthetic_probe

SHAPE = ProbeShape(documents=4, length=20)


@pytest.fixture
def codes() -> CheckedCodes:
    drawn = random_codes(np.random.default_rng(0), SHAPE.segments, 30, 4)
    present = np.ones(SHAPE.segments, np.bool_)
    present[5::7] = False
    kept = sp.csr_array(sp.diags_array(present.astype(float)) @ drawn)
    return check_codes(kept, segments=SHAPE.segments, present=present)


def test_they_are_read_back_with_their_sums_and_missing_segments(
    codes: CheckedCodes, tmp_path: Path
) -> None:
    parts = [codes.part(start, min(start + 33, codes.segments)) for start in range(0, 80, 33)]
    probe = synthetic_probe(SHAPE)
    write_foreign_codes(parts, probe, tmp_path / "codes", features=30)
    found = load_probed(tmp_path / "codes", "theirs")
    np.testing.assert_array_equal(found.present, codes.present)
    assert found.moments.rows == int(codes.present.sum())
    dense = sp.csr_array(
        (codes.codes.values, codes.codes.indices, codes.codes.indptr), shape=(80, 30)
    ).toarray()
    np.testing.assert_array_equal(found.features_matrix(np.arange(30)).toarray(), dense.T)
    np.testing.assert_allclose(found.moments.total, dense.sum(axis=0), rtol=1e-6)
    # again, as after a crash before the sums
    before = sorted(path.name for path in (tmp_path / "codes").iterdir())
    write_foreign_codes(parts, probe, tmp_path / "codes", features=30)
    assert sorted(path.name for path in (tmp_path / "codes").iterdir()) == before


def test_parts_of_other_sizes_leave_nothing(codes: CheckedCodes, tmp_path: Path) -> None:
    probe = synthetic_probe(SHAPE)
    with pytest.raises(ShapeError, match="cover 79 segments"):
        write_foreign_codes([codes.part(0, 79)], probe, tmp_path / "codes", features=30)
    with pytest.raises(ShapeError, match="a part is of 30 features, wanted 31"):
        write_foreign_codes([codes], probe, tmp_path / "codes", features=31)
    with pytest.raises(NotFound):
        CodesFile(tmp_path / "codes")
    assert not list(tmp_path.glob("codes*"))
