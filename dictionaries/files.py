"""Files written whole or not at all, with checksums."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from isogloss.errors import CorruptData
from isogloss.store import FileSystem, make_directories, write_file_durably

_BLOCK_BYTES = 1 << 20
_FILES = FileSystem()  # the store's writer: what is durable is decided in one place


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal, reading a MiB at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def make_directory(directory: Path) -> None:
    """Create a directory and its missing parents, each durable; nothing where it exists."""
    make_directories(_FILES, directory)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory durable."""
    _FILES.sync_directory(directory)


def write_json(path: Path, value: Mapping[str, object]) -> None:
    """Replace a JSON file: after any crash it is the old one or the new one, whole."""
    text = json.dumps(value, indent=1, allow_nan=False) + "\n"
    write_file_durably(path, text.encode(), files=_FILES)


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object whose numbers are all finite.

    Raises:
        CorruptData: the file is not a JSON object in UTF-8, holds a number that is not finite, or
            cannot be read.
        FileNotFoundError: there is no such file.
    """
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{path} is not there: {error}") from error
    except OSError as error:
        raise CorruptData(f"{path} cannot be read ({error}); restore it or train again") from error
    try:
        value: object = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise CorruptData(f"{path} is not JSON ({error}); restore it or train again") from error
    if not isinstance(value, dict):
        raise CorruptData(f"{path} holds a {type(value).__name__}; wanted a JSON object")
    return cast("dict[str, object]", value)


def _finite(text: str) -> float:
    """Return the number that a JSON text writes; ValueError where a float does not hold it."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text} is no finite number")
    return number


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> str:
    """Replace a safetensors file, whole or not at all; return the file's sha256."""
    partial = path.with_name(f".{path.name}.partial")
    # the library streams from the tensors: handing the store the bytes would copy all of them
    save_file(_apart(tensors), partial)
    descriptor = _FILES.open(partial, write=True)
    try:
        _FILES.sync_data(descriptor)
    finally:
        _FILES.close(descriptor)
    digest = sha256_of(partial)
    _FILES.replace(partial, path)
    _FILES.sync_directory(path.parent)
    return digest


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU; one that shares memory with another, such as a tied encoder,
    is copied, since the library refuses it."""
    found: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, value in tensors.items():
        here = value.detach().cpu().contiguous()
        if here.untyped_storage().data_ptr() in seen:
            here = here.clone()
        seen.add(here.untyped_storage().data_ptr())
        found[name] = here
    return found


def read_tensors(path: Path, sha256: object) -> dict[str, Tensor]:
    """Read a safetensors file whose sha256 must be the one given; the tensors own their memory.

    Raises:
        CorruptData: the file is missing, has another checksum or is not safetensors.
    """
    check_sha256(path, sha256)
    try:
        return {name: value.clone() for name, value in load_file(path).items()}
    except (SafetensorError, ValueError, OSError) as error:
        raise CorruptData(f"{path} is not a safetensors file: {error}") from error


def check_sha256(path: Path, sha256: object) -> None:
    """Compare a file with its recorded checksum.

    Raises:
        CorruptData: the file is missing or differs.
    """
    if not path.is_file():
        raise CorruptData(f"{path} is missing; restore it from a copy or train again")
    try:
        found = sha256_of(path)
    except OSError as error:
        raise CorruptData(f"{path} cannot be read ({error}); restore it from a copy") from error
    if found != sha256:
        raise CorruptData(
            f"{path} has sha256 {found}, its manifest says {sha256}; "
            "restore it from a copy or train again"
        )
