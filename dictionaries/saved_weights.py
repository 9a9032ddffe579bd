"""The weights of a saved dictionary as bytes, without torch: what a server sends of them.

A safetensors file is 8 bytes with the length of a JSON object, that object, and the tensors' bytes
one after another (https://huggingface.co/docs/safetensors). The object names for each tensor its
``dtype``, its ``shape`` and ``data_offsets``: its first byte behind the object, and the one after
its last.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import cast

from isogloss.errors import CorruptData, NotFound

_MOST_HEADER = 1 << 20
_DTYPES = {"F32": ("float32", 4), "F16": ("float16", 2), "BF16": ("bfloat16", 2)}


@dataclass(frozen=True, kw_only=True, slots=True)
class SavedTensor:
    """Where one tensor lies in the file."""

    name: str
    """Its name, such as ``encoder``."""
    dtype: str
    """``float32``, ``float16`` or ``bfloat16``."""
    shape: tuple[int, ...]
    """Its sizes; none for a single number."""
    start: int
    """Its first byte in the file."""
    size: int
    """Its length in bytes."""


class SavedWeights:
    """An open file of weights; a context manager. What is read stays the same after a deletion."""

    def __init__(self, directory: Path) -> None:
        """Open the weights in a dictionary's directory.

        Args:
            directory: holds ``dictionary.json`` and the weights.

        Raises:
            NotFound: the directory holds no weights.
            CorruptData: the file is not what it should be.
        """
        self._path = directory / "weights.safetensors"
        try:
            self._file = self._path.open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"{directory} holds no weights: delete the dictionary") from None
        except OSError as error:
            raise CorruptData(f"{self._path} cannot be read ({error}); restore it") from error
        try:
            self.tensors = self._read_header()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "SavedWeights":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    @property
    def state(self) -> tuple[int, int, int]:
        """Names the file as it is: inode, size, and time of the last change."""
        found = os.fstat(self._file.fileno())
        return (found.st_ino, found.st_size, found.st_mtime_ns)

    def blocks(self, tensor: SavedTensor, block_bytes: int) -> Iterator[tuple[int, bytes]]:
        """Yield the bytes of a tensor in order, each block with the place of its first byte.

        Args:
            tensor: one of ``tensors``.
            block_bytes: most bytes of a block.

        Yields:
            Place within the tensor, and bytes.

        Raises:
            CorruptData: the file is shorter than its header says, or cannot be read.
        """
        for place in range(0, tensor.size, block_bytes):
            wanted = min(block_bytes, tensor.size - place)
            yield place, self._read(tensor.start + place, wanted)

    def passport(self) -> str:
        """Return the passport beside the weights as it stands there; empty where there is none.

        Raises:
            CorruptData: the file cannot be read, or is larger than a passport.
        """
        path = self._path.with_name("passport.json")
        try:
            raw = path.read_bytes() if path.stat().st_size <= _MOST_HEADER else None
            text = None if raw is None else raw.decode()
        except FileNotFoundError:
            return ""
        except (OSError, ValueError) as error:
            raise CorruptData(f"{path} cannot be read ({error}); restore it") from error
        if text is None:
            raise CorruptData(f"{path} is larger than {_MOST_HEADER} bytes: no passport")
        return text

    def check(self) -> None:
        """Compare the whole file with the checksum that ``dictionary.json`` beside it has.

        Raises:
            CorruptData: it differs, or one of the two files cannot be read.
        """
        description = self._path.with_name("dictionary.json")
        try:
            wanted = json.loads(description.read_bytes())["files"][self._path.name]
            self._file.seek(0)
            found = hashlib.file_digest(self._file, "sha256").hexdigest()
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise CorruptData(
                f"{description} or the weights beside it cannot be read ({error!r}); restore them "
                "from a copy or train again"
            ) from error
        if found != wanted:
            raise CorruptData(
                f"{self._path} has sha256 {found}, its description says {wanted}; restore it from "
                "a copy or train again"
            )

    def _read(self, start: int, size: int) -> bytes:
        try:
            found = os.pread(self._file.fileno(), size, start)
        except OSError as error:
            raise CorruptData(f"{self._path} cannot be read ({error}); restore it") from error
        if len(found) != size:
            raise CorruptData(
                f"{self._path} ends after {start + len(found)} bytes, wanted {start + size}; "
                "restore it from a copy"
            )
        return found

    def _read_header(self) -> tuple[SavedTensor, ...]:
        size = int.from_bytes(self._read(0, 8), "little")
        if size > _MOST_HEADER:
            raise CorruptData(f"{self._path} begins with {size} bytes of names: no safetensors")
        try:
            header = cast("dict[str, Mapping[str, object]]", json.loads(self._read(8, size)))
            header.pop("__metadata__", None)
            found = [_tensor(name, entry, 8 + size) for name, entry in header.items()]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise CorruptData(f"{self._path} is not a safetensors file: {error}") from error
        return tuple(sorted(found, key=lambda tensor: tensor.start))


def _tensor(name: str, entry: Mapping[str, object], begins: int) -> SavedTensor:
    dtype, itemsize = _DTYPES[str(entry["dtype"])]
    shape = tuple(int(size) for size in cast("list[int]", entry["shape"]))
    start, stop = (int(place) for place in cast("list[int]", entry["data_offsets"]))
    if min((start, *shape)) < 0 or stop - start != prod(shape) * itemsize:
        raise ValueError(f"tensor {name!r} is {dtype} {list(shape)} in bytes [{start}, {stop})")
    return SavedTensor(name=name, dtype=dtype, shape=shape, start=begins + start, size=stop - start)
