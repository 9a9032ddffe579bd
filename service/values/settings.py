"""The values that a setting may have."""

from collections.abc import Sequence
from typing import TypeAlias

Setting: TypeAlias = str | int | float | Sequence[str] | Sequence[int] | None
"""A value that a setting may have; None leaves its default."""
