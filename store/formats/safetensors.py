"""``.safetensors`` files, written and read in parts without the library.

The format: a little-endian u64 with the length of a JSON object, the object (tensor name ->
``dtype``, ``shape``, ``data_offsets`` in what follows), then the numbers, without gap or overlap.
"""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from isogloss.errors import CorruptData
from isogloss.store.disk.filesystem import FileSystem, read_range
from isogloss.store.schema.json_fields import is_list, is_mapping

MOST_HEADER_BYTES = 100_000_000
"""The limit of the format."""
_LENGTH = struct.Struct("<Q")
_METADATA = "__metadata__"
_DTYPES: Mapping[str, np.dtype[np.generic]] = {
    "BOOL": np.dtype(np.bool_),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    **{f"F{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
    **{f"I{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorPlace:
    """Position, dtype and shape of a tensor in its file."""

    dtype: np.dtype[np.generic]
    """Dtype of the tensor."""

    shape: tuple[int, ...]
    """Its dimensions; row-major."""

    offset: int
    """First byte in the file."""

    length: int
    """Number of bytes."""


def safetensors_header(
    tensors: Mapping[str, tuple[np.dtype[np.generic], tuple[int, ...]]], metadata: Mapping[str, str]
) -> bytes:
    """Return the bytes of a file before its tensors, which follow in the order given."""
    document: dict[str, object] = {_METADATA: dict(metadata)} if metadata else {}
    place = 0
    for name, (dtype, shape) in tensors.items():
        length = dtype.itemsize * math.prod(shape)
        document[name] = {
            "dtype": _CODES[dtype],
            "shape": list(shape),
            "data_offsets": [place, place + length],
        }
        place += length
    text = json.dumps(document, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return _LENGTH.pack(len(text)) + text


def read_safetensors_header(
    files: FileSystem, path: Path, descriptor: int
) -> dict[str, TensorPlace]:
    """Return the tensors of a file by name.

    Args:
        files: the file system that the file is on.
        path: the file's path, for error messages.
        descriptor: the open file.

    Returns:
        Position, dtype and shape of each tensor, by name.

    Raises:
        CorruptData: the file is no safetensors file, was cut short, or its header does not fit its
            length.
    """
    size = files.size(descriptor)
    if size < _LENGTH.size:
        raise CorruptData(f"{path} has {size} bytes: it is no safetensors file")
    (length,) = _LENGTH.unpack(read_range(files, descriptor, 0, _LENGTH.size).tobytes())
    if length > min(MOST_HEADER_BYTES, size - _LENGTH.size):
        raise CorruptData(
            f"{path} has {size} bytes and says that its header has {length}: it was cut short, or "
            "is no safetensors file"
        )
    text = read_range(files, descriptor, _LENGTH.size, length).tobytes()
    start = _LENGTH.size + length
    try:
        document: object = json.loads(text, object_pairs_hook=_without_repeats)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"the header of {path} cannot be read: {error}") from error
    if not is_mapping(document):
        raise CorruptData(f"the header of {path} is no JSON object")
    places = {
        name: _place(path, name, entry, start)
        for name, entry in document.items()
        if name != _METADATA
    }
    end = start
    for name, place in sorted(places.items(), key=lambda item: (item[1].offset, item[1].length)):
        if place.offset != end:
            raise CorruptData(
                f"tensor {name!r} of {path} starts at byte {place.offset}, wanted {end}: tensors "
                "must follow without gap or overlap"
            )
        end += place.length
    if end != size:
        raise CorruptData(
            f"{path} has {size} bytes and its tensors end at {end}: it was cut short, or its "
            "header lies"
        )
    return places


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise CorruptData(f"a safetensors header names {len(pairs) - len(document)} tensors twice")
    return document


def _place(path: Path, name: str, entry: object, start: int) -> TensorPlace:
    """Return where a tensor stands; CorruptData unless its bytes are those its shape needs."""
    fields = entry if is_mapping(entry) else {}
    code, shape, offsets = fields.get("dtype"), fields.get("shape"), fields.get("data_offsets")
    dtype = _DTYPES.get(code) if isinstance(code, str) else None
    if dtype is None:
        raise CorruptData(f"tensor {name!r} of {path} has dtype {code!r}, wanted {sorted(_DTYPES)}")
    sizes = _whole_numbers(shape)
    bounds = _whole_numbers(offsets)
    if sizes is None or bounds is None or len(bounds) != 2:
        raise CorruptData(
            f"tensor {name!r} of {path} has shape {shape!r} and offsets {offsets!r}, wanted whole "
            "numbers >= 0"
        )
    wanted = dtype.itemsize * math.prod(sizes)
    if bounds[1] - bounds[0] != wanted:
        raise CorruptData(
            f"tensor {name!r} of {path} has {bounds[1] - bounds[0]} bytes, its shape "
            f"{list(sizes)} of {code} needs {wanted}: its header lies"
        )
    return TensorPlace(dtype=dtype, shape=sizes, offset=start + bounds[0], length=wanted)


def _whole_numbers(value: object) -> tuple[int, ...] | None:
    if not is_list(value):
        return None
    numbers = [n for n in value if isinstance(n, int) and not isinstance(n, bool) and n >= 0]
    return tuple(numbers) if len(numbers) == len(value) else None
