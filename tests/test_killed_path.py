"""The demo's path, killed at random points, ends in the same tensors."""

import os
import random
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import torch
from tests.models.conftest import SENTENCES
from tests.service.serving import Server, start_server
from tests.tiny_models import save_tiny_bert

import isogloss
from isogloss import Client
from isogloss.dictionaries import load_dictionary
from isogloss.models import TextDocument, load_model
from isogloss.service.recording.documents import DocumentOptions
from isogloss.store import Store

SITE = "encoder.layer.1"
MODELS = {"small": 32, "wide": 48}
SETTINGS = {"batch_rows": 128, "checkpoint_every": 20, "holdout": 0.4}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two independently initialised models on disk, as users have them."""
    root = tmp_path_factory.mktemp("models")
    return {
        name: save_tiny_bert(root / name, seed=seed, width=width)
        for seed, (name, width) in enumerate(MODELS.items())
    }


@pytest.fixture(scope="module")
def documents() -> list[TextDocument]:
    words = " ".join(SENTENCES).split()
    draw = random.Random(0)
    return [
        TextDocument(text=f"{n} " + " ".join(draw.choices(words, k=14)), group=f"source {n // 3}")
        for n in range(360)
    ]


def walk(client: Client, models: dict[str, Path], documents: list[TextDocument]) -> None:
    """Record both models, train on both, match."""
    trained = []
    for name, folder in models.items():
        client.record_documents(
            load_model(str(folder)),
            documents,
            sites=[SITE],
            recording=name,
            options=DocumentOptions(batch_rows=256),
        )
        job = client.train(
            name, site=SITE, features=96, k=8, epochs=60.0, dictionary=f"of-{name}", more=SETTINGS
        )
        trained.append(job.result(timeout_s=240))
    client.match(*trained, match="both").result(timeout_s=120)


def outcome(store: Path, models: dict[str, Path]) -> dict[str, torch.Tensor]:
    """Everything that must not depend on the kills."""
    found: dict[str, torch.Tensor] = {}
    with Store.attach(store) as opened:
        for name in models:
            entry = opened.catalog.get("dictionary", f"of-{name}")
            dictionary = load_dictionary(opened.artifact("dictionary", entry.uid))
            assert len(dictionary.tensors) == 4
            for part, tensor in dictionary.tensors.items():
                found[f"{name}.{part}"] = tensor
            reader = opened.recording(name).reader()
            found[f"{name}.rows"] = torch.from_numpy(
                reader.read(SITE, 0, reader.rows).view("int16").copy()
            )
            found[f"{name}.token_id"] = torch.from_numpy(reader.tokens().token_id.astype("int64"))
    return found


MOST_WORKER_KILLS = 4
"""A job fails after five in a row without progress: on a busy machine a worker needs longer to its
first step than kills lie apart."""


class Killer:
    """Keeps a server running while killing it, or its worker, at random moments."""

    def __init__(self, store: Path, listen: str, kills: int) -> None:
        self._store, self._listen, self._left = store, listen, kills
        self._draw = random.Random(7)
        self._done = threading.Event()
        self.killed: list[str] = []
        self.server = self._start()
        self._thread = threading.Thread(target=self._run)

    def _start(self) -> Server:
        return start_server(self._store, "--listen", self._listen, "--workers")

    def _run(self) -> None:
        while self._left and not self._done.wait(self._draw.uniform(0.3, 5.0)):
            workers = [
                child
                for child in psutil.Process(self.server.process.pid).children(recursive=True)
                if "isogloss.service.processes.worker" in " ".join(child.cmdline())
            ]
            spares_workers = self.killed.count("worker") >= MOST_WORKER_KILLS
            if workers and not spares_workers and self._draw.random() < 0.5:
                os.kill(workers[0].pid, signal.SIGKILL)
                self.killed.append("worker")
            else:
                self.server.kill()
                self.killed.append("server")
                self.server = self._start()
            self._left -= 1

    def __enter__(self) -> "Killer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        self._thread.join()
        self.server.kill()


@contextmanager
def served(store: Path, listen: str, kills: int) -> Generator[tuple[Client, Killer]]:
    with Killer(store, listen, kills) as killer, isogloss.connect(listen) as client:
        yield client, killer


@pytest.fixture(scope="module")
def undisturbed(
    tmp_path_factory: pytest.TempPathFactory,
    models: dict[str, Path],
    documents: list[TextDocument],
) -> dict[str, torch.Tensor]:
    store = tmp_path_factory.mktemp("undisturbed") / "store"
    with isogloss.connect(store) as client:
        walk(client, models, documents)
    return outcome(store, models)


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.slow)])
def test_killed_at_random_points_the_path_ends_in_equal_tensors(
    tmp_path: Path,
    models: dict[str, Path],
    documents: list[TextDocument],
    undisturbed: dict[str, torch.Tensor],
    kills: int,
) -> None:
    began = time.monotonic()
    walked, killed = 0, []
    while len(killed) < kills:
        walked += 1
        store = tmp_path / f"store-{walked}"
        listen = f"unix:{tmp_path / f'{walked}.sock'}"
        with served(store, listen, kills - len(killed)) as (client, killer):
            walk(client, models, documents)
        killed += killer.killed
        found = outcome(store, models)
        assert found.keys() == undisturbed.keys()
        for name, tensor in undisturbed.items():
            assert torch.equal(found[name], tensor), f"{name} differs after {killed}"
    assert len(killed) >= kills, f"{killed} in {time.monotonic() - began:.0f} s"
