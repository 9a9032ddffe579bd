"""A sweep's grid and what is said of it, without a store."""

import pytest

from isogloss.errors import InvalidInput
from isogloss.service import DictionaryInfo, KindInfo
from isogloss.service.pages.swept import SweepGrid, Swept

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
