"""Switches that must be set before the first import of torch, triton, numba or the product.

``pytest -m gpu`` is the lane of a machine with a device, which may have little installed: triton
compiles there, only files that hold tests for a device are collected, and types are not checked.
Everywhere else, also where a device is, Triton's kernels run in its interpreter.
"""

import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other in CI

# Never isogloss.kernels: the hook breaks triton's cold-cache compilation. Of the store what takes
# arrays. Modules that say shapes are in pyproject.toml: jaxtyping checks them, and binds the
# arguments of each call anew, which was most of the time of a simulated disk. ISOGLOSS_UNCHECKED is
# for long loops over such disks: they take a quarter less without.
CHECKED = (
    *("isogloss.models", "isogloss.dictionaries", "isogloss.universality"),
    *("isogloss.store.schema.batch", "isogloss.store.formats", "isogloss.store.shards"),
    *("isogloss.store.reading", "isogloss.store.exchange"),
    *("isogloss.store.lanes.statistics", "isogloss.store.lanes.files"),
)


def on_device(markers: str) -> bool:
    """Whether a marker expression asks for tests on a device."""
    return re.search(r"(?<!not )\bgpu\b", markers) is not None


def asked_markers(words: Sequence[str]) -> str:
    """Return the marker expression of a command line, which pytest reads only later."""
    after = [next_one for word, next_one in pairwise([*words, ""]) if word == "-m"]
    joined = [word[2:] for word in words if word.startswith("-m") and len(word) > 2]
    return " ".join([*after, *joined])


# When this is imported, since conftest.py files further down import the product.
if not on_device(asked_markers(sys.argv)):
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if "ISOGLOSS_UNCHECKED" not in os.environ:
        from beartype import BeartypeConf
        from beartype.claw import beartype_packages

        beartype_packages(CHECKED, conf=BeartypeConf(claw_is_pep526=False))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take ``--reversed``; know the settings of plugins that a machine with a device may lack."""
    parser.addoption(
        "--reversed",
        action="store_true",
        help="run the tests of a file from the last to the first: none may lean on one before it",
    )
    if find_spec("pytest_timeout") is None:
        parser.addini("timeout", "of a test, in seconds: read by pytest-timeout")


def pytest_configure(config: pytest.Config) -> None:
    """Know the marks of plugins that a machine with a device may lack."""
    if find_spec("pytest_timeout") is None:
        config.addinivalue_line("markers", "timeout: of a test, in seconds")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """With ``--reversed`` turn the order of the tests round."""
    if config.getoption("reversed"):
        items.reverse()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With ``-m gpu`` leave out what holds no test for a device: its imports may be missing."""
    if not on_device(config.option.markexpr):
        return None
    files = collection_path.rglob("test_*.py") if collection_path.is_dir() else [collection_path]
    return None if any(b"pytest.mark.gpu" in path.read_bytes() for path in files) else True
