"""Both ways to reach a store keep the contracts of clients and jobs."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service.serving import server_on

import isogloss
from isogloss import Client
from isogloss.service.testing.contracts import ClientContract, JobContract


@pytest.fixture(scope="module")
def local_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with isogloss.connect(tmp_path_factory.mktemp("local-workers") / "store") as client:
        assert client.is_local
        yield client


@pytest.fixture(scope="module")
def remote_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    store: Path = tmp_path_factory.mktemp("served-workers") / "store"
    with server_on(store, "--workers"), isogloss.connect(store) as client:
        assert not client.is_local
        yield client


class TestClientInProcess(ClientContract):
    @pytest.fixture
    def client(self, local_client: Client) -> Client:
        return local_client


class TestClientOfAServer(ClientContract):
    @pytest.fixture
    def client(self, remote_client: Client) -> Client:
        return remote_client


class TestJobInProcess(JobContract):
    @pytest.fixture
    def client(self, local_workers: Client) -> Client:
        return local_workers


class TestJobOfAServer(JobContract):
    @pytest.fixture
    def client(self, remote_workers: Client) -> Client:
        return remote_workers
