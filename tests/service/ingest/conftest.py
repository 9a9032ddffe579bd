"""A store with one recording, and what takes batches for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.ingest.producing import SPEC

from isogloss.service.ingest.ingest import Ingest
from isogloss.service.ingest.limits import IngestLimits
from isogloss.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        store.create_recording(SPEC, ["a"] * 1000)
        yield store


@pytest.fixture
def ingest(store: Store) -> Iterator[Ingest]:
    ingest = Ingest(store, IngestLimits(idle_lane_s=0.05))
    yield ingest
    ingest.close()
