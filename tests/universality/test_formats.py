"""Files say what they are, and what is not that is refused with the remedy."""

from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData, UnsupportedVersion
from isogloss.universality.formats import attribute, check_kind, column


@pytest.mark.parametrize(
    "attributes",
    [
        {"kind": "probe", "version": 2},
        {"kind": "atlas", "version": 1},
        {"kind": "probe"},
        {},
    ],
)
def test_files_of_another_kind_or_version_are_refused(attributes: dict[str, object]) -> None:
    check_kind({"kind": "probe", "version": 1, "more": 0}, Path("here"), "probe", 1)
    with pytest.raises(UnsupportedVersion, match=r"here holds .* wanted 'probe' of version 1"):
        check_kind(attributes, Path("here"), "probe", 1)


def test_attributes_have_the_type_that_is_asked_for() -> None:
    attributes: dict[str, object] = {"seed": 3, "name": "a", "share": 0.5}
    assert attribute(attributes, "seed", int) == 3
    assert attribute(attributes, "name", str) == "a"
    assert attribute(attributes, "share", float) == 0.5
    with pytest.raises(CorruptData, match="'seed' is 3, wanted str"):
        attribute(attributes, "seed", str)
    with pytest.raises(CorruptData, match="'none' is None, wanted int"):
        attribute(attributes, "none", int)


def test_arrays_have_the_dtype_that_is_asked_for() -> None:
    arrays = {"fires": np.arange(3)}
    assert column(arrays, "fires", np.int64) is not None
    np.testing.assert_array_equal(column(arrays, "fires", np.int64), [0, 1, 2])
    with pytest.raises(CorruptData, match="'fires' is int64, wanted float32"):
        column(arrays, "fires", np.float32)
    with pytest.raises(CorruptData, match="'total' is missing, wanted float64"):
        column(arrays, "total", np.float64)
