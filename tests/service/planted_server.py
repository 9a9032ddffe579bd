"""A real server with workers, on a store with a planted recording."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from tests.service import planted
from tests.service.serving import server_on
from tests.service.test_path import ThroughClient

import isogloss


@contextmanager
def planted_store(store: Path, recording: str) -> Generator[Path]:
    """Serve a store for the length of a block, after a planted recording was made in it."""
    with server_on(store, "--workers"):
        with isogloss.connect(store, timeout_s=180.0) as client:
            planted.record(ThroughClient(client), recording, seed=0)  # pyright: ignore[reportArgumentType] - has what it uses
        yield store
