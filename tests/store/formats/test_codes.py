"""Codes are the same by row and by feature, or refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import (
    Conflict,
    CorruptData,
    InvalidInput,
    NotFound,
)
from isogloss.store import (
    CodesFile,
    CodesWriter,
)
from isogloss.store.formats import codes as codes_file


def sparse(
    rows: int, features: int, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    dense = np.where(
        random.random((rows, features)) < 0.2, random.random((rows, features)), 0
    ).astype(np.float32)
    row, feature = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))]).astype(np.int64)
    return dense, indptr, feature.astype(np.int32), dense[row, feature]


@settings(max_examples=25, deadline=None)
@given(
    st.integers(0, 60),
    st.integers(1, 30),
    st.integers(1, 70),
    st.integers(1, 4),
    st.integers(0, 100),
)
def test_codes_are_the_same_by_row_and_by_feature(
    tmp_path_factory: pytest.TempPathFactory,
    rows: int,
    features: int,
    pass_entries: int,
    parts: int,
    seed: int,
) -> None:
    directory = tmp_path_factory.mktemp("codes") / "c"
    dense, indptr, indices, values = sparse(rows, features, seed)
    with CodesWriter(directory, features, pass_entries=pass_entries) as writer:
        for part in np.array_split(np.arange(rows), parts):
            first = int(part[0]) if len(part) else 0
            low, high = int(indptr[first]), int(indptr[first + len(part)])
            writer.append(
                indptr[first : first + len(part) + 1] - low, indices[low:high], values[low:high]
            )
        assert writer.rows == rows
        writer.finish({"who": "test"})
    codes = CodesFile(directory)
    assert (codes.rows, codes.features, codes.entries) == (rows, features, len(values))
    assert codes.attributes == {"who": "test"}
    by_row = codes.row_slice(0, rows)
    np.testing.assert_array_equal(by_row.indptr, indptr)
    np.testing.assert_array_equal(by_row.indices, indices)
    np.testing.assert_array_equal(by_row.values, values)
    for feature in range(features):
        found_rows, found = codes.feature(feature)
        np.testing.assert_array_equal(found_rows, np.flatnonzero(dense[:, feature]))
        np.testing.assert_array_equal(found, dense[found_rows, feature])
    middle = codes.feature_slice(features // 3, features)
    assert middle.rows == features - features // 3
    assert middle.indptr[-1] == np.count_nonzero(dense[:, features // 3 :])
    low, high = rows // 4, rows // 2
    part = codes.row_slice(low, high)
    np.testing.assert_array_equal(part.indptr, indptr[low : high + 1] - indptr[low])
    codes.verify()


def test_codes_that_are_not_finished_do_not_exist(tmp_path: Path) -> None:
    with CodesWriter(tmp_path / "c", 5) as writer:
        writer.append(np.array([0, 1]), np.array([2], np.int32), np.array([1.0], np.float32))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NotFound, match="no arrays"):
        CodesFile(tmp_path / "c")
    with pytest.raises(Conflict, match="abandoned"):
        writer.finish({})


@pytest.mark.parametrize(
    ("indptr", "indices", "values", "match"),
    [
        ([0, 1], [5], [1.0], r"wanted \[0, 5\)"),
        ([0, 1], [-1], [1.0], r"wanted \[0, 5\)"),
        ([0, 2], [3, 3], [1.0, 1.0], "ascend"),
        ([0, 2], [3, 1], [1.0, 1.0], "ascend"),
        ([0, 1], [1], [np.nan], "NaN"),
        ([1, 1], [1], [1.0], "ascend from 0"),
        ([0, 2, 1], [1], [1.0], "ascend from 0"),
        ([0, 1], [1], [1.0, 2.0], "entries"),
        ([], [], [], "entries"),
    ],
)
def test_codes_that_are_no_canonical_rows_are_refused(
    tmp_path: Path, indptr: list[int], indices: list[int], values: list[float], match: str
) -> None:
    with (
        CodesWriter(tmp_path / "c", 5) as writer,
        pytest.raises(InvalidInput, match=match),
    ):
        writer.append(
            np.array(indptr, np.int64), np.array(indices, np.int32), np.array(values, np.float32)
        )


def test_damaged_codes_are_named(tmp_path: Path) -> None:
    _, indptr, indices, values = sparse(50, 20, 0)
    with CodesWriter(tmp_path / "c", 20) as writer:
        writer.append(indptr, indices, values)
        writer.finish({})
    path = tmp_path / "c" / "features.values" / "c.0"
    content = bytearray(path.read_bytes())
    content[9] ^= 1
    path.write_bytes(content)
    codes = CodesFile(tmp_path / "c")
    codes.row_slice(0, 50)
    with pytest.raises(CorruptData, match=r"features\.values"):
        codes.feature(3)
    with pytest.raises(CorruptData, match=r"features\.values"):
        codes.verify()
    for part in (tmp_path / "c" / "rows.ends").iterdir():
        part.unlink()
    with pytest.raises(CorruptData, match="lack a part"):
        CodesFile(tmp_path / "c")


def test_codes_that_are_turned_in_many_blocks_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(codes_file, "_BLOCK_ENTRIES", 7)
    dense, indptr, indices, values = sparse(50, 20, 3)
    with CodesWriter(tmp_path / "codes", features=20) as writer:
        writer.append(indptr, indices, values)
        writer.finish({})
    codes = CodesFile(tmp_path / "codes")
    for feature in range(20):
        rows, found = codes.feature(feature)
        np.testing.assert_array_equal(rows, np.flatnonzero(dense[:, feature]))
        np.testing.assert_array_equal(found, dense[rows, feature])
    codes.verify()
