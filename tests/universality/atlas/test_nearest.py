from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import DeadFeature, EmptyProbe, InvalidInput, NotFound
from isogloss.store import Csr
from isogloss.universality import Atlas, Neighbour, Probe, ProbedDictionary, nearest, signatures
from isogloss.universality.correlation.best_matches import best_matches
from isogloss.universality.correlation.moments import codes_matrix

WriteCodes = Callable[..., ProbedDictionary]
MakeProbe = Callable[..., Probe]
Floats = NDArray[np.float32]

SEGMENTS, FEATURES = 12_000, 600


@dataclass
class World:
    """Codes of two dictionaries, and what is true of them."""

    a: Floats
    b: Floats
    partner: NDArray[np.int64]
    tokens: NDArray[np.int64]
    present: NDArray[np.bool_]


@dataclass
class Room:
    """The same world in files."""

    probe: Probe
    probed: dict[str, ProbedDictionary]
    atlas: Atlas


def strengths(random: np.random.Generator, fires: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Activations where something fires, 0 elsewhere."""
    values = np.zeros(fires.shape)
    values[fires] = random.gamma(4.0, 0.25, int(fires.sum()))
    return values


def planted(seed: int = 0) -> tuple[Floats, Floats, NDArray[np.int64], NDArray[np.int64]]:
    """Two dictionaries; feature n of the first is feature ``partner[n]`` of the second.

    Firing rates fall as 1/rank. A pair shares 40 to 90 % of its firings; one in four features of
    the second has no partner.
    """
    random = np.random.default_rng(seed)
    rates = np.minimum(0.1, 1.2 / np.arange(1, FEATURES + 1))
    tokens = random.integers(0, 400, SEGMENTS)
    a = strengths(random, random.random((SEGMENTS, FEATURES)) < rates)
    kept = random.random((SEGMENTS, FEATURES)) < random.uniform(0.4, 0.9, FEATURES)
    extra = random.random((SEGMENTS, FEATURES)) < rates * 0.3
    b = np.where(kept, a, 0) + strengths(random, extra)
    private = random.random(FEATURES) < 0.25
    b[:, private] = b[random.permutation(SEGMENTS)][:, private]
    partner = random.permutation(FEATURES)
    shuffled = np.empty_like(b)
    shuffled[:, partner] = b
    return a.astype(np.float32), shuffled.astype(np.float32), np.where(private, -1, partner), tokens


@pytest.fixture(scope="module")
def world() -> World:
    a, b, partner, tokens = planted()
    random = np.random.default_rng(7)
    present = random.random(SEGMENTS) < 0.95
    return World(
        a=a, b=np.where(present[:, None], b, 0), partner=partner, tokens=tokens, present=present
    )


@pytest.fixture(scope="module")
def room(world: World, write_codes: WriteCodes, make_probe: MakeProbe) -> Room:
    probe = make_probe(SEGMENTS, tokens=world.tokens)
    return furnish(probe, write_codes, {"a": world.a, "b": world.b}, {"b": world.present})


def furnish(
    probe: Probe,
    write_codes: WriteCodes,
    codes: Mapping[str, Floats],
    present: Mapping[str, NDArray[np.bool_]] | None = None,
) -> Room:
    """Write codes of dictionaries on a probe, and index their signatures."""
    here = present or {}
    probed = {name: write_codes(name, dense, here.get(name)) for name, dense in codes.items()}
    vectors = {name: signatures(side, probe) for name, side in probed.items()}
    fires = {name: side.moments.fires for name, side in probed.items()}
    return Room(probe=probe, probed=probed, atlas=Atlas.build(vectors, fires))


def ask(
    room: Room,
    feature: int,
    among: Sequence[str] = ("b",),
    dictionary: str = "a",
    *,
    count: int = 5,
    candidates: int = 100,
) -> list[Neighbour]:
    return nearest(
        room.atlas,
        room.probed,
        room.probe,
        dictionary=dictionary,
        feature=feature,
        among=list(among),
        count=count,
        candidates=candidates,
    )


def correlations(world: World, feature: int) -> Floats:
    """Of one feature of a with every feature of b, where both are present."""
    a = world.a[world.present, feature].astype(np.float64)
    b = world.b[world.present].astype(np.float64)
    a, b = a - a.mean(), b - b.mean(axis=0)
    norm = np.sqrt((a @ a) * (b * b).sum(axis=0))
    return np.divide(a @ b, norm, out=np.zeros(FEATURES), where=norm > 0)


def test_sketch_and_rerank_find_the_exact_nearest_feature(world: World, room: Room) -> None:
    here = world.present
    a = codes_matrix(csr(world.a[here]), FEATURES).T.tocsr()
    b = codes_matrix(csr(world.b[here]), FEATURES)
    exact = best_matches(a, b).a
    fires = {name: probed.moments.fires for name, probed in room.probed.items()}
    live = np.flatnonzero((fires["a"] >= 20) & (fires["b"][exact.index] >= 20) & (exact.r >= 0.1))
    found = room.atlas.search(room.atlas.vectors("a", live.tolist()), ["b"], count=100)["b"].feature
    recall = (found == exact.index[live][:, None]).any(axis=1).mean()
    assert len(live) > 300
    assert recall >= 0.95
    assert (exact.index[live] == world.partner[live]).mean() > 0.95


def csr(dense: Floats) -> Csr:
    rows, columns = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))])
    return Csr(
        indptr=indptr.astype(np.int64),
        indices=columns.astype(np.int32),
        values=dense[rows, columns],
    )


def by_the_atlas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no comparison with all features be cheap enough."""
    monkeypatch.setattr("isogloss.universality.atlas.pairing.CHEAP", 0)


@pytest.mark.parametrize("among", ["a", "b"])
def test_comparing_with_all_and_the_atlas_find_the_same(
    room: Room, monkeypatch: pytest.MonkeyPatch, among: str
) -> None:
    features = np.flatnonzero(room.probed["a"].moments.fires >= 20)[::15].tolist()
    search, searched = room.atlas.search, list[int]()

    def counted(vectors: Floats, targets: Sequence[str], *, count: int) -> object:
        searched.append(len(targets))
        return search(vectors, targets, count=count)

    monkeypatch.setattr(room.atlas, "search", counted)
    exact = [ask(room, feature, (among,)) for feature in features]
    assert not searched
    by_the_atlas(monkeypatch)
    proposed = [ask(room, feature, (among,), candidates=FEATURES) for feature in features]
    assert searched
    assert repr(proposed) == repr(exact)  # NaN is no equal of itself


def test_codes_that_are_too_many_for_memory_are_read_as_they_are_asked_for(
    world: World, write_codes: WriteCodes, make_probe: MakeProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"b": world.present}
    probe = make_probe(SEGMENTS, tokens=world.tokens)
    room = furnish(probe, write_codes, {"a": world.a, "b": world.b}, both)
    feature = int(np.flatnonzero(world.partner >= 0)[3])
    resident = ask(room, feature, candidates=FEATURES)
    monkeypatch.setattr("isogloss.universality.codes.probed._RESIDENT_ENTRIES", 0)
    again = furnish(probe, write_codes, {"a": world.a, "b": world.b}, both)
    assert all(side.by_row is None and side.by_feature is None for side in again.probed.values())
    assert ask(again, feature, candidates=FEATURES) == resident


def test_a_feature_that_fires_nearly_everywhere_is_asked_of_the_atlas(
    write_codes: WriteCodes, make_probe: MakeProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all features of a small dictionary it would multiply more than a search reads."""
    random = np.random.default_rng(3)
    dense = strengths(random, random.random((2000, 40)) < 0.5).astype(np.float32)
    room = furnish(make_probe(2000), write_codes, {"a": dense, "b": dense[:, ::-1].copy()})

    def searched(vectors: Floats, among: Sequence[str], *, count: int) -> object:
        pytest.fail(f"{len(vectors)} of {among} as it should, {count}")

    monkeypatch.setattr(room.atlas, "search", searched)
    with pytest.raises(pytest.fail.Exception, match="as it should"):
        ask(room, 7)
    monkeypatch.undo()
    (first, *_) = ask(room, 7)
    assert (first.feature, first.mutual) == (32, True)
    assert first.r == pytest.approx(1.0)


@pytest.mark.parametrize("nth", [0, 30, 111])
def test_hits_carry_the_exact_correlation(world: World, room: Room, nth: int) -> None:
    feature = int(np.flatnonzero(world.partner >= 0)[nth])
    hits = ask(room, feature, count=5, candidates=FEATURES)
    live = room.probed["b"].moments.fires >= 20
    wanted = np.where(live, correlations(world, feature), 0)
    order = np.argsort(-wanted)
    assert [hit.feature for hit in hits] == order[:5].tolist()
    for hit in hits:
        assert hit.dictionary == "b"
        assert hit.r == pytest.approx(wanted[hit.feature], abs=1e-9)
        fires = world.b[world.present, hit.feature] > 0
        assert hit.fires == fires.sum()
        assert hit.cofires == (fires & (world.a[world.present, feature] > 0)).sum()
    assert hits[0].margin == pytest.approx(wanted[order[0]] - wanted[order[1]], abs=1e-9)
    assert hits[1].margin == pytest.approx(wanted[hits[1].feature] - wanted[order[0]], abs=1e-9)


def test_planted_partners_are_mutual(world: World, room: Room) -> None:
    features = np.flatnonzero(world.partner >= 0)[:12]
    for feature in features.tolist():
        first, *others = ask(room, feature, count=3)
        assert first.feature == world.partner[feature]
        assert first.mutual
        assert not any(hit.mutual for hit in others)


def test_a_feature_without_partner_is_not_mutual_with_anothers(world: World, room: Room) -> None:
    # its nearest feature has a planted partner, which correlates far more with it
    loners = np.flatnonzero(world.partner < 0)[:8]
    partners = set(world.partner[world.partner >= 0].tolist())
    hits = [ask(room, feature, count=1) for feature in loners.tolist()]
    found = [hit[0] for hit in hits if hit and hit[0].feature in partners]
    assert found
    assert not any(hit.mutual for hit in found)


def test_token_null_is_the_mean_of_exchanges_within_tokens(world: World, room: Room) -> None:
    feature = int(np.flatnonzero(world.partner >= 0)[0])
    hit = ask(room, feature, count=1)[0]
    here = world.present
    a, b = world.a[here, feature].astype(float), world.b[here, hit.feature].astype(float)
    tokens = world.tokens[here]
    random = np.random.default_rng(0)
    several = np.bincount(tokens)[tokens] > 1
    draws = []
    for _ in range(300):
        taken = np.lexsort((random.random(len(b)), tokens))  # by token, in random order
        exchanged = np.empty_like(b)
        for rows in np.split(taken, np.flatnonzero(np.diff(tokens[taken])) + 1):
            exchanged[rows] = b[np.roll(rows, 1)]  # none keeps its own
        draws.append(np.corrcoef(a[several], exchanged[several])[0, 1])
    assert hit.token_null == pytest.approx(np.mean(draws), abs=5 * np.std(draws) / np.sqrt(300))
    assert hit.excess == pytest.approx(hit.r - hit.token_null)


def test_partial_correlation_is_that_within_tokens(world: World, room: Room) -> None:
    feature = int(np.flatnonzero(world.partner >= 0)[1])
    hit = ask(room, feature, count=1)[0]
    here = world.present
    tokens = world.tokens[here]
    residuals = []
    for values in (world.a[here, feature].astype(float), world.b[here, hit.feature].astype(float)):
        means = np.bincount(tokens, values) / np.maximum(np.bincount(tokens), 1)
        residuals.append(values - means[tokens])
    assert hit.partial_token == pytest.approx(np.corrcoef(*residuals)[0, 1], abs=1e-9)


def test_each_target_dictionary_gives_its_own_hits(world: World, room: Room) -> None:
    feature = int(np.flatnonzero(world.partner >= 0)[0])
    hits = ask(room, feature, among=["a", "b"], count=2)
    assert sorted(hit.dictionary for hit in hits) == ["a", "a", "b", "b"]
    assert all((hit.dictionary, hit.feature) != ("a", feature) for hit in hits)
    alone = ask(room, feature, among=["b"], count=2)
    assert [hit for hit in hits if hit.dictionary == "b"] == alone


def test_search_goes_both_ways(world: World, room: Room) -> None:
    feature = int(np.flatnonzero(world.partner >= 0)[0])
    back = ask(room, int(world.partner[feature]), dictionary="b", among=["a"], count=1)[0]
    forth = ask(room, feature, count=1)[0]
    assert back.feature == feature
    assert back.r == pytest.approx(forth.r)
    assert back.mutual
    assert forth.mutual


def test_fewer_candidates_than_asked_are_no_error(world: World, room: Room) -> None:
    feature = int(np.flatnonzero(world.partner >= 0)[0])
    hits = ask(room, feature, count=5, candidates=5)
    assert 1 <= len(hits) <= 5
    assert all(hit.r > 0 for hit in hits)


def test_a_feature_that_fires_too_rarely_is_refused(world: World, room: Room) -> None:
    fires = room.probed["a"].moments.fires
    rare = int(np.flatnonzero(fires < 20)[0])
    with pytest.raises(DeadFeature, match=f"fires on {fires[rare]} of"):
        ask(room, rare)


def test_what_is_not_on_the_probe_is_named(room: Room) -> None:
    with pytest.raises(NotFound, match="'z'"):
        ask(room, 0, among=["z"])
    with pytest.raises(NotFound, match="'z' is not encoded on this probe, which has a, b"):
        ask(room, 0, dictionary="z")
    with pytest.raises(InvalidInput, match="features 0 to 599"):
        ask(room, 600)
    with pytest.raises(InvalidInput, match="among is empty"):
        ask(room, 0, among=[])
    with pytest.raises(InvalidInput, match="count is 101"):
        ask(room, 0, count=101)


@pytest.mark.parametrize(
    ("more", "mutual"), [(-10, True), (0, True), (1, False), (20, False), (40, False)]
)
def test_a_rival_that_is_better_by_any_amount_ends_mutuality(
    write_codes: WriteCodes, make_probe: MakeProbe, more: int, mutual: bool
) -> None:
    """The hit fires on 200 rows; the query shares 140 of them, its rival so many more.

    The rival has the number that the hit has in the other dictionary.
    """
    hit, query, rival = (np.zeros((2000, 1), np.float32) for _ in range(3))
    hit[:200] = 1
    query[:140] = query[400:460] = 1
    rival[60 - more : 200] = rival[500 : 560 - more] = 1
    room = furnish(make_probe(2000), write_codes, {"a": np.hstack([rival, query]), "b": hit})
    (found,) = ask(room, 1)
    assert found.r == pytest.approx(np.corrcoef(query[:, 0], hit[:, 0])[0, 1])
    assert found.mutual is mutual


def test_a_token_that_speaks_against_a_hit_adds_to_its_excess() -> None:
    found = Neighbour(
        dictionary="b",
        feature=0,
        r=0.4,
        token_null=-0.2,
        partial_token=0.5,
        margin=0.1,
        mutual=True,
        cofires=3,
        fires=9,
    )
    assert found.excess == pytest.approx(0.6)


def test_features_that_fire_together_no_more_than_by_chance_are_no_hits(
    write_codes: WriteCodes, make_probe: MakeProbe
) -> None:
    """Blocks of 1,000 of 2,000 rows: the first of b has r = 0, the second r = -1."""
    starts = {"a": [0], "b": [500, 1000, 100]}
    row = np.arange(2000)[:, None]
    codes = {
        name: ((row >= np.array(at)) & (row < np.array(at) + 1000)).astype(np.float32)
        for name, at in starts.items()
    }
    room = furnish(make_probe(2000), write_codes, codes)
    (found,) = ask(room, 0)
    assert found.feature == 2
    assert found.r == pytest.approx(0.8)
    assert found.margin == pytest.approx(0.8)  # the runner-up has r = 0
    alone = furnish(make_probe(2000), write_codes, {"a": codes["a"], "b": codes["b"][:, 2:]})
    assert ask(alone, 0)[0].margin == pytest.approx(0.8)


def test_the_query_takes_no_place_among_the_candidates_of_its_own_dictionary(
    write_codes: WriteCodes, make_probe: MakeProbe
) -> None:
    row = np.arange(2000)[:, None]
    codes = (row < np.array([200, 150])).astype(np.float32)
    room = furnish(make_probe(2000), write_codes, {"a": codes})
    (found,) = ask(room, 0, among=["a"], count=1, candidates=1)
    assert found.feature == 1


def test_a_feature_that_never_varies_is_refused_for_that(
    write_codes: WriteCodes, make_probe: MakeProbe
) -> None:
    random = np.random.default_rng(0)
    codes = strengths(random, random.random((1000, 3)) < 0.2).astype(np.float32)
    codes[:, 1] = 2.0
    room = furnish(make_probe(1000), write_codes, {"a": codes, "b": codes[:, :1]})
    with pytest.raises(DeadFeature, match=r"feature 1 of 'a' has the same activation on all 1000"):
        ask(room, 1)
    assert ask(room, 0)[0].feature == 0


def test_of_several_targets_one_that_shares_no_segment_is_named_and_left_out(
    write_codes: WriteCodes, make_probe: MakeProbe, caplog: pytest.LogCaptureFixture
) -> None:
    random = np.random.default_rng(0)
    codes = strengths(random, random.random((1000, 3)) < 0.2).astype(np.float32)
    first = np.arange(1000) < 500
    dense = {
        "a": codes * first[:, None],
        "b": codes * ~first[:, None],
        "c": codes * first[:, None],
    }
    present = {"a": first, "b": ~first, "c": first}
    room = furnish(make_probe(1000), write_codes, dense, present)
    found = ask(room, 0, among=("b", "c"), count=1)
    assert [(hit.dictionary, hit.feature) for hit in found] == [("c", 0)]
    assert "'b' has no segment in common with 'a'" in caplog.text
    with pytest.raises(EmptyProbe, match="'a' has no segment in common with b"):
        ask(room, 0, among=("b",))
