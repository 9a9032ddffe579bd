"""The room's public names, and what importing it loads."""

import subprocess
import sys
from types import UnionType
from typing import Literal, get_origin

import pytest

import isogloss.store


def test_importing_the_room_loads_no_heavy_library() -> None:
    code = (
        "import isogloss.store as s, sys\n"
        "for name in s.__all__:\n"
        "    if name != 'register_bfloat16': getattr(s, name)\n"
        "print(sorted({'torch', 'zarr', 'numba', 'numcodecs', 'faiss', 'grpc'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_public_name_is_listed_and_can_be_had() -> None:
    assert list(isogloss.store.__all__) == sorted(isogloss.store.__all__)
    assert set(isogloss.store.__all__) == set(isogloss.store._MODULES)
    for name in isogloss.store.__all__:
        found = getattr(isogloss.store, name)
        is_alias = get_origin(found) in {Literal, UnionType}
        assert is_alias or found.__name__ == name
    with pytest.raises(AttributeError, match="Nonsense"):
        isogloss.store.__getattr__("Nonsense")
