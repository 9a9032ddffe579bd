"""Matching finds what was planted, says what explains it, and refuses what cannot be matched."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import (
    DeadFeature,
    EmptyProbe,
    ShapeError,
)
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.matching.cautions import shared_ancestry
from isogloss.universality.matching.match import match
from isogloss.universality.matching.result import Match
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.probe.probe import Probe
from isogloss.universality.testing.synthetic import (
    ProbeShape,
    random_codes,
    write_probed,
)

SHAPE = ProbeShape(documents=80, length=50)

FEATURES = 120

FREE = MatchSettings(keys=("none",))

Array = NDArray[Any]


def independent(
    root: Path, rows: int = SHAPE.segments, seeds: tuple[int, ...] = (3, 4)
) -> list[ProbedDictionary]:
    return [
        write_probed(
            root / str(seed),
            f"seed-{seed}",
            random_codes(np.random.default_rng(seed), rows, FEATURES, 4),
        )
        for seed in seeds
    ]


def test_a_permuted_copy_with_dropped_firings_is_matched_feature_by_feature(
    found: Match, permutation: Array
) -> None:
    pairs = found.pairs
    assert len(pairs) == FEATURES
    np.testing.assert_array_equal(permutation[pairs.feature_b], pairs.feature_a)
    assert pairs.replicates_is("yes").all()
    assert (pairs.rank_a == 1).all()
    assert (pairs.rank_b == 1).all()
    assert (pairs.r > 0.6).all()
    assert (np.diff(pairs.r) <= 0).all()
    np.testing.assert_array_equal(pairs.cofires, pairs.fires_b)
    assert (pairs.margin > 0.4).all()


def test_statistics_of_pairs_equal_dense_numpy_on_the_half_that_did_not_choose(
    found: Match, copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    dense = [
        sp.csr_array((c.values, c.indices, c.indptr), shape=(SHAPE.segments, FEATURES)).toarray()
        for c in (side.codes.row_slice(0, SHAPE.segments) for side in copied)
    ]
    for half, column in ((0, found.pairs.r_choose), (1, found.pairs.r)):
        a, b = (side[probe.half == half].astype(np.float64) for side in dense)
        r = np.corrcoef(a.T, b.T)[:FEATURES, FEATURES:]
        of = (found.pairs.feature_a, found.pairs.feature_b)
        np.testing.assert_allclose(column, r[of], atol=1e-12)
        if half == 0:
            others = np.array(
                [max(*np.delete(r[i], j), *np.delete(r[:, j], i)) for i, j in zip(*of, strict=True)]
            )
            np.testing.assert_allclose(found.pairs.margin, column - others, atol=1e-12)
    fires = (dense[0][probe.half == 1] > 0).sum(0)
    np.testing.assert_array_equal(found.pairs.fires_a, fires[found.pairs.feature_a])


def test_intervals_hold_the_correlation_they_are_about(found: Match) -> None:
    pairs = found.pairs
    assert (pairs.ci_low <= pairs.ci_high).all()
    assert ((pairs.ci_low <= pairs.r) & (pairs.r <= pairs.ci_high)).mean() > 0.95
    assert (pairs.ci_high - pairs.ci_low).max() < 0.4


def test_intervals_and_labels_rest_on_sources_and_need_twenty(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe, found: Match
) -> None:
    """Documents of few sources give few independent units: no interval, no yes, a caution."""
    document = probe.segment_document
    twenty = replace(probe, segment_source=(document // 2).astype(np.int32))
    again = match(*copied, twenty, settings=FREE)
    assert again.on.sources == (20, 20)
    np.testing.assert_array_equal(again.pairs.r, found.pairs.r)
    assert (again.pairs.ci_low != found.pairs.ci_low).mean() > 0.9
    assert again.cautions == ()
    fewer = np.where(document < 42, 0, document // 2)  # the report half begins with document 40
    few = match(*copied, replace(probe, segment_source=fewer.astype(np.int32)), settings=FREE)
    assert few.on.sources == (1, 20)
    one_less = np.where((document >= 76), 999, document // 2).astype(np.int32)
    few = match(*copied, replace(probe, segment_source=one_less), settings=FREE)
    assert few.on.sources == (20, 19)
    assert np.isnan(few.pairs.ci_low).all()
    assert few.pairs.replicates_is("undecided").all()
    assert few.pairs.beyond_token_is("undecided").all()
    (caution,) = few.cautions
    assert caution.code == "SMALL_PROBE"
    assert caution.value == 19
    assert "19 sources of text (40 documents)" in caution.message


def test_what_copies_share_is_not_explained_by_any_stratum(found: Match) -> None:
    pairs = found.pairs
    assert (np.abs(pairs.token_null) < 0.15).all()
    assert (np.abs(pairs.position_null) < 0.3).all()
    assert pairs.beyond_token_is("yes").all()
    assert found.chance == pytest.approx(0.01 * FEATURES)
    assert (np.abs(pairs.document_null) < 0.2).all()
    assert (pairs.partial_token > 0.6).all()
    assert set(pairs.explained_by) == {"none"}
    for null in found.nulls:
        assert null.shared(np.array([0.3]))[0] == 0
        assert null.best_a.shape == (3, FEATURES)
        assert null.is_precise
    assert [caution.code for caution in found.cautions] == []


def test_independent_dictionaries_replicate_no_pair(probe: Probe, tmp_path: Path) -> None:
    one, other = independent(tmp_path)
    found = match(one, other, probe, settings=MatchSettings(min_r=0.0))
    assert 10 < len(found.pairs) < FEATURES
    assert not found.pairs.replicates_is("yes").any()
    assert not found.pairs.beyond_token_is("yes").any()
    assert (np.abs(found.pairs.r) < 0.15).all()
    free = found.null("none")
    assert abs(len(found.pairs) - len(free.pair_r) / free.draws) < 25
    assert abs(np.median(found.a.best) - np.median(free.best_a)) < 0.01
    assert [caution.code for caution in found.cautions] == ["FEW_PAIRS"]


def test_without_a_bar_chance_pairs_are_not_mutual_best_again(probe: Probe, tmp_path: Path) -> None:
    one, other = independent(tmp_path)
    settings = replace(FREE, min_r=0.0, replicates_low=0.0)
    pairs = match(one, other, probe, settings=settings).pairs
    assert (pairs.r > 0).sum() > 10
    assert pairs.replicates_is("yes").sum() <= 1


def test_features_of_the_token_alone_are_shared_but_wholly_explained(
    probe: Probe, tmp_path: Path
) -> None:
    generator = np.random.default_rng(5)
    means = generator.random((SHAPE.tokens, 30)) * (generator.random((SHAPE.tokens, 30)) < 0.2)
    means[np.arange(30), np.arange(30)] = 1.0
    sides = [
        write_probed(
            tmp_path / name,
            name,
            sp.csr_array(
                means[probe.stratum_token] * (1 + 0.3 * generator.random((SHAPE.segments, 30)))
            ),
        )
        for name in ("a", "b")
    ]
    found = match(sides[0], sides[1], probe)
    pairs = found.pairs
    assert len(pairs) == 30
    assert pairs.replicates_is("yes").all()
    assert not pairs.beyond_token_is("yes").any()
    np.testing.assert_array_equal(pairs.feature_a, pairs.feature_b)
    np.testing.assert_allclose(pairs.token_null, pairs.r, atol=0.02)
    # zero but for noise: a feature fires on some 30 rows or more, so its error is below 0.2
    assert (np.abs(pairs.partial_token) < 0.6).all()
    assert abs(np.median(pairs.partial_token)) < 0.05
    assert (pairs.eta2_token_a > 0.8).all()
    assert set(pairs.explained_by) == {"token"}
    assert found.null("token").shared(np.array([0.5]))[0] == pytest.approx(
        (pairs.r >= 0.5).sum(), abs=2
    )
    assert found.null("none").shared(np.array([0.3]))[0] == 0
    codes = [caution.code for caution in found.cautions]
    assert "TOKEN_DRIVEN" in codes
    assert "SHARED_INIT" in codes  # equal indices in both


def test_features_of_the_position_are_named_positional(probe: Probe, tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    first = probe.stratum_position[:, None] == np.arange(25)
    sides = [
        write_probed(
            tmp_path / name, name, sp.csr_array(first * (1 + generator.random(first.shape)))
        )
        for name in ("a", "b")
    ]
    found = match(sides[0], sides[1], probe)
    np.testing.assert_allclose(found.pairs.position_null, found.pairs.r, atol=0.1)
    assert "POSITIONAL" in [caution.code for caution in found.cautions]
    assert "position" in found.pairs.explained_by


def test_segments_that_one_recording_lacks_are_left_out_of_both(
    copied: tuple[ProbedDictionary, ProbedDictionary],
    probe: Probe,
    permutation: Array,
    tmp_path: Path,
) -> None:
    generator = np.random.default_rng(7)
    rows = SHAPE.segments
    present = generator.random(rows) < 0.8
    codes = [copied[0].codes.row_slice(0, rows), copied[1].codes.row_slice(0, rows)]
    a, b = (
        sp.csr_array((c.values.astype(float), c.indices, c.indptr), shape=(rows, FEATURES))
        for c in codes
    )
    partial = write_probed(tmp_path / "partial", "partial", b, present)
    masked = match(copied[0], partial, probe)
    assert sum(masked.on.segments) == present.sum()
    chosen = present & (probe.half == 1)
    dense_a, dense_b = a.toarray()[chosen], b.toarray()[chosen]
    r = np.corrcoef(dense_a.T, dense_b.T)[:FEATURES, FEATURES:]
    np.testing.assert_allclose(
        masked.pairs.r, r[masked.pairs.feature_a, masked.pairs.feature_b], atol=1e-12
    )


def test_silent_and_rare_features_are_counted_and_left_out(probe: Probe, tmp_path: Path) -> None:
    generator = np.random.default_rng(8)
    codes = random_codes(generator, SHAPE.segments, 20, 4).tolil()
    codes[:, 3] = 0
    codes[:, 4] = 0
    codes[:19, 4] = 1.0
    side = write_probed(tmp_path / "a", "a", codes.tocsr())
    found = match(side, side, probe)
    assert (found.a.dead, found.a.rare, len(found.a.compared)) == (1, 1, 18)
    assert not {3, 4} & set(found.a.compared.tolist())
    choosing = codes.toarray()[probe.half == 0][:, found.a.compared]
    np.testing.assert_allclose(found.a.mass, choosing.sum(axis=0), rtol=1e-6)
    np.testing.assert_array_equal(found.a.fires, (choosing > 0).sum(axis=0))
    assert len(found.pairs) == 18


def test_equal_seeds_give_equal_matches(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe, found: Match
) -> None:
    again = match(*copied, probe)
    for name, column in found.pairs.columns().items():
        np.testing.assert_array_equal(again.pairs.columns()[name], column, err_msg=name)
    np.testing.assert_array_equal(again.null("token").pair_r, found.null("token").pair_r)
    other = match(*copied, probe, settings=MatchSettings(seed=1))
    assert not np.array_equal(other.null("none").best_a, found.null("none").best_a)
    np.testing.assert_array_equal(other.pairs.r, found.pairs.r)


def test_swapping_the_dictionaries_swaps_the_pairs(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe, found: Match
) -> None:
    swapped = match(copied[1], copied[0], probe).pairs
    np.testing.assert_allclose(swapped.r, found.pairs.r, atol=1e-13)
    np.testing.assert_array_equal(swapped.feature_a, found.pairs.feature_b)


def test_a_pair_replicates_where_its_interval_lies_above_the_bar(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    high = match(*copied, probe, settings=replace(FREE, replicates_low=0.85)).pairs
    assert 0 < high.replicates_is("yes").sum() < len(high)
    assert high.r[high.replicates_is("yes")].min() > 0.85
    firings = np.minimum(high.fires_a, high.fires_b)
    assert firings[high.replicates_is("no")].min() >= 100
    assert firings[high.replicates_is("undecided")].max() < 150


def test_case_is_told_apart_unless_the_settings_fold_it(probe: Probe, tmp_path: Path) -> None:
    """Detectors of capitals: nothing beyond the exact word, and much beyond the folded one."""
    generator = np.random.default_rng(11)
    exact = generator.integers(0, 12, SHAPE.segments)
    by_word = replace(probe, stratum_token=exact, stratum_folded=exact // 2)
    capital = exact[:, None] == np.arange(0, 12, 2)
    sides = [
        write_probed(tmp_path / n, n, sp.csr_array(capital * (1 + generator.random(capital.shape))))
        for n in "ab"
    ]
    found = match(sides[0], sides[1], by_word, settings=FREE).pairs
    assert not found.beyond_token_is("yes").any()
    folded = match(sides[0], sides[1], by_word, settings=replace(FREE, surface="folded")).pairs
    assert folded.beyond_token_is("yes").all()
    old = replace(probe, stratum_token=exact // 2, surface="folded")
    assert "FOLDED_CASE" in [c.code for c in match(sides[0], sides[1], old, settings=FREE).cautions]


def test_text_of_the_report_half_that_several_sources_have_is_said(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    def cautions(half: int) -> list[str]:
        # a third of the documents of a half are one text
        token = probe.stratum_token.copy()
        copies = np.flatnonzero((probe.half == half) & (probe.segment_document % 3 == 0))
        token[copies] = probe.stratum_position[copies]
        found = match(*copied, replace(probe, stratum_token=token), settings=FREE).cautions
        return [caution.code for caution in found]

    assert "REPEATED_TEXT" in cautions(1)
    assert "REPEATED_TEXT" not in cautions(0)


def test_what_the_caller_knows_stands_among_the_cautions(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    known = shared_ancestry(related=True, similarity=0.9, why="equal embeddings")
    assert known is not None
    assert match(*copied, probe, cautions=[known]).cautions == (known,)


def test_progress_counts_up_and_can_stop_the_matching(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    seen = []
    match(*copied, probe, on_progress=lambda done, steps: seen.append((done, steps)))
    assert seen == [(step, 6) for step in range(1, 7)]

    def stop(done: int, steps: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        match(*copied, probe, on_progress=stop)


def test_codes_of_another_probe_are_refused(
    copied: tuple[ProbedDictionary, ProbedDictionary], tmp_path: Path, probe: Probe
) -> None:
    short = write_probed(
        tmp_path / "short", "short", random_codes(np.random.default_rng(0), 100, 5, 2)
    )
    with pytest.raises(ShapeError, match=r"'short' cover 100 segments.*has 4000"):
        match(copied[0], short, probe)


def test_a_half_without_shared_segments_is_an_empty_probe(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe
) -> None:
    nowhere = replace(copied[1], present=probe.half == 0)
    with pytest.raises(EmptyProbe, match="2000 segments to choose pairs and 0 to report"):
        match(copied[0], nowhere, probe)


def test_a_dictionary_that_hardly_fires_is_refused(
    copied: tuple[ProbedDictionary, ProbedDictionary], probe: Probe, tmp_path: Path
) -> None:
    silent = write_probed(tmp_path / "dead", "dead", sp.csr_array((SHAPE.segments, 5)))
    with pytest.raises(DeadFeature, match="no feature of 'dead' fires on 20 of the 2000"):
        match(copied[0], silent, probe)
