"""The order of the tests: the one that compiles the CPU's loops in a fresh checkout goes first."""

from pathlib import Path

import pytest

_FIRST = Path(__file__).parent / "cpu" / "loops" / "test_sums.py"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move it to the front: the loops it compiles then serve all other tests, of any room."""
    items.sort(key=lambda item: item.path != _FIRST)
