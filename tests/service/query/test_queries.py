"""Questions about features, on a store that real jobs filled."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tests.service import planted
from tests.service.run_here import run_here

from isogloss import dictionaries
from isogloss.errors import CorruptData, DeadFeature, InvalidInput, NotFound
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.calls.queries import QueryHandlers
from isogloss.service.pages.report import render_report
from isogloss.service.query.queries import REPORT_FILE, Queries
from isogloss.service.values.results import PairInfo
from isogloss.store import Catalog, CatalogEntry, Store
from isogloss.universality import Atlas, load_probed


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("queries") / "store") as store:
        planted.record(store, "small-docs", seed=1)
        planted.record(store, "large-docs", seed=2)
        run_here(store, "train", planted.train_spec("small-docs", "small"))
        run_here(store, "train", planted.train_spec("large-docs", "large", seed=1))
        run_here(store, "match", {"match": "both", "a": "small", "b": "large"})
        yield store


@pytest.fixture(scope="module")
def queries(store: Store) -> Queries:
    return Queries(store)


def codes(store: Store, dictionary: str) -> np.ndarray:
    """Dense codes of a dictionary over the probe, ``[segments, features]``."""
    uid = store.catalog.get("dictionary", dictionary).uid
    (probe,) = store.catalog.list("probe")
    probed = load_probed(store.artifact("codes", uid, probe.uid), dictionary)
    dense = np.zeros((probed.codes.rows, probed.features))
    for feature in range(probed.features):
        rows, values = probed.codes.feature(feature)
        dense[rows, feature] = values
    return dense


def liveliest(store: Store, dictionary: str) -> int:
    """The feature that fires on most segments."""
    return int((codes(store, dictionary) > 0).sum(axis=0).argmax())


def test_the_nearest_feature_is_the_one_with_the_highest_correlation(
    store: Store, queries: Queries
) -> None:
    feature = liveliest(store, "small")
    hits = queries.nearest("small", feature, ["large"], count=3)
    a, b = codes(store, "small")[:, feature], codes(store, "large")
    with np.errstate(invalid="ignore", divide="ignore"):
        r = np.array([np.corrcoef(a, column)[0, 1] for column in b.T])
    r[(b > 0).sum(axis=0) < 20] = -1
    assert hits[0].feature == int(np.nanargmax(r))
    assert hits[0].r == pytest.approx(float(np.nanmax(r)), abs=1e-6)
    assert [hit.r for hit in hits] == sorted((hit.r for hit in hits), reverse=True)
    assert {hit.dictionary for hit in hits} == {"large"}


def test_a_question_reads_each_entry_of_the_catalog_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, feature = Queries(store), liveliest(store, "small")
    asked: list[tuple[str, str]] = []
    get = Catalog.get

    def counting(self: Catalog, kind: str, name: str) -> CatalogEntry:
        asked.append((kind, name))
        return get(self, kind, name)

    monkeypatch.setattr(Catalog, "get", counting)
    queries.nearest("small", feature, ["large"])
    assert sorted(asked) == [("dictionary", "large"), ("dictionary", "small")]
    asked.clear()
    queries.feature("small", feature)
    assert [found for found in asked if found[0] == "dictionary"] == [("dictionary", "small")]


def test_effects_beside_a_dictionary_are_read_once_for_all_questions(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries, feature = Queries(store), liveliest(store, "small")
    directory = store.artifact("dictionary", store.catalog.get("dictionary", "small").uid)
    made = dictionaries.TokenEffects(
        feature=feature,
        promoted=(),
        suppressed=(),
        direct_promoted=(),
        direct_suppressed=(),
        agreement=0.5,
    )
    read, reads = dictionaries.read_token_effects, list[Path]()

    def counting(directory: Path) -> dict[int, dictionaries.TokenEffects]:
        reads.append(directory)
        return read(directory)

    monkeypatch.setattr(dictionaries, "read_token_effects", counting)
    assert queries.feature("small", feature).token_effects is None
    path = dictionaries.write_token_effects([made], directory)
    try:
        for _ in range(3):
            assert queries.feature("small", feature).token_effects == made
        assert queries.feature("small", (feature + 1) % 40).token_effects is None
        assert reads == [directory]
        again = replace(made, agreement=0.25)
        dictionaries.write_token_effects([again], directory)
        assert queries.feature("small", feature).token_effects == again
    finally:
        path.unlink()
    assert queries.feature("small", feature).token_effects is None
    assert reads == [directory] * 2


def test_an_atlas_that_is_replaced_while_it_is_opened_is_opened_anew(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    feature = liveliest(store, "small")
    wanted = Queries(store).nearest("small", feature, ["large"])
    load, swapped = Atlas.load, list[str]()

    def swapping(directory: Path) -> Atlas:
        if not swapped:
            (entry,) = store.catalog.list("atlas")
            swapped.append(store.catalog.new_uid())
            load(directory).save(store.artifact("atlas", swapped[0]))
            store.catalog.put("atlas", entry.id, swapped[0], entry.body, replace=True)
            shutil.rmtree(directory)
        return load(directory)

    monkeypatch.setattr(Atlas, "load", swapping)
    assert Queries(store).nearest("small", feature, ["large"]) == wanted
    assert swapped


def test_a_question_sees_a_new_atlas_and_forgets_the_old_one(store: Store, tmp_path: Path) -> None:
    # a copy: what other tests asked of the store may have its atlas mapped still
    shutil.copytree(store.root, tmp_path / "copy")
    with Store.open(tmp_path / "copy") as copy:
        _check_a_new_atlas(copy)


def _check_a_new_atlas(store: Store) -> None:
    queries, feature = Queries(store), liveliest(store, "small")
    wanted = queries.nearest("small", feature, ["large"])
    (entry,) = store.catalog.list("atlas")
    old, new = store.artifact("atlas", entry.uid), store.catalog.new_uid()
    Atlas.load(old).save(store.artifact("atlas", new))
    store.catalog.put("atlas", entry.id, new, entry.body, replace=True)
    shutil.rmtree(old)
    assert queries.nearest("small", feature, ["large"]) == wanted
    mapped = Path("/proc/self/maps").read_text()
    assert str(store.artifact("atlas", new)) in mapped
    assert str(old) not in mapped


def test_a_feature_says_how_often_how_strongly_and_where_it_fires(
    store: Store, queries: Queries
) -> None:
    feature = liveliest(store, "small")
    column = codes(store, "small")[:, feature]
    info = queries.feature("small", feature, contexts=4)
    assert info.fires == int((column > 0).sum())
    assert info.density == pytest.approx(info.fires / len(column))
    assert info.max_activation == pytest.approx(float(column.max()))
    assert len(info.contexts) == 4
    assert info.contexts[0].value == pytest.approx(info.max_activation)
    texts = {document.id: document.text for document in planted.documents()}
    for context in info.contexts:
        whole = texts[context.document]
        assert whole is not None
        assert context.before + context.peak + context.after in whole
        assert context.peak.startswith("word")


def test_a_call_that_names_no_number_of_contexts_is_answered_with_the_strongest_eight(
    store: Store, queries: Queries
) -> None:
    feature = liveliest(store, "small")
    request = pb.GetFeatureRequest(name=f"dictionaries/small/features/{feature}")
    found = QueryHandlers(queries).get_feature(request)
    wanted = queries.feature("small", feature, contexts=8).contexts
    assert len(queries.feature("small", feature, contexts=9).contexts) == 9
    places = [(context.document, context.before) for context in found.contexts]
    assert places == [(context.document, context.before) for context in wanted]


def plain(pairs: list[PairInfo]) -> list[dict[str, object]]:
    """Pairs as dictionaries, which compare where a number is unknown (NaN)."""
    return [asdict(pair) for pair in pairs]


def test_pairs_come_by_r_and_in_slices(queries: Queries) -> None:
    pairs = queries.pairs("both")
    assert queries.pair_count("both") == len(pairs) > 5
    assert [pair.r for pair in pairs] == sorted((pair.r for pair in pairs), reverse=True)
    np.testing.assert_equal(plain(queries.pairs("both", start=2, count=2)), plain(pairs[2:4]))
    assert queries.pairs("both", start=len(pairs) + 5) == []
    strong = queries.pairs("both", min_r=0.5)
    np.testing.assert_equal(plain(strong), plain([pair for pair in pairs if pair.r >= 0.5]))
    assert queries.pair_count("both", min_r=0.5) == len(strong)
    assert type(pairs[0].feature_a) is int
    assert {pair.replicates for pair in pairs} <= {"yes", "no", "undecided"}
    assert type(pairs[0].replicated) is bool


def test_a_match_carries_all_that_its_report_shows(queries: Queries) -> None:
    match = queries.match("both")
    assert (match.a, match.b) == ("small", "large")
    assert match.pairs == queries.pair_count("both")
    assert "small x large" in match.summary()
    page = render_report([match.details])
    assert "made/up-small-docs" in page
    assert "up-large-docs" in page
    assert "word" in page
    assert page.count('<article class="pair">') > 5
    (listed,) = queries.matches()
    assert (listed.id, listed.details, listed.text) == ("both", {}, "")


def test_what_is_not_there_is_named(store: Store, queries: Queries) -> None:
    with pytest.raises(NotFound, match="no dictionary 'lost'"):
        queries.nearest("lost", 0, ["large"])
    with pytest.raises(NotFound, match="no probe 'lost'"):
        queries.nearest("small", 0, ["large"], probe="lost")
    with pytest.raises(NotFound, match="no match 'lost'"):
        queries.match("lost")
    with pytest.raises(NotFound, match="no match 'lost'"):
        queries.pairs("lost")
    with pytest.raises(InvalidInput, match="features 0 to 39"):
        queries.feature("small", 40)
    with pytest.raises(InvalidInput, match="start is -1"):
        queries.pairs("both", start=-1)
    dead = np.flatnonzero((codes(store, "small") > 0).sum(axis=0) < 20)
    if len(dead):
        with pytest.raises(DeadFeature, match="at least 20"):
            queries.nearest("small", int(dead[0]), ["large"])


def test_a_dictionary_on_no_probe_is_refused_with_what_to_do(
    store: Store, queries: Queries
) -> None:
    spec = planted.train_spec("small-docs", "fresh", epochs=1)
    run_here(store, "train", spec)
    with pytest.raises(NotFound, match="no probe has fresh, large: make one with create_probe"):
        queries.nearest("fresh", 0, ["large"])
    (probe,) = store.catalog.list("probe")
    with pytest.raises(NotFound, match="lacks fresh: add them"):
        queries.nearest("fresh", 0, ["large"], probe=probe.id)


def test_a_match_whose_report_was_damaged_says_so(store: Store) -> None:
    entry = store.catalog.get("match", "both")
    file: Path = store.artifact("match", entry.uid) / REPORT_FILE
    kept = file.read_bytes()
    try:
        file.write_bytes(kept[: len(kept) // 2])
        with pytest.raises(CorruptData, match=r"report\.json cannot be read"):
            Queries(store).match("both")
    finally:
        file.write_bytes(kept)


def test_asking_questions_is_what_imports_torch_and_faiss() -> None:
    code = (
        "import sys, isogloss.service.query.queries;"
        "sys.exit(bool({'torch', 'faiss', 'zarr', 'grpc'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
