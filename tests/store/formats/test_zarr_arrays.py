import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import tensorstore
import zarr

from isogloss.errors import (
    CorruptData,
    InvalidInput,
    NotFound,
    ShapeError,
    StorageFull,
)
from isogloss.store import (
    read_arrays,
    register_bfloat16,
    write_arrays,
)
from isogloss.store.disk import signed_json
from isogloss.store.disk.filesystem import FileSystem
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


def with_shape(directory: Path, shape: list[int], chunk: list[int]) -> None:
    """Give an array another shape, and sign its metadata as a writer would."""
    path = directory / "zarr.json"
    document = json.loads(path.read_bytes())
    document["attributes"] = {}
    document["shape"] = shape
    document["chunk_grid"]["configuration"]["chunk_shape"] = chunk
    document["attributes"] = {signed_json.KEY: signed_json.checksum(document)}
    path.write_text(json.dumps(document))


def test_rows_that_no_file_holds_are_neither_walked_nor_given_memory(tmp_path: Path) -> None:
    flat = np.zeros((3, 0), np.float32)
    write_arrays(tmp_path / "g", {"flat": flat, "rows": np.zeros((4, 8), np.float32)}, {})
    with_shape(tmp_path / "g" / "flat", [10**15, 0], [4, 1])
    assert list(arrays_module.ArrayFile(FileSystem(), tmp_path / "g" / "flat").blocks()) == []
    for rows, chunk_rows in ((10**13, 4), (10**13, 10**13), (10**13, 10**12)):
        with_shape(tmp_path / "g" / "rows", [rows, 8], [chunk_rows, 8])
        array = arrays_module.ArrayFile(FileSystem(), tmp_path / "g" / "rows")
        with pytest.raises(CorruptData, match="chunk"):
            array.read()
        with pytest.raises(CorruptData, match="chunk"):
            list(array.blocks())


def test_blocks_are_as_large_as_asked_and_hold_every_row(tmp_path: Path) -> None:
    rows = np.arange(70, dtype=np.float32).reshape(10, 7)
    write_arrays(tmp_path / "g", {"rows": rows}, {})
    array = arrays_module.ArrayFile(FileSystem(), tmp_path / "g" / "rows")
    blocks = list(array.blocks(block_bytes=3 * array.row_bytes))
    assert [len(block) for block in blocks] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(blocks), rows)


@pytest.mark.parametrize(
    ("name", "value"),
    [("codecs", []), ("chunk_shape", [10, 1]), ("chunk_shape", []), ("data_type", "complex64")],
)
def test_signed_metadata_of_another_layout_is_refused(
    tmp_path: Path, name: str, value: object
) -> None:
    write_arrays(tmp_path / "g", {"x": np.arange(10)}, {})
    metadata = tmp_path / "g" / "x" / "zarr.json"
    document = json.loads(metadata.read_text())
    holder = document["chunk_grid"]["configuration"] if name == "chunk_shape" else document
    holder[name] = value
    document["attributes"] = {}
    document["attributes"] = {"crc32c": signed_json.checksum(document)}
    metadata.write_text(json.dumps(document))
    with pytest.raises(CorruptData, match="'x' has unusable metadata"):
        read_arrays(tmp_path / "g")
