"""Handles on jobs in a notebook: shown, and followed until they end."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.service import planted

import isogloss
from isogloss import Client
from isogloss.service.client.job import Job
from isogloss.service.values.results import DictionaryInfo
from isogloss.store import Store


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with Store.open(tmp_path / "store") as store:
        planted.record(store, "small-docs", seed=1)
    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        yield client


def begun(client: Client) -> Job[DictionaryInfo]:
    return client.train("small-docs", site="layer.1", features=8, k=2)


def test_a_job_is_shown_as_it_is_now(client: Client) -> None:
    job = begun(client)
    assert "queued" in job._repr_html_()
    assert job.name in job._repr_html_()
    assert "\n" not in repr(job)


def test_a_job_is_followed_until_it_ends(client: Client) -> None:
    job = begun(client)
    shown: list[str] = []

    def show(text: str) -> None:
        shown.append(text)
        job.cancel()

    job.follow(show)
    assert "queued" in shown[0]
    assert "cancelled" in shown[-1]


def test_a_client_that_was_closed_is_followed_no_more(client: Client) -> None:
    job = begun(client)
    client.close()
    shown: list[str] = []
    job.follow(shown.append)
    assert "this client was closed: connect again" in shown[0]
