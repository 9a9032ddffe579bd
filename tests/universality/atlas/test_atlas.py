"""The atlas finds the nearest signatures of each dictionary, from memory and from disk."""

import shutil
from pathlib import Path

import faiss
import numpy as np
import pytest
from ml_dtypes import bfloat16
from numpy.typing import NDArray

from isogloss.errors import (
    AlreadyExists,
    CorruptData,
    DeadFeature,
    InvalidInput,
    NotFound,
    ShapeError,
    UnsupportedVersion,
)
from isogloss.store import read_arrays, write_arrays, write_mappable
from isogloss.universality import Atlas

Floats = NDArray[np.float32]

Three = tuple[dict[str, Floats], Atlas]


def signatures(features: int, m: int = 32, seed: int = 0) -> Floats:
    rows = np.random.default_rng(seed).standard_normal((features, m)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def fires(features: int, count: int = 100) -> NDArray[np.int64]:
    return np.full(features, count, np.int64)


@pytest.fixture
def three() -> Three:
    vectors = {name: signatures(200 + 10 * n, seed=n) for n, name in enumerate("abc")}
    return vectors, Atlas.build(vectors, {name: fires(len(v)) for name, v in vectors.items()})


def best(vector: Floats, rows: Floats, count: int) -> tuple[list[int], Floats]:
    rounded = rows.astype(bfloat16).astype(np.float32)
    scores = rounded @ vector
    order = np.argsort(-scores)[:count]
    return order.tolist(), scores[order]


def test_candidates_are_the_nearest_of_each_target(three: Three) -> None:
    vectors, atlas = three
    query = vectors["a"][7]
    found = atlas.search(query[None], ["b", "c"], count=10)
    assert list(found) == ["b", "c"]
    for name in "bc":
        features, scores = best(query, vectors[name], 10)
        assert found[name].feature[0].tolist() == features
        np.testing.assert_allclose(found[name].estimate[0], scores, rtol=1e-5)


def test_estimates_are_of_the_vector_itself_on_every_processor(three: Three) -> None:
    """Some processors have an instruction for bfloat16 alone: it would round the vector, too."""
    vectors, atlas = three
    query = np.full((1, 32), 1 + 2.0**-9, np.float32)  # bfloat16 would make it 1
    found = atlas.search(query, ["b"], count=3)["b"]
    rounded = vectors["b"].astype(bfloat16).astype(np.float64)
    np.testing.assert_allclose(
        found.estimate[0], rounded[found.feature[0]].sum(axis=1) * (1 + 2.0**-9), rtol=1e-5
    )
    assert faiss.SIMDConfig.get_level() != faiss.SIMDLevel_AVX512_SPR


def test_a_crowd_of_near_features_in_one_dictionary_hides_no_other(three: Three) -> None:
    vectors, _ = three
    crowd = np.repeat(vectors["a"][:1], 500, axis=0)
    atlas = Atlas.build(
        {**vectors, "crowd": crowd},
        {**{n: fires(len(v)) for n, v in vectors.items()}, "crowd": fires(500)},
    )
    found = atlas.search(vectors["a"][:1], ["b", "crowd"], count=5)
    assert found["b"].feature[0].tolist() == best(vectors["a"][0], vectors["b"], 5)[0]
    assert (found["crowd"].estimate[0] > 0.99).all()


def test_twenty_firings_are_enough_unless_another_number_is_given() -> None:
    rows = signatures(4)
    atlas = Atlas.build({"d": rows}, {"d": np.array([19, 20, 21, 0])})
    assert atlas.is_indexed("d").tolist() == [False, True, True, False]
    empty = Atlas(32)
    empty.add("d", rows, np.array([19, 20, 21, 0]))
    assert empty.is_indexed("d").tolist() == [False, True, True, False]


def test_the_least_numbers_are_one_and_one(three: Three) -> None:
    vectors, atlas = three
    small = Atlas.build({"d": signatures(3, m=1)}, {"d": fires(3)})
    assert small.search(np.ones((1, 1), np.float32), ["d"], count=1)["d"].feature.shape == (1, 1)
    with pytest.raises(InvalidInput, match="m is 0"):
        Atlas(0)
    with pytest.raises(InvalidInput, match="count is 0"):
        atlas.search(vectors["a"][:1], ["b"], count=0)


def test_many_queries_are_answered_as_one_by_one(three: Three) -> None:
    vectors, atlas = three
    together = atlas.search(vectors["a"][:30], ["b"], count=4)["b"]
    for n in range(30):
        alone = atlas.search(vectors["a"][n : n + 1], ["b"], count=4)["b"]
        assert alone.feature[0].tolist() == together.feature[n].tolist()


def test_features_that_fire_too_rarely_are_never_found() -> None:
    rows = signatures(50)
    counts = fires(50)
    counts[[3, 8]] = 19
    atlas = Atlas.build({"a": rows}, {"a": counts})
    assert len(atlas) == 48
    found = atlas.search(rows[3][None], ["a"], count=50)["a"].feature[0]
    assert sorted(found[:48].tolist()) == [n for n in range(50) if n not in (3, 8)]
    assert found[48:].tolist() == [-1, -1]
    with pytest.raises(DeadFeature, match="feature 8 of 'a' fires on fewer than 20"):
        atlas.vectors("a", [4, 8])


def test_features_without_a_profile_are_never_found() -> None:
    rows = signatures(5)
    rows[2] = 0
    atlas = Atlas.build({"a": rows}, {"a": fires(5)})
    assert 2 not in atlas.search(rows[:1], ["a"], count=5)["a"].feature


def test_a_dictionary_without_live_features_has_no_candidates(three: Three) -> None:
    vectors, _ = three
    atlas = Atlas.build(
        {"dead": vectors["a"], "b": vectors["b"]}, {"dead": fires(200, 0), "b": fires(210)}
    )
    found = atlas.search(vectors["a"][:1], ["dead", "b"], count=3)
    assert found["dead"].feature.tolist() == [[-1, -1, -1]]
    assert np.isneginf(found["dead"].estimate).all()
    assert (found["b"].feature >= 0).all()
    with pytest.raises(DeadFeature):
        atlas.vectors("dead", [0])


def test_adding_a_dictionary_changes_no_answer_of_the_others(three: Three) -> None:
    vectors, atlas = three
    grown = Atlas(32)
    for name in "abc":
        grown.add(name, vectors[name], fires(len(vectors[name])))
    before = grown.search(vectors["a"][:5], ["b"], count=9)["b"]
    grown.add("d", signatures(70, seed=9), fires(70))
    after = grown.search(vectors["a"][:5], ["b"], count=9)["b"]
    assert np.array_equal(before.feature, after.feature)
    assert np.array_equal(
        before.feature, atlas.search(vectors["a"][:5], ["b"], count=9)["b"].feature
    )
    assert len(grown) == len(atlas) + 70
    with pytest.raises(AlreadyExists, match="'d' is in the atlas"):
        grown.add("d", signatures(70), fires(70))


def test_vectors_are_the_signatures_rounded_to_bfloat16(three: Three) -> None:
    vectors, atlas = three
    wanted = vectors["b"][[5, 0, 209]].astype(bfloat16).astype(np.float32)
    assert np.array_equal(atlas.vectors("b", [5, 0, 209]), wanted)


def test_saved_atlas_answers_alike(three: Three, tmp_path: Path) -> None:
    vectors, _ = three
    counts = {name: fires(len(v)) for name, v in vectors.items()}
    counts["b"][4] = 0
    before = Atlas.build(vectors, counts, min_fires=7, probe_uid="0" * 16)
    before.save(tmp_path / "atlas")
    after = Atlas.load(tmp_path / "atlas")
    assert after.dictionaries == ("a", "b", "c")
    assert (after.m, after.min_fires, after.probe_uid, len(after)) == (32, 7, "0" * 16, len(before))
    one, other = (a.search(vectors["a"][:9], "abc", count=20) for a in (before, after))
    for name in "abc":
        assert np.array_equal(one[name].feature, other[name].feature)
        assert np.array_equal(one[name].estimate, other[name].estimate)
    with pytest.raises(DeadFeature):
        after.vectors("b", [4])


def test_damage_is_noticed_when_the_dictionary_is_searched(three: Three, tmp_path: Path) -> None:
    vectors, atlas = three
    atlas.save(tmp_path / "atlas")
    (chunk,) = (p for p in (tmp_path / "atlas" / "index.1").iterdir() if p.name != "zarr.json")
    content = bytearray(chunk.read_bytes())
    content[1000] ^= 1
    chunk.write_bytes(content)
    opened = Atlas.load(tmp_path / "atlas")
    assert opened.search(vectors["a"][:1], ["a", "c"], count=1)["a"].feature.tolist() == [[0]]
    with pytest.raises(CorruptData, match=r"'index\.1' does not match"):
        opened.search(vectors["a"][:1], ["b"])
    with pytest.raises(CorruptData):
        opened.check()


def test_an_open_atlas_answers_when_another_takes_its_place(three: Three, tmp_path: Path) -> None:
    vectors, atlas = three
    atlas.save(tmp_path / "atlas")
    reader = Atlas.load(tmp_path / "atlas")
    atlas.keep(["a"])
    atlas.save(tmp_path / "atlas")
    assert Atlas.load(tmp_path / "atlas").dictionaries == ("a",)
    shutil.rmtree(tmp_path / "atlas")
    assert reader.search(vectors["b"][3:4], ["b"], count=1)["b"].feature.tolist() == [[3]]


def test_dictionaries_that_are_kept_answer_as_before(three: Three, tmp_path: Path) -> None:
    vectors, atlas = three
    before = atlas.search(vectors["a"][:4], ["c"], count=9)["c"]
    atlas.save(tmp_path / "atlas")
    opened = Atlas.load(tmp_path / "atlas")
    opened.keep(["c", "z"])
    opened.add("d", vectors["a"], fires(200))
    opened.save(tmp_path / "next")
    after = Atlas.load(tmp_path / "next")
    assert after.dictionaries == ("c", "d")
    found = after.search(vectors["a"][:4], ["c", "d"], count=9)
    assert np.array_equal(found["c"].feature, before.feature)
    assert np.array_equal(found["c"].estimate, before.estimate)
    assert found["d"].feature[:, 0].tolist() == [0, 1, 2, 3]


def test_an_atlas_of_the_first_version_is_read(three: Three, tmp_path: Path) -> None:
    """It held the rounded signatures of all dictionaries in one array."""
    vectors, atlas = three
    rounded = np.concatenate([vectors[name].astype(bfloat16) for name in "abc"])
    numbers = np.concatenate([np.arange(len(vectors[name]), dtype=np.int32) for name in "abc"])
    ranges = {"a": [0, 200, 200], "b": [200, 410, 210], "c": [410, 630, 220]}
    attributes: dict[str, object] = {"kind": "atlas", "version": 1, "min_fires": 20, "probe": "p"}
    write_arrays(
        tmp_path / "old", {"rounded": rounded, "feature": numbers}, {**attributes, "ranges": ranges}
    )
    one, other = (
        found.search(vectors["a"][:3], "abc", count=5)
        for found in (atlas, Atlas.load(tmp_path / "old"))
    )
    for name in "abc":
        assert np.array_equal(one[name].feature, other[name].feature)
        assert np.array_equal(one[name].estimate, other[name].estimate)


def test_an_index_of_another_size_is_noticed(three: Three, tmp_path: Path) -> None:
    three[1].save(tmp_path / "atlas")
    arrays, attributes = read_arrays(tmp_path / "atlas")
    swapped = {**arrays, "index.0": arrays["index.1"], "index.1": arrays["index.0"]}
    write_mappable(tmp_path / "atlas", swapped.items(), attributes)
    with pytest.raises(CorruptData, match="210 rows of 32, wanted 200 signatures of 32"):
        Atlas.load(tmp_path / "atlas").check()
    write_mappable(
        tmp_path / "atlas", {**arrays, "index.0": np.zeros(9, np.uint8)}.items(), attributes
    )
    with pytest.raises(CorruptData, match="no index of faiss"):
        Atlas.load(tmp_path / "atlas").check()
    del arrays["index.2"]
    write_mappable(tmp_path / "atlas", arrays.items(), attributes)
    with pytest.raises(CorruptData, match="lacks the signatures of 'c'"):
        Atlas.load(tmp_path / "atlas")


def test_ranges_that_do_not_fit_are_noticed(three: Three, tmp_path: Path) -> None:
    three[1].save(tmp_path / "atlas")
    arrays, attributes = read_arrays(tmp_path / "atlas")
    write_arrays(tmp_path / "atlas", arrays, {**attributes, "ranges": {"a": [0, 200, 200]}})
    with pytest.raises(CorruptData, match="build the atlas again"):
        Atlas.load(tmp_path / "atlas")
    write_arrays(tmp_path / "atlas", arrays, {**attributes, "ranges": {"a": ["0", 2]}})
    with pytest.raises(CorruptData, match="ranges"):
        Atlas.load(tmp_path / "atlas")


def test_a_later_version_is_refused(three: Three, tmp_path: Path) -> None:
    three[1].save(tmp_path / "atlas")
    arrays, attributes = read_arrays(tmp_path / "atlas")
    write_arrays(tmp_path / "atlas", arrays, {**attributes, "version": 9})
    with pytest.raises(UnsupportedVersion, match="version 9"):
        Atlas.load(tmp_path / "atlas")


def test_unknown_dictionaries_and_features_are_named(three: Three) -> None:
    vectors, atlas = three
    with pytest.raises(NotFound, match="'z' is not in the atlas, which has a, b, c"):
        atlas.search(vectors["a"][:1], ["z"])
    with pytest.raises(NotFound):
        atlas.vectors("z", [0])
    with pytest.raises(InvalidInput, match="feature 200 of 'a': it has features 0 to 199"):
        atlas.vectors("a", [200])
    with pytest.raises(InvalidInput):
        atlas.vectors("a", [-1])


def test_shapes_must_fit(three: Three) -> None:
    vectors, atlas = three
    with pytest.raises(ShapeError, match=r"\[queries, 32\]"):
        atlas.search(vectors["a"][:1, :31], ["b"])
    with pytest.raises(InvalidInput, match="count is 0"):
        atlas.search(vectors["a"][:1], ["b"], count=0)
    with pytest.raises(InvalidInput, match="0 dictionaries"):
        Atlas.build({}, {})
    with pytest.raises(ShapeError, match="sketch all dictionaries with one m"):
        Atlas.build({"a": signatures(5), "b": signatures(5, m=16)}, {"a": fires(5), "b": fires(5)})
    with pytest.raises(ShapeError):
        Atlas.build({"a": signatures(5)}, {"a": fires(4)})
    with pytest.raises(InvalidInput, match="same dictionaries"):
        Atlas.build({"a": signatures(5)}, {"b": fires(5)})
    with pytest.raises(InvalidInput, match="m is 0"):
        Atlas(0)


@pytest.mark.parametrize("odd", [np.inf, -np.inf, np.nan])
def test_signatures_that_are_not_finite_are_refused(three: Three, odd: float) -> None:
    _, atlas = three
    broken = signatures(5)
    broken[[2, 4], 1] = odd
    with pytest.raises(InvalidInput, match=r"signatures of 2 features of 'new' .* feature 2"):
        atlas.add("new", broken, fires(5))
    assert "new" not in atlas.dictionaries
    with pytest.raises(InvalidInput, match="vector 2 of 5 is not finite"):
        atlas.search(broken, ["a"])


def test_what_faiss_does_not_find_is_no_feature(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    """faiss marks a missing neighbour by the id -1, which is not the last feature."""
    vectors, atlas = three

    def nothing(query: object, count: int) -> tuple[object, object]:
        return np.zeros((1, count), np.float32), np.full((1, count), -1)

    monkeypatch.setattr(atlas._parts["b"].index, "search", nothing)
    found = atlas.search(vectors["a"][:1], ["b"], count=3)["b"]
    assert found.feature.tolist() == [[-1, -1, -1]]
    assert np.isneginf(found.estimate).all()


def test_a_search_reads_the_signatures_of_its_targets_only(
    three: Three, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, atlas = three

    def never(query: object, count: int) -> tuple[object, object]:
        raise AssertionError("a dictionary was searched that nobody asked for")

    for name in ("b", "c"):
        monkeypatch.setattr(atlas._parts[name].index, "search", never)
    assert atlas.search(vectors["a"][:1], ["a"], count=1)["a"].feature.tolist() == [[0]]
