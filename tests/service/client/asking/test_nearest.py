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
from transformers import GPT2Config, GPT2LMHeadModel

import isogloss
from isogloss import Client
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel
from isogloss.service.client.asking.live_model import dictionaries_of, rows_of
from isogloss.service.values.results import Hits
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
    same: list[Any] = [direction.tolist(), torch.tensor(direction), direction.astype(np.float32)]
    for one in same:
        assert client.nearest(direction=one, model="one", count=4) == by_id
    half = torch.tensor(direction).bfloat16()
    by_half = client.nearest(direction=half, model="one", count=4)
    assert by_half == client.nearest(direction=half.float(), model="one", count=4)
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
        ({"codes": np.ones((2, 3)), "probe": "p"}, r"codes is \[2, 3\]"),
        ({"direction": np.ones((2, 3)), "model": "one"}, r"direction is \[2, 3\]"),
        ({"direction": np.zeros(16), "model": "one"}, "length 0"),
        ({"direction": ["a", "b"], "model": "one"}, r"direction is <U1, wanted \[width\]"),
        ({"direction": [[1.0], [1.0, 2.0]], "model": "one"}, "direction is list, wanted"),
        (
            {"direction": torch.ones(16, requires_grad=True), "model": "one"},
            "give direction.detach",
        ),
        ({"codes": np.ones(3) + 1j, "probe": "p"}, "codes is complex128"),
        ({"feature": feature, "site": "1"}, "site='1' says nothing of a feature"),
        ({"feature": feature, "model": "one"}, "model='one' says nothing of a feature, which goes"),
        ({"text": [1], "model": model(0), "probe": "p"}, "probe='p' says nothing of a text"),
        ({"text": [1], "model": model(0), "site": "1"}, "site='1' says nothing of a text"),
        ({"direction": np.ones(16), "model": "one", "probe": "p"}, "goes with model and site"),
        ({"codes": np.ones(3), "probe": "p", "model": "one"}, "model='one' says nothing of a code"),
    ]
    for arguments, message in wrong:
        with pytest.raises(InvalidInput, match=message):
            client.nearest(**arguments)


def test_models_of_one_default_name_are_told_apart_by_their_fingerprint(store: Path) -> None:
    with isogloss.connect(store, read_only=True) as client:
        fitting, skipped = client.run(dictionaries_of(model(1), None))
    assert [info.id for info in fitting] == ["d-other"]
    assert [one.dictionary for one in skipped] == ["d-one"]


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, LoadedModel, LoadedModel]:
    """A store with recordings of a model and of its base, and both live: one site, two names."""
    root = tmp_path_factory.mktemp("forms") / "store"
    torch.manual_seed(3)
    whole = GPT2LMHeadModel(GPT2Config(vocab_size=16, n_embd=16, n_layer=2, n_head=2)).eval()
    live = [
        LoadedModel(module=module, name=name)
        for name, module in (("head", whole), ("base", whole.get_submodule("transformer")))
    ]
    ids = [[number % 16 for number in range(start, start + 30)] for start in range(8)]
    with isogloss.connect(root, run_workers=False) as client:
        for one in live:  # the names that are recorded are the model's own
            sites = ["h.0", "lm_head"] if one.name == "head" else ["transformer.h.0"]
            client.record_documents(one, ids, sites=sites, recording=one.name)
    with Store.open(root) as opened:
        made.write_random_dictionary(opened, "d-base", "base", "h.0")
        made.write_random_dictionary(opened, "d-head", "head", "transformer.h.0")
        made.write_random_dictionary(opened, "d-logits", "head", "lm_head")
    return root, live[0], live[1]


def test_dictionaries_of_both_names_of_a_site_answer_a_text(
    forms: tuple[Path, LoadedModel, LoadedModel],
) -> None:
    root, whole, base = forms
    with isogloss.connect(root, read_only=True) as client:
        by_whole = client.nearest(text=[1, 2, 3], model=whole, count=2)
        by_base = client.nearest(text=[1, 2, 3], model=base, count=2)
    assert {hit.dictionary for hit in by_whole} == {"d-base", "d-head", "d-logits"}
    assert {hit.dictionary for hit in by_base} == {"d-base", "d-head"}
    assert [hit for hit in by_whole if hit.dictionary != "d-logits"] == by_base
    assert [one.dictionary for one in by_base.skipped] == ["d-logits"]
    assert "lacks the site" in by_base.skipped[0].why


@pytest.mark.parametrize("site", ["h.0", "transformer.h.0"])
def test_a_direction_is_of_a_site_by_either_of_its_names(
    forms: tuple[Path, LoadedModel, LoadedModel], site: str
) -> None:
    root, whole, base = forms
    direction = np.random.default_rng(1).standard_normal(16)
    with isogloss.connect(root, read_only=True) as client:

        def ask(model: LoadedModel | str) -> Hits:
            return client.nearest(direction=direction, model=model, site=site)

        found, by_id = [ask(whole), ask(base)], [ask("base"), ask("head")]
        with pytest.raises(InvalidInput, match=r"d-base: it was trained on site 'h\.0', not"):
            client.nearest(direction=direction, model=base, site="h.1")
        with pytest.raises(InvalidInput, match="d-head: its rows have width 16, the direction 5"):
            client.nearest(direction=np.ones(5), model=whole, site=site)
    assert found[0] == found[1]
    assert {hit.dictionary for hit in found[0]} == {"d-base", "d-head"}
    assert [one.dictionary for one in found[0].skipped] == ["d-logits"]
    assert f"trained on site 'lm_head', not {site!r}" in found[0].skipped[0].why
    assert [{hit.dictionary for hit in hits} for hits in by_id] == [{"d-base"}, {"d-head"}]
