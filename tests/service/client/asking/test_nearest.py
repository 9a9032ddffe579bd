"""Asking what is most like a text, a direction or codes, in this process and over a server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.service import made
from tests.service.serving import server_on
from torch import nn

import isogloss
from isogloss import Client
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel
from isogloss.service.client.asking.live_model import dictionaries_of, rows_of
from isogloss.store import Store

IDS = [[number % 40 for number in range(start, start + 30)] for start in range(24)]


def model(seed: int, name: str = "Sequential") -> LoadedModel:
    torch.manual_seed(seed)
    return LoadedModel(module=nn.Sequential(nn.Embedding(40, 16), nn.Linear(16, 16)), name=name)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of two models of one class and default name, with a dictionary of each."""
    root = tmp_path_factory.mktemp("asked") / "store"
    with isogloss.connect(root, run_workers=False) as client:
        for seed, name in enumerate(("one", "other")):
            client.record_documents(model(seed), IDS, sites=["1"], recording=name)
    with Store.open(root) as opened:
        for name in ("one", "other"):
            made.write_random_dictionary(opened, f"d-{name}", name, "1")
    return root


@pytest.fixture(scope="module", params=["in process", "server"])
def client(request: pytest.FixtureRequest, store: Path) -> Iterator[Client]:
    if request.param == "server":
        # its query process imports torch at the first question
        with server_on(store), isogloss.connect(store, timeout_s=250) as client:
            yield client
    else:
        with isogloss.connect(store, read_only=True) as client:
            yield client


def test_a_text_is_run_here_and_its_features_are_those_of_its_rows(client: Client) -> None:
    ids = IDS[0][:20]
    hits = client.nearest(text=ids, model=model(0), count=3)
    rows = rows_of(model(0), ids, ["1"])["1"]
    values, indices = client.encode("d-one", rows)
    dense = np.zeros((20, 32), np.float32)
    np.put_along_axis(dense, indices.astype(np.int64), values, axis=1)
    best = np.argsort(-dense.max(axis=0), kind="stable")[:3]
    assert [(hit.dictionary, hit.feature) for hit in hits] == [("d-one", n) for n in best]
    np.testing.assert_allclose([h.activation for h in hits], dense.max(axis=0)[best], rtol=1e-6)
    assert [hit.row for hit in hits] == dense.argmax(axis=0)[best].tolist()
    assert [one.dictionary for one in hits.skipped] == ["d-other"]
    assert "another model" in hits.skipped[0].why


def test_a_direction_is_asked_for_by_recording_or_by_model(client: Client) -> None:
    direction = np.random.default_rng(0).standard_normal(16)
    by_id = client.nearest(direction=direction, model="one", count=4)
    by_model = client.nearest(direction=direction, model=model(0), count=4)
    assert by_id == by_model
    assert {hit.dictionary for hit in by_id} == {"d-one"}
    assert by_id[0].cosine == max(hit.cosine for hit in by_id)


def test_what_cannot_be_asked_is_refused_before_anything_is_sent(client: Client) -> None:
    feature = client.dictionary_info("d-one").feature(1)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "0 of feature, text, direction and codes"),
        ({"feature": feature, "text": [1]}, "2 of feature, text"),
        ({"feature": feature, "among": []}, "among is empty"),
        ({"text": [1, 2]}, "NoneType, wanted a LoadedModel"),
        ({"text": "words", "model": model(0)}, "wanted token ids"),
        ({"text": [1], "model": model(7, "else")}, "no dictionary of this model fits"),
        ({"codes": np.ones(3)}, "name it with probe="),
        ({"codes": np.ones((2, 3)), "probe": "p"}, r"codes are \[2, 3\]"),
        ({"direction": np.ones((2, 3)), "model": "one"}, r"direction is \[2, 3\]"),
        ({"direction": np.zeros(16), "model": "one"}, "length 0"),
    ]
    for arguments, message in wrong:
        with pytest.raises(InvalidInput, match=message):
            client.nearest(**arguments)


def test_models_of_one_default_name_are_told_apart_by_their_fingerprint(store: Path) -> None:
    with isogloss.connect(store, read_only=True) as client:
        fitting, skipped = client.run(dictionaries_of(model(1), None))
    assert [info.id for info in fitting] == ["d-other"]
    assert [one.dictionary for one in skipped] == ["d-one"]
