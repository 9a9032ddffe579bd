import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorstore
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import (
    Conflict,
    CorruptData,
    InvalidInput,
    NotFound,
    ShapeError,
    StorageFull,
)
from isogloss.store import (
    CodesFile,
    CodesWriter,
    read_arrays,
    register_bfloat16,
    write_arrays,
)
from isogloss.store.disk import signed_json
from isogloss.store.formats import zarr_arrays as arrays_module
from isogloss.store.testing import FaultyFiles

SAMPLES = {
    "flags": np.array([True, False, True]),
    "bytes": np.arange(7, dtype=np.uint8),
    "ids": np.arange(10, dtype=np.uint64) << np.uint64(40),
    "matrix": np.random.default_rng(0).normal(size=(33, 5)).astype(np.float32),
    "cube": np.arange(24, dtype=np.int16).reshape(2, 3, 4),
    "half": np.linspace(-1, 1, 9).astype(ml_dtypes.bfloat16),
    "empty": np.empty(0, np.int32),
    "flat": np.empty((4, 0), np.float64),
    "number": np.array(7.5),
    "backwards": np.arange(12.0).reshape(3, 4)[::-1].T,
}


def test_arrays_and_attributes_are_read_back(tmp_path: Path) -> None:
    write_arrays(tmp_path / "g", SAMPLES, {"a": [1, None], "b": {"c": "d"}})
    found, attributes = read_arrays(tmp_path / "g")
    assert attributes == {"a": [1, None], "b": {"c": "d"}}
    assert found.keys() == SAMPLES.keys()
    for name, values in SAMPLES.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        assert found[name].tobytes() == values.tobytes()


def test_zarr_and_tensorstore_read_the_same_arrays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(arrays_module, "CHUNK_BYTES", 100)
    write_arrays(tmp_path / "g", SAMPLES, {"answer": 42})
    register_bfloat16()
    group = zarr.open_group(str(tmp_path / "g"), mode="r")
    assert group.attrs["answer"] == 42
    for name, values in SAMPLES.items():
        there = group[name]
        assert isinstance(there, zarr.Array)
        assert np.asarray(there[...]).tobytes() == values.tobytes()
        spec = {
            "driver": "zarr3",
            "kvstore": {"driver": "file", "path": str(tmp_path / "g" / name)},
        }
        assert tensorstore.open(spec).result().read().result().tobytes() == values.tobytes()


def test_writing_again_replaces_all_that_stood_there(tmp_path: Path) -> None:
    write_arrays(tmp_path / "g", SAMPLES, {})
    write_arrays(tmp_path / "g", {"new": np.zeros(2)}, {"v": 2})
    found, attributes = read_arrays(tmp_path / "g")
    assert list(found) == ["new"]
    assert attributes == {"v": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["g"]


@pytest.mark.parametrize("operation", ["write", "sync_data", "create", "make_directory", "replace"])
def test_a_write_that_fails_leaves_what_stood_there(tmp_path: Path, operation: str) -> None:
    write_arrays(tmp_path / "g", {"old": np.ones(3)}, {})
    for number in (1, 2):
        files = FaultyFiles(fail_at=number, error=28, operations=frozenset({operation}))
        with pytest.raises(StorageFull, match="free space"):
            write_arrays(tmp_path / "g", SAMPLES, {}, files=files)
        if operation != "replace" or number == 1:
            assert list(read_arrays(tmp_path / "g")[0]) == ["old"]
            assert [path.name for path in tmp_path.iterdir()] == ["g"]


@pytest.mark.parametrize("at", [0, 100, -1, -4])
def test_a_flipped_bit_is_found_and_its_array_named(tmp_path: Path, at: int) -> None:
    write_arrays(tmp_path / "g", SAMPLES, {})
    path = tmp_path / "g" / "matrix" / "c.0.0"
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)
    with pytest.raises(CorruptData, match=r"'matrix' does not match its checksum"):
        read_arrays(tmp_path / "g")


def test_missing_short_and_unreadable_parts_are_named(tmp_path: Path) -> None:
    write_arrays(tmp_path / "g", SAMPLES, {})
    path = tmp_path / "g" / "matrix" / "c.0.0"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    with pytest.raises(CorruptData, match="663 bytes, wanted 664"):
        read_arrays(tmp_path / "g")
    path.unlink()
    with pytest.raises(CorruptData, match=r"'matrix' lacks chunk 0"):
        read_arrays(tmp_path / "g")
    for text in ("{", "[]", "{}", '{"shape": [9]}'):
        (path.parent / "zarr.json").write_text(text)
        with pytest.raises(CorruptData, match="metadata of array 'matrix'"):
            read_arrays(tmp_path / "g")
    with pytest.raises(NotFound, match="no arrays"):
        read_arrays(tmp_path / "none")


def test_a_shape_that_lies_allocates_nothing(tmp_path: Path) -> None:
    write_arrays(tmp_path / "g", {"x": np.arange(10)}, {})
    metadata = tmp_path / "g" / "x" / "zarr.json"
    metadata.write_text(metadata.read_text().replace('"shape": [10]', f'"shape": [{10**15}]'))
    with pytest.raises(CorruptData, match="does not match its checksum"):
        read_arrays(tmp_path / "g")
    document = json.loads(metadata.read_text())
    document["attributes"] = {}
    document["attributes"] = {"crc32c": signed_json.checksum(document)}
    metadata.write_text(json.dumps(document))
    with pytest.raises(CorruptData, match="lacks chunk"):
        read_arrays(tmp_path / "g")


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "zarr.json", "x" * 201, "__x"])
def test_names_that_could_leave_the_directory_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match="array name"):
        write_arrays(tmp_path / "g", {name: np.zeros(1)}, {})
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_stored_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ShapeError, match="cannot be stored"):
        write_arrays(tmp_path / "g", {"x": np.array(["text"])}, {})
    with pytest.raises(InvalidInput, match="plain JSON"):
        write_arrays(tmp_path / "g", {}, {"x": float("inf")})
    with pytest.raises(InvalidInput, match="reserved"):
        write_arrays(tmp_path / "g", {}, {"crc32c": "x"})
    assert list(tmp_path.iterdir()) == []


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
