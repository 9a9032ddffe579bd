"""What the files of this room say about themselves, checked as they are read."""

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, UnsupportedVersion

_Scalar = TypeVar("_Scalar", bound=np.generic)
_Value = TypeVar("_Value", str, int, float)


def check_kind(attributes: Mapping[str, object], directory: Path, kind: str, version: int) -> None:
    """Refuse a file of another kind, or of a later release.

    Args:
        attributes: what the file says about itself.
        directory: where it is, for the message.
        kind: what the file must be.
        version: the one version that this release reads.

    Raises:
        UnsupportedVersion: it is one.
    """
    found = (attributes.get("kind"), attributes.get("version"))
    if found != (kind, version):
        raise UnsupportedVersion(
            f"{directory} holds {found[0]!r} of version {found[1]!r}, wanted {kind!r} of version "
            f"{version}; open it with the release of isogloss that wrote it"
        )


def attribute(attributes: Mapping[str, object], name: str, kind: type[_Value]) -> _Value:
    """Return an attribute of a known type.

    Args:
        attributes: what the file says about itself.
        name: which attribute.
        kind: the type it must have.

    Returns:
        Its value.

    Raises:
        CorruptData: it is missing or of another type.
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
    """Return an array of a known dtype.

    Args:
        arrays: the arrays of the file.
        name: which array.
        kind: the dtype it must have.

    Returns:
        The array.

    Raises:
        CorruptData: it is missing or of another dtype.
    """
    found = arrays.get(name)
    if found is None or found.dtype != np.dtype(kind):
        raise CorruptData(
            f"array {name!r} is {'missing' if found is None else found.dtype}, wanted "
            f"{np.dtype(kind)}; build the file again"
        )
    return found.astype(kind, copy=False)
