"""A real server collects garbage while clients ask for statistics: neither harms the other."""

import os
import shutil
import threading
from pathlib import Path

import pytest
from tests.service.serving import server_on

import isogloss
from isogloss.errors import Conflict, IsoglossError
from isogloss.store import Store
from isogloss.store.testing import sample_batch, sample_spec

LANES, ROUNDS, ASKING = 4, 12, 3
SITES = [site.name for site in sample_spec().sites]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store with a recording of several lanes that have ended."""
    with Store.open(tmp_path / "store") as made:
        recording = made.create_recording(sample_spec(), ["a"])
        for number in range(LANES):
            with recording.open_lane() as lane:
                lane.append([sample_batch(recording.spec, f"p{number}", 1)])
    return tmp_path / "store"


def kept_statistics(store: Path) -> list[Path]:
    """The kept statistics, by a walk that goes on where a directory is renamed beneath it."""
    return [
        Path(above) / name
        for above, names, _ in os.walk(store / "recordings")
        for name in names
        if name.startswith("statistics-")
    ]


def test_statistics_asked_for_while_garbage_is_collected_are_answered(store: Path) -> None:
    ended, wrong, counts = threading.Event(), list[IsoglossError](), set[int]()
    collected = 0

    def ask(address: str, site: str) -> None:
        with isogloss.connect(address) as client:
            while not ended.is_set():
                try:
                    counts.add(client.statistics("sample", site).count)
                except IsoglossError as error:
                    wrong.append(error)

    with server_on(store) as server, isogloss.connect(server.addresses[0]) as client:
        rows = client.recording("sample").rows
        asking = [
            threading.Thread(target=ask, args=(server.addresses[0], SITES[number % len(SITES)]))
            for number in range(ASKING)
        ]
        for thread in asking:
            thread.start()
        try:
            for _ in range(ROUNDS):
                for directory in kept_statistics(store):  # measured and written anew
                    shutil.rmtree(directory, ignore_errors=True)
                try:
                    client.collect_garbage(older_s=0)
                    collected += 1
                except Conflict:
                    pass
        finally:
            ended.set()
            for thread in asking:
                thread.join(60)
        assert not any(thread.is_alive() for thread in asking)
        assert [f"{type(error).__name__}: {error}" for error in wrong] == []
        assert (counts, collected) == ({rows}, ROUNDS)
        assert client.verify("sample") == []
        for site in SITES:
            assert client.statistics("sample", site).count == rows
    assert kept_statistics(store)
