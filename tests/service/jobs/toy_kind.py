"""A kind of job that is not ours: one row of the table, and this file with its spec and its task.

Run as a script it is the worker of a store whose table has the row.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from isogloss.errors import InvalidInput
from isogloss.service.processes import worker
from isogloss.service.tasks.heart import Heart
from isogloss.service.values import job_kinds
from isogloss.service.values.job_kinds import JobKind
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.results import ProbeInfo
from isogloss.store import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class ToySpec:
    """Make an empty probe after some steps."""

    name: str
    """Id of the probe."""
    steps: int
    """How many."""

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """Read a spec from JSON."""
        name, steps = values.get("name"), values.get("steps")
        if not isinstance(name, str) or not isinstance(steps, int):
            raise InvalidInput(f"a toy is {dict(values)!r}, wanted a name and steps")
        return cls(name=name, steps=steps)

    def to_dict(self) -> dict[str, object]:
        """Return the spec as JSON."""
        return {"name": self.name, "steps": self.steps}

    @property
    def target(self) -> str:
        """Id of the probe."""
        return self.name

    @property
    def reads(self) -> frozenset[tuple[str, str]]:
        """A recording of the same name."""
        return frozenset({("recording", self.name)})


def toy_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Count the steps and register the probe."""
    spec = ToySpec.from_dict(record.spec)
    for step in range(spec.steps):
        heart.check()
        heart.progress(step + 1, spec.steps, {})
    body: dict[str, object] = {
        "recordings": [],
        "dictionaries": [],
        "grid": "tokens",
        "documents": 0,
        "segments": spec.steps,
    }
    store.catalog.put("probe", spec.name, store.catalog.new_uid(), body)
    return {"probe": spec.name}


ROW = JobKind(
    name="toy",
    makes="probe",
    collection="probes",
    info=ProbeInfo,
    spec=ToySpec,
    task=f"{__name__}:toy_task",
)
WITH_TOY = MappingProxyType({**job_kinds.JOB_KINDS, ROW.name: ROW})


if __name__ == "__main__":
    job_kinds.JOB_KINDS = WITH_TOY
    sys.exit(worker.main())
