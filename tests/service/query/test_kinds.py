"""What can be trained, and names from a request, which are looked up and never imported."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.dictionaries import kind_schema
from isogloss.errors import InvalidInput, IsoglossError, NotFound, UnknownSite
from isogloss.service.query.kinds import check_training, list_kinds
from isogloss.service.values.results import SiteRef
from isogloss.store import Store
from isogloss.store.testing import sample_spec

SOURCE = SiteRef(recording="small-docs", site="layer.2")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("kinds") / "store") as store:
        for name in ("small-docs", "large-docs"):
            store.create_recording(sample_spec(name), [f"t{i}" for i in range(100)])
        yield store


def test_every_kind_is_listed_with_its_schema() -> None:
    found = {kind.name: kind for kind in list_kinds()}
    assert found["topk"].schema == kind_schema("topk")
    assert [name for name, kind in found.items() if kind.is_default] == ["topk"]
    assert all(kind.summary and not kind.problem for kind in found.values())


@pytest.mark.parametrize(
    ("sources", "config", "error", "message"),
    [
        ([SOURCE], {"settings": {"features": 8}}, InvalidInput, "k is 32 but features is 8"),
        ([SOURCE], {"settings": {}}, InvalidInput, "features is missing"),
        ([SOURCE], {"settings": {"features": 64, "l1": 1}}, InvalidInput, "unknown settings"),
        ([SOURCE], {"settings": {"features": 64}, "seed": -1}, InvalidInput, "seed is -1"),
        (
            [SOURCE],
            {"settings": {"features": 2**62}},
            InvalidInput,
            "features is 4611686018427387904",
        ),
        (
            [SOURCE],
            {"settings": {"features": 2**31 - 1}},
            InvalidInput,
            "need at least .* GiB of memory, and this machine has",
        ),
        (
            [SOURCE],
            {"settings": {"features": 64}, "batch_rows": 2**60},
            InvalidInput,
            "batch_rows is 1152921504606846976",
        ),
        ([SOURCE], {"settings": {"features": 64}, "epochs": 1e300}, InvalidInput, "epochs is"),
        ([SOURCE], {"settings": {"features": 64}, "epochs": 0.0}, InvalidInput, "epochs is"),
        ([SOURCE], {"settings": {"features": 64}, "epochs": float("nan")}, InvalidInput, "epochs"),
        ([SOURCE, SOURCE], {"settings": {"features": 64}}, InvalidInput, "given 2 sites"),
        (
            [SOURCE, SiteRef(recording="large-docs", site="layer.2")],
            {"settings": {"features": 64}},
            InvalidInput,
            "given 2 sites; it reads exactly 1",
        ),
        (
            [SiteRef(recording="small-docs", site="layer.3")],
            {"settings": {"features": 64}},
            UnknownSite,
            "layer",
        ),
        (
            [SiteRef(recording="lost", site="layer.2")],
            {"settings": {"features": 64}},
            NotFound,
            "lost",
        ),
    ],
)
def test_a_training_that_cannot_begin_is_refused(
    store: Store,
    sources: list[SiteRef],
    config: dict[str, object],
    error: type[IsoglossError],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        check_training(store, sources, [config])


@pytest.mark.parametrize("field", ["kind", "wiring"])
@pytest.mark.parametrize(
    "name",
    [
        *("never_imported", "never_imported:Kind", "never_imported.Kind", "os.system", "../x"),
        "isogloss.dictionaries.kinds.topk",
        "isogloss.dictionaries.kinds.topk:TopK",
    ],
)
def test_the_name_of_a_kind_or_wiring_is_never_imported(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, name: str
) -> None:
    (tmp_path / "never_imported.py").write_text("raise SystemExit('it was imported')")
    monkeypatch.syspath_prepend(tmp_path)
    check_training(store, [SOURCE], [{"settings": {"features": 64}}])
    before = set(sys.modules)
    with pytest.raises(InvalidInput, match=f"no {field} .* is installed; there are: "):
        check_training(store, [SOURCE], [{"settings": {"features": 64}, field: name}])
    assert set(sys.modules) == before


def test_a_kind_whose_package_does_not_import_is_listed_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "broken-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[isogloss.kinds]\nbroken = no_such_module:Kind\n")
    monkeypatch.syspath_prepend(tmp_path)
    found = {kind.name: kind for kind in list_kinds()}
    assert "no_such_module" in found["broken"].problem
    assert found["broken"].schema == {}
    assert found["topk"].problem == ""
