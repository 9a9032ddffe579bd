"""A kind that a package brings is trained, saved, loaded and matched through a real server."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from tests.dictionaries.toy_kind.install import KIND, install_toy_kind
from tests.service import planted
from tests.service.serving import server_on
from tests.service.test_path import MORE, ThroughClient
from typer.testing import CliRunner

import isogloss
from isogloss import Client
from isogloss.dictionaries import kind_names
from isogloss.errors import InvalidInput, UnknownSite
from isogloss.service import DictionaryInfo, Job, SiteRef, render_report
from isogloss.service.cli.main import app

L1 = 0.01


@dataclass
class Served:
    """A store, its server, and what was trained there."""

    store: Path
    client: Client
    toy: DictionaryInfo
    other: DictionaryInfo

    def command_line(self, *words: str) -> object:
        """Run a command on the server; return the JSON that it wrote."""
        done = CliRunner().invoke(app, [*words, "--store", str(self.store), "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)


def start(client: Client, recording: str, **of_the_kind: object) -> Job[DictionaryInfo]:
    return client.train(
        recording,
        site=planted.SITES[recording],
        features=40,
        epochs=6,
        more=MORE,
        **of_the_kind,  # pyright: ignore[reportArgumentType] - k, kind or settings
    )


def train(client: Client, recording: str, **of_the_kind: object) -> DictionaryInfo:
    return start(client, recording, **of_the_kind).result(120)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that has the package; this process, the client's, has not."""
    installed = install_toy_kind(tmp_path_factory.mktemp("installed"))
    store: Path = tmp_path_factory.mktemp("served") / "store"
    paths = [str(installed), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(paths))
        with server_on(store, "--workers"), isogloss.connect(store) as client:
            for seed, recording in enumerate(planted.SITES):
                planted.record(ThroughClient(client), recording, seed=seed)  # pyright: ignore[reportArgumentType] - has what it uses
            toy = train(client, "small-docs", kind=KIND, settings={"l1": L1})
            yield Served(store, client, toy, train(client, "large-docs", k=3))


def test_the_servers_kinds_are_listed_with_their_settings(served: Served) -> None:
    assert KIND not in kind_names(), "the client's process must not have it"
    found = {kind.name: kind for kind in served.client.kinds()}
    assert sorted(found) == sorted([KIND, *kind_names()])
    assert [name for name, kind in found.items() if kind.is_default] == ["topk"]
    toy = found[KIND]
    assert toy.summary.startswith("``z = ReLU(")
    assert toy.problem == ""
    properties = toy.schema["properties"]
    assert isinstance(properties, dict)
    assert set(properties) == {"features", "l1"}
    assert properties["l1"]["minimum"] == 0
    assert served.client.wirings() == ["crosscoder", "sae", "transcoder"]
    listed = served.command_line("kinds")
    assert isinstance(listed, dict)
    assert [kind["name"] for kind in listed["kinds"]] == sorted(found)
    assert listed["kinds"][0]["schema"] == found[listed["kinds"][0]["name"]].schema


def test_it_is_trained_and_its_settings_are_kept(served: Served) -> None:
    toy = served.toy
    assert (toy.kind, toy.wiring, toy.settings) == (KIND, "sae", {"features": 40, "l1": L1})
    assert [(source.recording, source.site) for source in toy.sources] == [
        ("small-docs", "layer.1")
    ]
    assert 0 < toy.metrics["fvu"] < 0.6
    assert served.client.dictionary_info(toy.id) == toy


def test_it_is_loaded_and_encodes_through_the_server(served: Served) -> None:
    rows = served.client.read("small-docs", "layer.1", 0, 9)
    values, indices = served.client.encode(served.toy, rows)
    assert values.shape == indices.shape
    assert len(values) == 9
    assert (values > 0).any(axis=1).all()
    assert indices.max() < 40


