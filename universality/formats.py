"""Kind, version, arrays and attributes of this room's files, checked when they are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, UnsupportedVersion

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Value = TypeVar("_Value", str, int, float)


def check_kind(attributes: Mapping[str, object], directory: Path, kind: str, version: int) -> None:
    """Raise UnsupportedVersion for a file of another kind or version.

    Args:
        attributes: attributes of the file.
        directory: directory of the file, for the error message.
        kind: the kind that the file must have.
        version: the one version that this release reads.

    Raises:
        UnsupportedVersion: the file has another kind, or a version that this release does not read.
    """
    found = (attributes.get("kind"), attributes.get("version"))
    if found != (kind, version):
        raise UnsupportedVersion(
            f"{directory} holds {found[0]!r} of version {found[1]!r}, wanted {kind!r} of version "
            f"{version}; open it with the release of isogloss that wrote it"
        )


def attribute(attributes: Mapping[str, object], name: str, kind: type[_Value]) -> _Value:
    """Return an attribute of a file, checked for its type.

    Args:
        attributes: attributes of the file.
        name: name of the attribute.
        kind: the type it must have.

    Returns:
        The attribute's value.

    Raises:
        CorruptData: the attribute is missing or of another type.
    """
    value = attributes.get(name)
    if not isinstance(value, kind):
        raise CorruptData(
            f"attribute {name!r} is {value!r}, wanted {kind.__name__}; build the file again"
        )
    return value


def column(
    arrays: Mapping[str, NDArray[np.generic]], name: str, kind: type[_Scalar]
) -> NDArray[_Scalar]:
    """Return an array of a file, checked for its dtype.

    Args:
        arrays: the arrays of the file.
        name: name of the array.
        kind: the dtype it must have.

    Returns:
        The array.

    Raises:
        CorruptData: the array is missing or of another dtype.
    """
    found = arrays.get(name)
    if found is None or found.dtype != np.dtype(kind):
        raise CorruptData(
            f"array {name!r} is {'missing' if found is None else found.dtype}, wanted "
            f"{np.dtype(kind)}; build the file again"
        )
    return found.astype(kind, copy=False)
