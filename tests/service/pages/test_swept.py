"""A sweep's grid and what is said of it, without a store."""

import json

import pytest

from isogloss.errors import InvalidInput
from isogloss.service import DictionaryInfo, KindInfo
from isogloss.service.pages.swept import SweepGrid, Swept
from isogloss.service.values.results import SourceInfo
from isogloss.store import Revision

KINDS = [
    KindInfo(
        name=name, summary="", schema={"properties": {setting: {}}}, is_default=default, problem=""
    )
    for name, setting, default in (
        ("topk", "k", True),
        ("gated", "target_l0", False),
        ("odd", "x", False),
    )
]


def grid(**given: object) -> SweepGrid:
    values: dict[str, object] = {
        "sites": ["s"], "features": [8, 16], "asked": [2.0], "kinds": [], "seeds": [0, 1],
        "epochs": [None],
    }  # fmt: skip
    return SweepGrid(**{**values, **given})  # pyright: ignore[reportArgumentType] - of the fields' types


def test_every_combination_is_a_run_that_asks_in_the_words_of_its_kind() -> None:
    runs = grid(kinds=["topk", "gated"], asked=[2.0, 4.0], settings={"aux_k": 3}).runs(KINDS)
    assert len(runs) == 2 * 2 * 2 * 2
    assert runs[0]["settings"] == {"aux_k": 3, "k": 2.0}
    assert runs[-1]["settings"] == {"aux_k": 3, "target_l0": 4.0}
    assert len({str(run) for run in runs}) == len(runs)


def test_no_kind_named_is_the_default_one() -> None:
    assert {run["kind"] for run in grid().runs(KINDS)} == {"topk"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"features": [8, 8]}, "--features is .*each value once"),
        ({"sites": ["s", "s"]}, "--site is"),
        ({"kinds": ["topq"]}, "'topq' is none of topk, gated, odd"),
        ({"kinds": ["odd"]}, "neither k nor target_l0"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        grid(**given).runs(KINDS)


def test_a_dictionary_without_figures_is_not_compared() -> None:
    bare = object.__new__(DictionaryInfo)
    object.__setattr__(bare, "id", "d")
    object.__setattr__(bare, "metrics", {})
    with pytest.raises(InvalidInput, match="sweep with a holdout"):
        Swept.of([[bare]])


def made(name: str, features: int, k: int, seed: int, fvu: float) -> DictionaryInfo:
    source = SourceInfo(
        recording="docs", recording_uid="u1", site="s", revision=Revision(recording="u1", lanes=())
    )
    settings = {"features": features, "k": k}
    config = {"settings": settings, "epochs": 1.0, "seed": seed}
    return DictionaryInfo(
        id=name, uid=name, etag="e", kind="topk", features=features, width=4,
        settings=settings, wiring="sae", sources=(source,),
        metrics={"fvu": fvu, "l0": float(k), "dead_fraction": 0.0},
        provenance={"config": config, "init_seed": seed, "rows_trained": 900}, created=0.0,
    )  # fmt: skip


def test_what_was_swept_is_told_whole_and_as_json() -> None:
    infos = [
        made("a", 8, 2, 0, 0.50), made("b", 8, 2, 1, 0.52), made("c", 16, 2, 0, 0.30),
    ]  # fmt: skip
    swept = Swept.of([infos[:1], infos[1:]])
    told = json.loads(json.dumps(swept.to_dict()))
    assert [one["dictionary"] for one in told["dictionaries"]] == ["a", "b", "c"]
    assert [one["fvu"] for one in told["dictionaries"]] == [0.50, 0.52, 0.30]
    assert [(cell["features"], cell["seeds"]) for cell in told["cells"]] == [(8, 2), (16, 1)]
    assert told["reseeding"]["degrees"] == 1
    assert [(law["site"], law["kind"]) for law in told["laws"]] == [("s", "topk")]
