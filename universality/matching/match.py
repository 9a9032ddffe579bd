"""Match the features of two dictionaries: pairs from one half of a probe, reported on the other."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.errors import DeadFeature, EmptyProbe, ShapeError
from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.correlation.assignment import DENSE_FEATURES, assign
from isogloss.universality.correlation.best_matches import (
    BestMatches,
    BestPartners,
    best_matches,
)
from isogloss.universality.correlation.candidates import best_candidates
from isogloss.universality.correlation.moments import codes_matrix, shape_of
from isogloss.universality.correlation.pair_statistics import pair_statistics
from isogloss.universality.matching.cautions import Caution, ProbeFacts, pair_cautions
from isogloss.universality.matching.directions import (
    Directions,
    MatchedCosine,
    matched_cosine,
)
from isogloss.universality.matching.measure import measure_pairs
from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.matching.result import (
    Match,
    MatchedDictionary,
    MatchedProbe,
    OneToOne,
)
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.matching.shared_start import aligned_pairs
from isogloss.universality.matching.subsets import Subsets, best_subsets
from isogloss.universality.nulls.shuffles import Half, NullDraws, draw_null, shuffled_once
from isogloss.universality.nulls.strata import KEYS, Strata, joint_values
from isogloss.universality.probe.probe import Probe
from isogloss.universality.probe.repeated import repeated_share

_BLOCK_ROWS = 65_536
_CANDIDATES = 32
_SUBSET_NULLS = ("none", "token")

Progress = Callable[[int, int], None]


def match(
    a: ProbedDictionary,
    b: ProbedDictionary,
    probe: Probe,
    *,
    settings: MatchSettings | None = None,
    cautions: Sequence[Caution] = (),
    directions: tuple[Directions | None, Directions | None] = (None, None),
    on_progress: Progress | None = None,
) -> Match:
    """Find the mutual best pairs of two dictionaries, and measure how sure each pair is.

    Pairs are chosen on half 0 of the probe (each the other's best among all candidates), and every
    statistic of a pair is measured on half 1, which had no part in choosing it. Segments that one
    of the recordings lacks are left out of both.

    Args:
        a: the first dictionary on the probe.
        b: the second dictionary on the same probe.
        probe: the probe.
        settings: thresholds, nulls and seeds; None: the defaults.
        cautions: reasons to doubt that are known already (``shared_init``, ``shared_ancestry``).
        directions: weights of each dictionary, of which cosines are taken; None: unknown.
        on_progress: called after each step as ``on_progress(done, total)``; may raise, to stop.

    Returns:
        The pairs with their statistics, the nulls, and the cautions: those given, then those found.

    Raises:
        ShapeError: codes were taken on another probe, or weights are of another number of features.
        EmptyProbe: a half has no segment that both recordings have.
        DeadFeature: no feature of a dictionary fires often enough to be compared.
    """
    settings = settings or MatchSettings()
    _check_directions((a, b), directions)
    progress = on_progress or _silent
    steps = 3 + len(settings.keys)
    choose, report, sides = _load(a, b, probe, settings)
    progress(1, steps)
    best = best_matches(choose.a, choose.b)
    sides = (_with_best(sides[0], best.a), _with_best(sides[1], best.b))
    progress(2, steps)
    nulls = _draw_nulls(choose, report, settings, lambda done: progress(2 + done, steps))
    pairs, chance = measure_pairs(choose, report, best, sides, settings, directions)
    on = _matched_on(probe, choose, report)
    found = [*cautions, *_found(pairs, (a, b), settings, on, (choose, report), probe)]
    progress(steps, steps)
    made = Match(
        a=sides[0],
        b=sides[1],
        on=on,
        settings=settings,
        pairs=pairs,
        chance=chance,
        nulls=nulls,
        cautions=tuple(found),
    )
    return _with_asked(made, choose, report, best, directions)


def _matched_on(probe: Probe, choose: Half, report: Half) -> MatchedProbe:
    return MatchedProbe(
        probe=probe.id,
        grid=probe.grid,
        segments=(choose.rows, report.rows),
        documents=(choose.partition("document").size, report.partition("document").size),
        sources=(choose.sources.size, report.sources.size),
    )


def _with_asked(
    made: Match,
    choose: Half,
    report: Half,
    best: BestMatches,
    directions: tuple[Directions | None, Directions | None],
) -> Match:
    """Return the match with what only some settings ask for."""
    settings = made.settings
    if settings.one_to_one:
        made = replace(
            made,
            one_to_one=_one_to_one(choose, report, best, (made.a, made.b)),
            decoders=_decoders(directions, settings),
        )
    if settings.subsets:
        made = replace(
            made,
            split=_subsets(choose, report, settings),
            merged=_subsets(_swapped(choose), _swapped(report), settings),
        )
    return made


def _one_to_one(
    choose: Half,
    report: Half,
    best: BestMatches,
    sides: tuple[MatchedDictionary, MatchedDictionary],
) -> OneToOne:
    """Assign features one to one on the choose half, and measure the pairs on the report half."""
    width = max(len(side.compared) for side in sides)
    count = width if width <= DENSE_FEATURES else _CANDIDATES
    found = assign(best_candidates(choose.a, choose.b, count))
    r = pair_statistics(report.a, report.b.T.tocsr(), found.of_a, found.of_b).r
    mutual = (best.a.index[found.of_a] == found.of_b) & (best.b.index[found.of_b] == found.of_a)
    return OneToOne(
        feature_a=sides[0].compared[found.of_a],
        feature_b=sides[1].compared[found.of_b],
        r_choose=found.score,
        r=r,
        mutual=mutual,
    )


def _decoders(
    directions: tuple[Directions | None, Directions | None], settings: MatchSettings
) -> MatchedCosine | None:
    a, b = directions
    if a is None or b is None:
        return None
    return matched_cosine(a.decoder, b.decoder, seed=settings.seed)


def _subsets(choose: Half, report: Half, settings: MatchSettings) -> Subsets:
    """Find the subsets, and the same again on shuffled rows."""
    found = best_subsets((choose.a, report.a), (choose.b, report.b), most=settings.subsets)
    nulls: dict[str, NDArray[np.float64]] = {}
    for key in (key for key in _SUBSET_NULLS if key in settings.keys):
        chosen, reported = shuffled_once(key, choose, report, settings.seed)
        again = best_subsets((chosen.a, reported.a), (chosen.b, reported.b), most=settings.subsets)
        nulls[key] = again.r2
    return replace(found, null_r2=nulls)


def _swapped(half: Half) -> Half:
    """Return the half with its dictionaries exchanged."""
    return replace(half, a=half.b.T.tocsr(), b=half.a.T.tocsr())


def _check_directions(
    dictionaries: tuple[ProbedDictionary, ProbedDictionary],
    directions: tuple[Directions | None, Directions | None],
) -> None:
    for side, found in zip(dictionaries, directions, strict=True):
        if found is not None and len(found.decoder) != side.features:
            raise ShapeError(
                f"weights of {len(found.decoder)} features were given for {side.id!r}, which has "
                f"{side.features}: give those of this dictionary"
            )


def _load(
    a: ProbedDictionary, b: ProbedDictionary, probe: Probe, settings: MatchSettings
) -> tuple[Half, Half, tuple[MatchedDictionary, MatchedDictionary]]:
    """Read the features to compare on both halves; the sides have no best yet."""
    rows = _shared_rows(a, b, probe)
    codes_a, codes_b = _read(a, rows[0]), _read(b, rows[0])
    sides = (_side(a, codes_a, settings.min_fires), _side(b, codes_b, settings.min_fires))
    of_a, of_b = sides[0].compared, sides[1].compared
    choose, report = (
        Half(
            a=sp.csr_array(one[:, of_a].T.tocsr()),
            b=other[:, of_b],
            strata=_strata(probe, here, settings.surface),
            # passages of one source depend on each other: a source counts as one document
            sources=Strata.of("document", probe.segment_source[here]),
        )
        for one, other, here in (
            (codes_a, codes_b, rows[0]),
            (_read(a, rows[1]), _read(b, rows[1]), rows[1]),
        )
    )
    return choose, report, sides


def _draw_nulls(
    choose: Half, report: Half, settings: MatchSettings, on_done: Callable[[int], None]
) -> tuple[NullDraws, ...]:
    """Draw the null of every key."""
    nulls: list[NullDraws] = []
    for key in settings.keys:
        null = draw_null(
            key,
            choose,
            report,
            draws=settings.draws,
            most=settings.max_draws,
            seed=settings.seed,
            min_r=settings.min_r,
        )
        nulls.append(null)
        on_done(len(nulls))
    return tuple(nulls)


def _silent(done: int, steps: int) -> None:
    """Report no progress."""


def _shared_rows(
    a: ProbedDictionary, b: ProbedDictionary, probe: Probe
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the segments of each half that both recordings have."""
    for side in (a, b):
        if side.codes.rows != probe.segments:
            raise ShapeError(
                f"codes of {side.id!r} cover {side.codes.rows} segments and probe {probe.id!r} has "
                f"{probe.segments}; encode the dictionary on this probe"
            )
    shared = a.present & b.present
    halves = [np.flatnonzero(shared & (probe.half == half)) for half in (0, 1)]
    if min(len(half) for half in halves) == 0:
        raise EmptyProbe(
            f"{len(halves[0])} segments to choose pairs and {len(halves[1])} to report on are in "
            f"both recordings; each half needs at least 1: record more documents with both models"
        )
    return halves[0], halves[1]


def _read(side: ProbedDictionary, rows: NDArray[np.int64]) -> sp.csr_array:
    """Read the codes of given segments: ``[rows, features]``."""
    parts: list[sp.csr_array] = []
    for start in range(0, side.codes.rows, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, side.codes.rows)
        wanted = rows[np.searchsorted(rows, start) : np.searchsorted(rows, stop)] - start
        if wanted.size:
            block = codes_matrix(side.codes.row_slice(start, stop), side.features)
            parts.append(block[wanted])
    return sp.csr_array(sp.vstack(parts, format="csr"))


def _fires(codes: sp.csr_array) -> NDArray[np.int64]:
    return np.bincount(codes.indices, minlength=shape_of(codes)[1]).astype(np.int64)


def _compared(codes: sp.csr_array, dictionary: str, min_fires: int) -> NDArray[np.int32]:
    """Return the features that fire often enough on the choose half."""
    fires = _fires(codes)
    compared = np.flatnonzero(fires >= min_fires).astype(np.int32)
    if not compared.size:
        raise DeadFeature(
            f"no feature of {dictionary!r} fires on {min_fires} of the {shape_of(codes)[0]} "
            f"segments that choose pairs (the most any has is {fires.max(initial=0)}); use a "
            "larger probe, a lower min_fires, or a dictionary that is not dead"
        )
    return compared


def _side(probed: ProbedDictionary, codes: sp.csr_array, min_fires: int) -> MatchedDictionary:
    fires = _fires(codes)
    compared = _compared(codes, probed.id, min_fires)
    return MatchedDictionary(
        dictionary=probed.id,
        features=probed.features,
        dead=int((fires == 0).sum()),
        compared=compared,
        fires=fires[compared],
        best=np.zeros(len(compared), np.float32),
        mass=np.asarray(codes[:, compared].sum(axis=0), np.float64).ravel(),
    )


def _with_best(side: MatchedDictionary, nearest: BestPartners) -> MatchedDictionary:
    return replace(side, best=nearest.r.astype(np.float32))


def _strata(probe: Probe, rows: NDArray[np.int64], surface: str) -> tuple[Strata, ...]:
    token, position = probe.token_values(surface)[rows], probe.stratum_position[rows]
    values = {
        "none": position,
        "token": token,
        "position": position,
        "document": probe.segment_document[rows],
        "token_position": joint_values(token, position),
    }
    return tuple(Strata.of(key, values[key]) for key in KEYS)


def _found(
    pairs: Pairs,
    dictionaries: tuple[ProbedDictionary, ProbedDictionary],
    settings: MatchSettings,
    on: MatchedProbe,
    halves: tuple[Half, Half],
    probe: Probe,
) -> list[Caution]:
    """Return the cautions that the match itself raises."""
    aligned = aligned_pairs(pairs, dictionaries[0].features, dictionaries[1].features)
    choose, report = halves
    token = choose.partition("token")
    facts = ProbeFacts(
        documents=on.documents,
        sources=on.sources,
        token_bias=token.bias,
        repeated=repeated_share(
            report.partition("token").label,
            report.partition("document").label,
            report.sources.label,
        ),
        is_folded=settings.surface == "exact" and probe.surface == "folded",
    )
    own = pair_cautions(pairs, facts, min_fires=settings.min_fires)
    return [*([aligned] if aligned else []), *own]
