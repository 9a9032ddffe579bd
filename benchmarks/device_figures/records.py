"""What a section found: a line of JSON a record, written at once, so that an end loses nothing."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import torch


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Where a section runs, and where it writes."""

    section: str
    """Its name."""
    device: torch.device
    """``cuda``, or ``cpu`` for the dry run at small sizes."""
    file: TextIO
    """Records go there."""
    is_warming: bool = False
    """Whether everything runs once, only so that it is compiled when it is timed."""

    @property
    def is_dry(self) -> bool:
        """Whether there is no device: sizes are small and times mean nothing."""
        return self.device.type == "cpu"

    def note(self, name: str, **fields: object) -> None:
        """Write a record."""
        if not self.is_warming:
            line = {"section": self.section, "name": name, **fields}
            self.file.write(json.dumps(line) + "\n")
            self.file.flush()

    def check(self, name: str, holds: bool, **found: object) -> None:
        """Write whether a check holds, and what was found where it does not."""
        self.note(name, holds=bool(holds), **({} if holds else {"found": str(found)[:400]}))

    def attempt(self, name: str, work: Callable[[], None]) -> None:
        """Run a part of a section; what it raises is a check that does not hold."""
        try:
            work()
        except Exception as error:
            self.check(name, False, error=f"{type(error).__name__}: {error}")
            if "CUDA error" in str(error):
                raise  # nothing works in this process any more


def read_records(path: Path) -> list[dict[str, object]]:
    """Read what a section wrote; a line that was cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
