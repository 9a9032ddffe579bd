"""What fuzzing found so far, kept beside the code it was found in, so that many runs add up."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from house_figures.figure import Figure

ROOT = Path(__file__).resolve().parent.parent.parent
KEPT = ROOT / "benchmarks" / "results" / "service_fuzz.json"
ROOMS = ("service", "store", "proto", "universality", "dictionaries")
WANTED = 1_000_000
"""Executions after which the figure counts."""
MOST_GROWTH = 64 << 20
"""Bytes by which the server's memory may grow in a run after its first tenth."""
EXAMPLES = 20
"""Of what was wrong, that are kept."""


@dataclass
class Found:
    """What came of executions of one state of the code."""

    code: str = ""
    """Hash of the code."""
    seed: int = 0
    """From which their messages were made; numbers count from 0."""
    executions: int = 0
    """How many were done."""
    runs: int = 0
    """In how many runs, each on a new server."""
    statuses: dict[str, int] = field(default_factory=dict[str, int])
    """How they ended."""
    calls: dict[str, int] = field(default_factory=dict[str, int])
    """How many were of each call."""
    faults: dict[str, int] = field(default_factory=dict[str, int])
    """How many were wrong, by kind: all of them must be 0."""
    examples: list[str] = field(default_factory=list[str])
    """The first of what was wrong."""
    most_growth: int = 0
    """Bytes by which memory grew in the run in which it grew most."""

    def add(self, other: "Found") -> "Found":
        """Return both together.

        Args:
            other: what came next, of the same code and seed.

        Raises:
            ValueError: it is of other code or another seed.
        """
        if (self.code, self.seed) != (other.code, other.seed):
            raise ValueError("executions of different code or seeds do not add up")
        return Found(
            code=self.code,
            seed=self.seed,
            executions=self.executions + other.executions,
            runs=self.runs + other.runs,
            statuses=_sum(self.statuses, other.statuses),
            calls=_sum(self.calls, other.calls),
            faults=_sum(self.faults, other.faults),
            examples=[*self.examples, *other.examples][:EXAMPLES],
            most_growth=max(self.most_growth, other.most_growth),
        )


def _sum(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted((Counter(one) + Counter(other)).items()))


def hash_of_code(root: Path = ROOT) -> str:
    """Return a hash of every file of the rooms that answer calls."""
    hashed = hashlib.sha256()
    for room in ROOMS:
        for path in sorted((root / room).rglob("*.py")):
            hashed.update(f"{path.relative_to(root)}\n".encode())
            hashed.update(path.read_bytes())
    return hashed.hexdigest()[:16]


def load(code: str, seed: int, path: Path = KEPT) -> Found:
    """Return what was kept of this code and seed; nothing where it is of others."""
    if path.exists():
        found = Found(**json.loads(path.read_text()))
        if (found.code, found.seed) == (code, seed):
            return found
    return Found(code=code, seed=seed)


def save(found: Found, path: Path = KEPT) -> None:
    """Keep what was found in place of what was kept before."""
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps(asdict(found), indent=1) + "\n")
    new.replace(path)


def figure(found: Found) -> Figure:
    """Return the figure; it holds once there are enough executions and nothing is wrong."""
    return Figure(
        figure="fuzz",
        value=sum(found.faults.values()),
        bar=0,
        unit="calls that ended with INTERNAL or UNKNOWN or not at all, deaths of processes, files "
        "outside the store, and runs in which memory grew",
        peers={
            "executions": found.executions,
            "wanted": WANTED,
            "code": found.code,
            "seed": found.seed,
            "faults": found.faults,
            "examples": found.examples,
            "most growth MiB in a run": round(found.most_growth / 2**20, 1),
            "statuses": found.statuses,
            "fewest of a call": min(found.calls.values(), default=0),
            "calls": len(found.calls),
        },
        runs=found.runs,
        is_doubtful=found.executions < WANTED,
    )
