"""The Python files of the product: which there are, and which count."""

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("kernels", "store", "models", "dictionaries", "universality", "service", "proto")


def is_generated(path: Path) -> bool:
    """Return whether protoc wrote the file."""
    return "_pb2" in path.name or "google" in path.parts or path.parts[-3:-1] == ("proto", "v1")


def sources(root: Path = ROOT, rooms: Iterable[str] = ROOMS) -> list[Path]:
    """Return the hand-written Python files of rooms, in order."""
    return [
        path
        for room in rooms
        for path in sorted((root / room).rglob("*.py"))
        if not is_generated(path)
    ]


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))
