"""A small store with its owner, for asking handlers directly."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from isogloss.service.control.owner import Owner
from isogloss.store import RecordingSpec, Store
from isogloss.store.testing import sample_batch, sample_spec

VOCABULARY = [f"token-{number}" for number in range(1000)]
SPEC = sample_spec("docs")


@contextmanager
def owner_of(root: Path) -> Generator[Owner]:
    """Own a store with three recordings, of which ``docs`` has rows; runs no jobs."""
    with Owner(Store.open(root), run_workers=False) as owner:
        for name in ("docs", "empty", "third"):
            owner.store.create_recording(sample_spec(name), VOCABULARY)
        append(owner, SPEC, 4)
        yield owner


def append(owner: Owner, spec: RecordingSpec, count: int, producer: str = "p") -> None:
    """Write sample batches in a lane of their own."""
    lane = owner.store.recording(spec.recording).open_lane()
    lane.append([sample_batch(spec, producer, number) for number in range(1, count + 1)])
    lane.close()
