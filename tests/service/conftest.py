"""Both ways to reach a store: in this process, and through a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service import made
from tests.service.serving import server_on

import isogloss
from isogloss import Client


@pytest.fixture(scope="module")
def local_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """In this process; runs no jobs."""
    store = tmp_path_factory.mktemp("local") / "store"
    with isogloss.connect(store, run_workers=False) as client:
        assert client.is_local
        yield client


@pytest.fixture(scope="module")
def served_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    store = tmp_path_factory.mktemp("served") / "store"
    with server_on(store):
        yield store


@pytest.fixture(scope="module")
def remote_client(served_store: Path) -> Iterator[Client]:
    """Through a server, which runs no jobs."""
    with isogloss.connect(served_store) as client:
        assert not client.is_local
        yield client


@pytest.fixture(scope="module", params=["in process", "server"])
def client(request: pytest.FixtureRequest) -> Client:
    """Run a test on both."""
    return request.getfixturevalue(
        "local_client" if request.param == "in process" else "remote_client"
    )


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A recording id of the test's own."""
    plain = "".join(c if c.isalnum() else "-" for c in request.node.name.lower())
    return "r-" + plain.strip("-")[-60:].strip("-")


@pytest.fixture(scope="session")
def made_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two dictionaries on a probe, which nobody owns; to read only."""
    store = tmp_path_factory.mktemp("made") / "store"
    made.fill(store)
    return store


@pytest.fixture(scope="module")
def reading_client(made_store: Path) -> Iterator[Client]:
    """Reads the store with two dictionaries."""
    with isogloss.connect(made_store, read_only=True) as client:
        yield client