def test_it_is_matched_with_a_dictionary_of_another_kind(served: Served) -> None:
    match = served.client.match(served.toy, served.other).result(120)
    pairs = served.client.pairs(match, min_r=0.5)
    assert len(pairs) >= planted.CONCEPTS // 4
    hits = served.client.nearest(served.toy.feature(pairs[0].feature_a), among=[served.other])
    assert hits[0].feature == pairs[0].feature_b
    assert hits[0].r > 0.5
    page = render_report([served.client.get_match(match.id).details])
    assert f"{KIND}, 40 features<" in page, "it has no bound to be told of"
    assert "topk, 40 features, 3 active a row" in page


OURS: dict[str, dict[str, object]] = {
    "batch_topk": {"k": 3},
    "gated": {},
    "jumprelu": {"target_l0": 3},
    "matryoshka_batch_topk": {"k": 3, "prefixes": [0.5, 1]},
    "relu_l1": {},
}
"""Settings of our kinds of which rows differ in their number of features."""


def test_our_kinds_of_ragged_codes_are_trained_encode_and_are_matched(served: Served) -> None:
    jobs = {
        kind: start(served.client, "small-docs", kind=kind, settings=settings)
        for kind, settings in OURS.items()
    }
    rows = served.client.read("small-docs", "layer.1", 0, 50)
    for kind, job in jobs.items():
        made = job.result(120)
        assert made.kind == kind
        assert OURS[kind].items() <= made.settings.items()
        assert 0 < made.metrics["fvu"] < 0.6, kind
        values, indices = served.client.encode(made, rows)
        fires = (values > 0).sum(axis=1)
        assert values.shape == indices.shape == (50, fires.max())
        assert (np.diff(values, axis=1) <= 0).all(), "strongest first, filled up with zeros"
        assert len(set(fires)) > 1, f"rows of {kind} differ in their number of features"
    match = served.client.match(jobs["jumprelu"].result(120), served.other).result(120)
    assert len(served.client.pairs(match, min_r=0.5)) >= planted.CONCEPTS // 4


def test_the_command_line_trains_it(served: Served) -> None:
    words = ("small-docs", "--site", "layer.1", "--features", "40", "--kind", KIND)
    made = served.command_line("train", *words, "--set", "l1=0.5", "--epochs", "1")
    assert isinstance(made, dict)
    assert (made["kind"], made["settings"]) == (KIND, {"features": 40, "l1": 0.5})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"l1": -1}, "l1 is -1.*>= 0"),
        ({"l1": "much"}, "l1 is 'much'.*expected.*float"),
        ({"l2": 1}, r"unknown settings \['l2'\].*\['features', 'l1'\]"),
        ({"features": 3}, "features is given twice"),
    ],
)
def test_settings_that_the_kind_refuses_are_refused_at_once(
    served: Served, settings: dict[str, object], message: str
) -> None:
    before = len(served.client.jobs())
    with pytest.raises(InvalidInput, match=message):
        train(served.client, "small-docs", kind=KIND, settings=settings)
    assert len(served.client.jobs()) == before


def test_a_bound_that_the_kind_does_not_have_is_refused(served: Served) -> None:
    with pytest.raises(InvalidInput, match=r"unknown settings \['k'\]"):
        train(served.client, "small-docs", kind=KIND, k=3)


def test_sites_that_are_not_there_or_that_the_wiring_refuses_are_refused(served: Served) -> None:
    def more(recording: str, site: str) -> object:
        also = [SiteRef(recording=recording, site=site)]
        return served.client.train("small-docs", site="layer.1", features=40, more_sources=also)

    with pytest.raises(UnknownSite, match=r"layer\.1"):
        more("small-docs", "layer.7")
    for recording in ("small-docs", "large-docs"):
        with pytest.raises(InvalidInput, match="2 sites; it reads exactly 1"):
            more(recording, planted.SITES[recording])


@pytest.mark.parametrize(
    "name", ["os.system", "isogloss.dictionaries.kinds.topk", "toy_kind:ReluL1", "../x", "", "\0"]
)
def test_a_name_from_the_wire_is_looked_up_and_never_imported(served: Served, name: str) -> None:
    for given in ({"kind": name}, {"wiring": name}):
        with pytest.raises(InvalidInput, match=f"no {next(iter(given))} .* is installed"):
            train(served.client, "small-docs", **given)
