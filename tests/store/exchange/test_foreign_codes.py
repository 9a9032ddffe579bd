"""Codes that another tool computed: every form is read alike, and everything wrong is refused."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import cast

import ml_dtypes
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, NotFound, ShapeError
from isogloss.store import CodesDigest, check_codes

SEGMENTS, FEATURES = 12, 7
# what a caller who does not check types can do
Anything = Callable[..., object]


def some_codes(seed: int = 0) -> sp.csr_array:
    random = np.random.default_rng(seed)
    values = random.random((SEGMENTS, FEATURES)).astype(np.float32)
    fires = random.random(values.shape) < 0.3
    fires[0], fires[1, 0] = False, True
    return sp.csr_array(values * fires)


def columns_of(codes: sp.csr_array) -> dict[str, NDArray[np.generic]]:
    found = codes.tocoo()
    return {"segment": found.row, "feature": found.col, "value": found.data}


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "lil", "dok"])
def test_every_sparse_format_and_columns_in_any_order_give_the_same(form: str) -> None:
    codes = some_codes()
    wanted = check_codes(codes, segments=SEGMENTS)
    found = check_codes(codes.asformat(form), segments=SEGMENTS, features=FEATURES)
    columns = columns_of(codes)
    order = np.random.default_rng(1).permutation(codes.nnz)
    shuffled = {name: column[order] for name, column in columns.items()}
    by_columns = check_codes(shuffled, segments=SEGMENTS, features=FEATURES)
    for one in (found, by_columns):
        assert one.digest == wanted.digest
        assert one.features == FEATURES
        dense = sp.csr_array(
            (one.codes.values, one.codes.indices, one.codes.indptr), shape=codes.shape
        )
        np.testing.assert_array_equal(dense.toarray(), codes.toarray())
    assert wanted.present.all()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ml_dtypes.bfloat16])
@pytest.mark.parametrize("ids", ["uint8", "int32", "uint64"])
def test_numbers_of_every_width_are_read(dtype: str, ids: str) -> None:
    columns = {
        "segment": np.array([0, 3], ids),
        "feature": np.array([6, 1], ids),
        "value": np.array([0.5, 2.0]).astype(dtype),
    }
    found = check_codes(columns, segments=SEGMENTS, features=FEATURES)
    assert found.codes.values.tolist() == [0.5, 2.0]
    assert found.codes.indices.tolist() == [6, 1]


def test_stored_zeros_say_nothing_and_are_dropped() -> None:
    columns = {
        "segment": np.array([0, 1, 1]),
        "feature": np.array([2, 0, 3]),
        "value": np.array([0.0, 2.0, 0.0]),
    }
    found = check_codes(columns, segments=SEGMENTS, features=FEATURES)
    assert found.codes.indices.tolist() == [0]
    assert found.codes.indptr.tolist() == [0, 0, *[1] * (SEGMENTS - 1)]


@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(1, SEGMENTS - 1), max_size=5))
@settings(max_examples=30, deadline=None)
def test_parts_have_the_digest_of_the_whole_however_they_are_cut(
    seed: int, cuts: list[int]
) -> None:
    whole = check_codes(some_codes(seed), segments=SEGMENTS)
    digest = CodesDigest(FEATURES)
    ends = [0, *sorted(set(cuts)), SEGMENTS]
    for start, stop in pairwise(ends):
        digest.update(whole.part(start, stop))
    assert digest.hexdigest() == whole.digest
    other = check_codes(some_codes(seed + 1001), segments=SEGMENTS)
    assert other.digest != whole.digest


_GOOD: Mapping[str, NDArray[np.generic]] = {
    "segment": np.array([0, 1, 1]),
    "feature": np.array([2, 0, 3]),
    "value": np.array([1.0, 2.0, 3.0], np.float32),
}


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"segment": np.array([0, 1, 12])}, InvalidInput, r"segment 12 of entry 2.*\[0, 12\)"),
        ({"segment": np.array([0, -1, 1])}, InvalidInput, "segment -1 of entry 1"),
        ({"feature": np.array([2, 0, 7])}, InvalidInput, r"feature 7 of entry 2.*\[0, 7\)"),
        ({"segment": np.array([0.0, 1, 1])}, InvalidInput, "segment is float64, wanted whole"),
        ({"feature": np.array([True, False, True])}, InvalidInput, "feature is bool"),
        ({"value": np.array([1, 2, 3])}, InvalidInput, "value is int64, wanted floats"),
        ({"value": np.array([1, 2, "x"], object)}, InvalidInput, "value is object"),
        ({"value": np.array([1, 2j, 3])}, InvalidInput, "value is complex128"),
        ({"value": np.array([1.0, -2.0, 3.0])}, InvalidInput, "activation -2.0 of feature 0 on"),
        ({"value": np.array([1.0, np.nan, 3.0])}, InvalidInput, "activation nan of feature 0"),
        ({"value": np.array([1.0, np.inf, 3.0])}, InvalidInput, "not finite"),
        ({"value": np.array([1.0, 1e300, 3.0])}, InvalidInput, "not finite in float32"),
        ({"feature": np.array([2, 3, 3])}, InvalidInput, "feature 3 on segment 1 is given twice"),
        ({"value": np.array([1.0])}, ShapeError, r"value \[1\] must be"),
        ({"segment": np.zeros((3, 1), int)}, ShapeError, r"segment \[3, 1\]"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_first_place(
    changed: Mapping[str, NDArray[np.generic]], error: type[Exception], message: str
) -> None:
    check_codes(_GOOD, segments=SEGMENTS, features=FEATURES)
    with pytest.raises(error, match=message):
        check_codes({**_GOOD, **changed}, segments=SEGMENTS, features=FEATURES)


def test_shapes_features_and_kinds_of_codes_are_checked(tmp_path: Path) -> None:
    codes = some_codes()
    with pytest.raises(ShapeError, match=r"codes are \[12, 7\], wanted \[13, features\]"):
        check_codes(codes, segments=13)
    with pytest.raises(ShapeError, match=r"wanted \[12, 8\]"):
        check_codes(codes, segments=SEGMENTS, features=8)
    with pytest.raises(InvalidInput, match="give features="):
        check_codes(_GOOD, segments=SEGMENTS)
    for features in (0, -1, 1 << 31, True):
        with pytest.raises(InvalidInput, match="features is"):
            cast("Anything", check_codes)(_GOOD, segments=SEGMENTS, features=features)
    with pytest.raises(InvalidInput, match="lack value"):
        check_codes({"segment": _GOOD["segment"], "feature": _GOOD["feature"]}, segments=3)
    with pytest.raises(InvalidInput, match=r"ends in '\.csv'"):
        check_codes(tmp_path / "codes.csv", segments=SEGMENTS)


def test_codes_of_absent_segments_are_refused_and_presence_is_in_the_digest() -> None:
    codes, present = some_codes(), np.ones(SEGMENTS, np.bool_)
    whole = check_codes(codes, segments=SEGMENTS)
    silent, loud = 0, 1
    present[silent] = False
    assert check_codes(codes, segments=SEGMENTS, present=present).digest != whole.digest
    present[loud] = False
    with pytest.raises(InvalidInput, match=f"segment {loud} is not present and has codes"):
        check_codes(codes, segments=SEGMENTS, present=present)
    with pytest.raises(ShapeError, match=r"wanted bool \[12\]"):
        check_codes(codes, segments=SEGMENTS, present=present[:-1])


def test_a_scipy_file_is_read_and_a_damaged_or_pickled_one_refused(tmp_path: Path) -> None:
    codes = some_codes()
    sp.save_npz(tmp_path / "codes.npz", codes)
    found = check_codes(tmp_path / "codes.npz", segments=SEGMENTS)
    assert found.digest == check_codes(codes, segments=SEGMENTS).digest
    data = (tmp_path / "codes.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(data[: len(data) // 2])
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "pickled.npz", format=np.array([{}], object), data=np.zeros(1))
    for name in ("cut.npz", "other.npz", "pickled.npz"):
        with pytest.raises(CorruptData, match="write it again"):
            check_codes(tmp_path / name, segments=SEGMENTS)
    with pytest.raises(NotFound, match="no file"):
        check_codes(tmp_path / "none.npz", segments=SEGMENTS)


@pytest.mark.parametrize("features", [0, 1 << 31, True])
def test_more_features_than_an_index_can_name_are_refused(features: object) -> None:
    columns = columns_of(some_codes())
    with pytest.raises(
        InvalidInput, match=r"features is .*, wanted a whole number in \[1, 2\*\*31\)"
    ):
        cast("Anything", check_codes)(columns, segments=SEGMENTS, features=features)
    most = check_codes(columns, segments=SEGMENTS, features=(1 << 31) - 1)
    assert most.features == (1 << 31) - 1
