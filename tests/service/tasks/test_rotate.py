"""Floors as jobs, and matches that stand beside another as its ceiling and its floor."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.service import planted
from tests.service.run_here import run_here

import isogloss
from isogloss.dictionaries import CONTROLS, initial_decoder, load_dictionary
from isogloss.errors import AlreadyExists, InvalidInput
from isogloss.proto.v1 import dictionaries_pb2
from isogloss.service.client import dictionaries
from isogloss.service.pages.report import render_report
from isogloss.service.query.queries import Queries
from isogloss.service.transport.call import Ask, Running
from isogloss.service.values.dictionary_bodies import UNTRAINED_RATE
from isogloss.store import Store

SOURCE = dictionaries_pb2.Source(recording="recordings/docs", site="layer.1")
QUICK = {"draws": 1, "max_draws": 1, "keys": ["none"]}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A dictionary of either model and a second one of the first, all on one probe."""
    with Store.open(tmp_path_factory.mktemp("floors") / "store") as store:
        planted.record(store, "small-docs", seed=1)
        planted.record(store, "large-docs", seed=2)
        planted.dictionary(store, "small-docs", "small", seed=1)
        planted.dictionary(store, "large-docs", "large", seed=2)
        planted.dictionary(store, "small-docs", "small-again", seed=1)
        run_here(store, "rotate", {"dictionary": "turned", "source": "large", "seed": 3})
        names = ["small", "large", "small-again", "turned"]
        recordings = ["small-docs", "large-docs"]
        spec: dict[str, object] = {"probe": "p", "recordings": recordings, "dictionaries": names}
        run_here(store, "probe", spec)
        for name, a, b in (("up", "small", "small-again"), ("down", "small", "turned")):
            run_here(store, "match", {"match": name, "a": a, "b": b, "settings": QUICK})
        yield store


def test_a_rotated_dictionary_is_one_of_its_own_and_made_once(store: Store) -> None:
    made, source = (store.catalog.get("dictionary", name) for name in ("turned", "large"))
    provenance = made.body["provenance"]
    assert isinstance(provenance, dict)
    assert (provenance["floor"], provenance["rotated_from"]) == ("rotated", source.uid)
    decoders = [
        load_dictionary(store.artifact("dictionary", one.uid)).decoder.numpy()
        for one in (made, source)
    ]
    np.testing.assert_allclose(decoders[0] @ decoders[0].T, decoders[1] @ decoders[1].T, atol=1e-5)
    assert not np.allclose(decoders[0], decoders[1], atol=0.1)
    run_here(store, "rotate", {"dictionary": "turned", "source": "large", "seed": 3})
    assert store.catalog.get("dictionary", "turned") == made
    with pytest.raises(AlreadyExists, match="is another one"):
        run_here(store, "rotate", {"dictionary": "turned", "source": "large", "seed": 4})


def test_a_match_stands_between_its_floor_and_its_ceiling(store: Store) -> None:
    spec: dict[str, object] = {"match": "between", "a": "small", "b": "large", "settings": QUICK}
    run_here(store, "match", {**spec, "ceilings": ["up"], "floors": ["down"]})
    found = Queries(store).match("between")
    data = found.details["data"]
    assert isinstance(data, dict)
    up, down = data["references"]
    assert (up["role"], up["match"], down["role"], down["match"]) == (
        *("ceiling", "up"),
        *("floor", "down"),
    )
    assert down["what"] == "small x turned (rotated)"
    own, most, least = (one["counts"][1]["replicates"]["yes"] for one in (data, up, down))
    assert least < own <= most
    page = render_report([found.details])
    for shown in ("ceiling: small x small-again", "floor: small x turned (rotated)"):
        assert shown in page
        assert page.index(shown) > page.index("Beside a ceiling and a floor")
    assert "ceiling: small x small-again" in found.text
    assert "floor: small x turned (rotated)" in found.text
    with pytest.raises(AlreadyExists, match="differs in ceilings, floors"):
        run_here(store, "match", spec)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ceilings": ["down"]}, "a ceiling is of one model and site"),
        ({"a": "small-again", "b": "turned", "floors": ["up"], "match": "x"}, None),
        ({"a": "large", "b": "turned", "floors": ["up"]}, "wanted exactly one of large and turned"),
        ({"floors": ["down"], "settings": {**QUICK, "min_fires": 9}}, "down' has min_fires 20"),
    ],
)
def test_references_that_do_not_fit_are_refused(
    store: Store, changes: dict[str, object], message: str | None
) -> None:
    spec = {"match": "wrong", "a": "small", "b": "large", "settings": QUICK} | changes
    if message is None:  # one side in common is enough
        run_here(store, "match", spec)
        return
    with pytest.raises(InvalidInput, match=message):
        run_here(store, "match", spec)
    assert store.catalog.find("match", "wrong") is None


def test_floors_by_training_are_the_run_again_with_what_holds_it() -> None:
    """The call asks for the dictionary, and trains as it was trained but for one thing."""
    assert dictionaries.CONTROLS == CONTROLS
    config = {
        "kind": "topk",
        "settings": {"features": 40, "k": 3},
        "wiring": "sae",
        "seed": 5,
        "epochs": 4.0,
        "learning_rate": None,
        "controls": ["frozen_decoder"],
    }
    answer = dictionaries_pb2.Dictionary(name="dictionaries/d", sources=[SOURCE])
    answer.provenance_json = json.dumps({"config": config})
    for how, wanted in (("untrained", 1e-30), ("frozen_encoder", None)):
        running = Running(dictionaries.floor("d", how), "here")
        running.send(answer)
        assert isinstance(running.step, Ask)
        request = running.step.request
        assert isinstance(request, dictionaries_pb2.TrainDictionaryRequest)
        assert request.config.seed == 5
        assert dict(request.config.settings) == {"features": 40, "k": 3}
        assert not request.config.controls
        if wanted is None:
            assert request.config.control == how
            assert request.config.epochs == 4.0
        else:
            assert request.config.learning_rate == wanted
            assert not request.config.control


def test_a_floor_of_an_unknown_kind_or_of_imported_codes_is_refused(tmp_path: Path) -> None:
    here = isogloss.connect(tmp_path / "store", run_workers=False)
    with here as client, pytest.raises(InvalidInput, match="wanted one of rotated, untrained"):
        client.floor("d", "upside-down")
    running = Running(dictionaries.floor("d", "untrained"), "here")
    with pytest.raises(InvalidInput, match="was not trained here"):
        running.send(dictionaries_pb2.Dictionary(name="dictionaries/d", sources=[SOURCE]))


def test_an_untrained_run_keeps_every_direction_of_its_start_and_can_encode(store: Store) -> None:
    """The rate is above 0, as settings want it, and too small to move a float32 weight."""
    for kind in ("topk", "batch_topk"):
        spec = planted.train_spec("small-docs", f"start-{kind.replace('_', '-')}", kind=kind)
        config = spec["config"]
        assert isinstance(config, dict)
        config |= {"learning_rate": UNTRAINED_RATE, "epochs": 0.1}
        run_here(store, "train", spec)
        entry = store.catalog.get("dictionary", str(spec["dictionary"]))
        provenance = entry.body["provenance"]
        assert isinstance(provenance, dict)
        assert provenance["init_cosine"] == pytest.approx(1.0, abs=1e-6)
        made = load_dictionary(store.artifact("dictionary", entry.uid))
        start = initial_decoder(40, 24, int(provenance["init_seed"]))
        torch.testing.assert_close(made.decoder, start, rtol=0, atol=1e-6)
        assert made.encode(torch.randn(9, 24)).to_ragged().values.numel() > 0
