"""A revision: a list of lanes with how many rows of each are committed."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr
from isogloss.store.schema.json_fields import (
    SCHEMA_VERSION,
    check_version,
    get_items,
    get_text,
    is_list,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Revision:
    """Names all rows of a recording that were committed at one moment."""

    recording: str
    """Uid of the recording."""

    lanes: tuple[tuple[str, int], ...]
    """Name and committed rows of each lane that holds any, in the order rows are numbered."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        names = [name for name, _ in self.lanes]
        if len(set(names)) != len(names) or any(rows < 1 for _, rows in self.lanes):
            raise InvalidInput(
                f"revision lanes {self.lanes} must have different names and at least one row each"
            )

    @property
    def rows(self) -> int:
        """Number of rows over all lanes."""
        return sum(rows for _, rows in self.lanes)

    @property
    def id(self) -> str:
        """A short hash, 16 hexadecimal digits; the same for equal revisions."""
        canonical = json.dumps([self.recording, [list(lane) for lane in self.lanes]])
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, object]:
        """Return the revision as a JSON object."""
        return {
            "schema_version": SCHEMA_VERSION,
            "recording": self.recording,
            "lanes": [[name, rows] for name, rows in self.lanes],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, object]) -> "Revision":
        """Read a revision from a JSON object."""
        check_version(document, "revision")
        lanes: list[tuple[str, int]] = []
        for item in get_items(document, "lanes"):
            if not is_list(item) or len(item) != 2:
                raise InvalidInput(f"revision lane {item!r} is not [name, rows]")
            name, rows = item
            if not isinstance(name, str) or not isinstance(rows, int):
                raise InvalidInput(f"revision lane {item!r} is not [name, rows]")
            lanes.append((name, rows))
        return cls(recording=get_text(document, "recording"), lanes=tuple(lanes))
