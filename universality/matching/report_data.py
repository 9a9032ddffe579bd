"""What a match says, as data for a page.

``report_data`` returns JSON values only (dict with string keys, list, str, int, float, bool, None;
never NaN), in this form. ``[19]`` is the length of a list; a *null key* is one of ``none`` (rows
shuffled freely), ``token``, ``position``, ``document``, as far as they were drawn.

    version: 2
    a, b: {                                 the two dictionaries
        dictionary: str                     its id
        features: int                       all it has
        compared: int                       fire at least min_fires times on the choose half
        rare: int                           fire, but less often
        dead: int                           never fire there
        density: {edges: [n+1], counts: [n]}    compared features by log10(share of segments
                                                on which they fire); edges are log10 values
    }
    probe: {id: str, grid: "tokens" | "word_ends",
            segments: {choose: int, report: int}, documents: {choose: int, report: int},
            sources: {choose: int, report: int}}
    settings: MatchSettings.to_dict()
    pairs: int                              mutual pairs, all in the columns of the match
    chance: float                           at most so many are beyond their token by chance
    counts: [3]{                            at r >= .3, .5, .7 on the report half
        threshold: float
        shared: int                         pairs
        replicates: {yes: int, no: int, undecided: int}     sum to shared
        beyond_token: {yes: int, no: int, undecided: int}   sum to shared
        nulls: {null key: float}            mean number of pairs of a draw
        null_errors: {null key: float | None}     standard error of that
        null_highest: {null key: float}     pairs that one more draw gives at most (97.5 %)
        partial_known: int                  of the shared, those whose partial_token is defined
        median_token_null: float | None     over the shared
        median_partial_token: float | None
        explained_by: {token: int, position: int, document: int, none: int}   sums to shared
    }
    curves: {                               number of pairs against the threshold on r
        thresholds: [19]                    .05, .10, ... .95
        shared: [19] int
        replicates: [19] int                of those, replicate
        beyond_token: [19] int              of those, beyond their token
        nulls: {null key: [19] float}       mean number of pairs of a draw
    }
    margins: {                              the pairs with r >= .3, by margin on the choose half
        from: [8] float                     0, .01, .02, .05, .1, .2, .3, .5; the last is open
        pairs: [8] int
        mutual_again: [8] int               rank 1 both ways on the report half
        replicates: [8] int
    }
    best: {                                 histogram of each feature's best r (choose half)
        edges: [41]                         0, .025, ... 1
        a: [40] int, b: [40] int            observed
        nulls: {null key: {a: [40] float, b: [40] float}}     mean over draws
    }
    explained: {                            the pairs with r >= .3
        pairs: int
        edges: [41]                         -1, -.95, ... 1
        partial_token: [40] int             histogram; undefined ones are not in it
        token_null: [40] int
        excess: [40] int
    }
    scatter: {                              one entry a pair, at most 2000 pairs, evenly spread in r
        feature_a, feature_b: [n] int
        r, token_null, partial_token, margin: [n] float | None
        decoder_cosine, encoder_cosine: [n] float | None
        fires: [n] int                      the smaller of fires_a and fires_b
        explained_by: [n] str
        beyond_token: [n] str               label
    }
    bands: [n]{                             by how often features of a fire on the choose half
        fires_from: int, fires_to: int | None       [from, to)
        features: int                       compared features of a in the band
        shared: int, share: float           those in a pair with r >= .3
        null_best: {null key: float}        median best r of a's features under the null
        median_best: float                  observed median best r
    }
    examples: {                             rows to show, each a list of pair rows
        best: [<= top]                      replicate, highest ci_low: a pair that fires a dozen
                                            times may have r = 1 by luck
        beyond_token: [<= top]              replicate and beyond their token, highest
                                            min(beyond_low, ci_low)
        typical: [<= top]                   replicate, around the median r
        unreplicated: [<= top]              highest r_choose among pairs that do not replicate
    }
    movable: {null key: float}              share of the rows that the shuffle could move
    mean_best: {                            mean of every feature's best r (choose half)
        a, b: {features: float, by_fires: float, by_mass: float}     plain and weighted
        nulls: {null key: {a: ..., b: ...}}
    }
    references: [n]{                        ceilings, then floors, on the same probe
        role: "ceiling" | "floor", match: str, what: str, a: str, b: str
        compared: [2] int, pairs: int
        counts: [3]{...}                    as above
        mean_best: {...}                    as above
    }
    one_to_one: None | {                    where it was asked for
        pairs: int, mutual: int, mean_r: float | None
        thresholds: [3] float, shared: [3] int      pairs at each r on the report half
        decoders: None | {value: float, null: float, null_spread: float}
    }
    subsets: {                              split: features of a by several of b; merged: of b by a
        split, merged: {most: int, thresholds: [3] float,
                        together: [3] int, single: [3] int, nulls: {null key: [3] int}}
    }
    cautions: [n]{code: str, message: str, value: float}

A pair row is ``Pairs.row``: every column of ``Pairs`` by name, labels written out, and ``excess``,
and ``explained_by``. Contexts are not part of it: ask ``contexts`` for the features shown.
"""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from isogloss.universality.matching.pairs import Pairs, plain
from isogloss.universality.matching.references import Reference, check_references
from isogloss.universality.matching.result import Match, MatchedDictionary, mean_best
from isogloss.universality.matching.subsets import Subsets
from isogloss.universality.nulls.labels import LABELS, label_names
from isogloss.universality.nulls.shuffles import BAND_EDGES, LEVELS, band_of, count_at

REPORT_VERSION = 2
"""Version of what ``report_data`` returns."""

_THRESHOLDS: NDArray[np.float64] = np.arange(5, 100, 5) / 100

_MARGINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)

_SCATTER = 2000

Data = dict[str, object]


def report_data(match: Match, *, top: int = 25, references: Sequence[Reference] = ()) -> Data:
    """Return everything a page about a match draws, as JSON values.

    The form is at the top of this module.

    Args:
        match: the match.
        top: rows in each list of examples at most.
        references: ceilings and floors, to stand beside.

    Returns:
        A new dictionary of JSON values.

    Raises:
        InvalidInput: see :func:`isogloss.universality.check_references`.
    """
    check_references(match, references)
    nulls = {null.key: null for null in match.nulls}
    pairs = match.pairs
    replicates, beyond = pairs.replicates_is("yes"), pairs.beyond_token_is("yes")
    return {
        "version": REPORT_VERSION,
        "a": _side_data(match.a, match.on.segments[0]),
        "b": _side_data(match.b, match.on.segments[0]),
        "probe": {
            "id": match.on.probe,
            "grid": match.on.grid,
            "segments": dict(zip(("choose", "report"), match.on.segments, strict=True)),
            "documents": dict(zip(("choose", "report"), match.on.documents, strict=True)),
            "sources": dict(zip(("choose", "report"), match.on.sources, strict=True)),
        },
        "settings": match.settings.to_dict(),
        "pairs": len(pairs),
        "chance": match.chance,
        "counts": [_counts(match, level) for level in LEVELS],
        "curves": {
            "thresholds": _THRESHOLDS.tolist(),
            "shared": count_at(pairs.r, _THRESHOLDS).tolist(),
            "replicates": count_at(pairs.r[replicates], _THRESHOLDS).tolist(),
            "beyond_token": count_at(pairs.r[beyond], _THRESHOLDS).tolist(),
            "nulls": {key: null.shared(_THRESHOLDS).tolist() for key, null in nulls.items()},
        },
        "margins": _margins_data(pairs),
        "best": _best_data(match),
        "explained": _explained_data(pairs),
        "scatter": _scatter_data(pairs),
        "bands": _bands_data(match),
        "examples": _examples_data(pairs, top),
        "movable": {key: null.movable for key, null in nulls.items()},
        "cautions": [caution.to_dict() for caution in match.cautions],
        "mean_best": _mean_best_data(match),
        "references": [_reference_data(one) for one in references],
        "one_to_one": _one_to_one_data(match),
        "subsets": {
            name: _subsets_data(found)
            for name, found in (("split", match.split), ("merged", match.merged))
            if found is not None
        },
    }


def _mean_best_data(match: Match) -> Data:
    """Return the mean of every feature's best r, plain and weighted, beside the nulls."""

    def named(found: tuple[float, float, float]) -> dict[str, float]:
        return dict(zip(("features", "by_fires", "by_mass"), found, strict=True))

    return {
        "a": named(match.a.mean_best),
        "b": named(match.b.mean_best),
        "nulls": {
            null.key: {
                "a": named(mean_best(null.best_a, match.a)),
                "b": named(mean_best(null.best_b, match.b)),
            }
            for null in match.nulls
        },
    }


def _reference_data(reference: Reference) -> Data:
    found = reference.match
    return {
        "role": reference.role,
        "match": reference.name,
        "what": reference.what,
        "a": found.a.dictionary,
        "b": found.b.dictionary,
        "compared": [len(found.a.compared), len(found.b.compared)],
        "pairs": len(found.pairs),
        "counts": [_counts(found, level) for level in LEVELS],
        "mean_best": _mean_best_data(found),
    }


def _one_to_one_data(match: Match) -> Data | None:
    found, decoders = match.one_to_one, match.decoders
    if found is None:
        return None
    levels = np.asarray(LEVELS)
    return {
        "pairs": len(found.r),
        "mutual": int(found.mutual.sum()),
        "mean_r": float(found.r.mean()) if len(found.r) else None,
        "thresholds": list(LEVELS),
        "shared": count_at(found.r, levels).tolist(),
        "decoders": None if decoders is None else asdict(decoders),
    }


def _subsets_data(found: Subsets) -> Data:
    rows = [found.shared(level) for level in LEVELS]
    return {
        "most": found.members.shape[1],
        "thresholds": list(LEVELS),
        "together": [together for together, _, _ in rows],
        "single": [single for _, single, _ in rows],
        "nulls": {key: [null[key] for _, _, null in rows] for key in found.null_r2},
    }


def _counts(match: Match, level: float) -> Data:
    chosen = match.pairs.r >= level
    shared = match.pairs.take(np.flatnonzero(chosen))
    known = shared.partial_token[np.isfinite(shared.partial_token)]
    at = np.array([level])
    labels = ("token", "position", "document", "none")
    return {
        "threshold": level,
        "shared": len(shared),
        "replicates": {label: int(shared.replicates_is(label).sum()) for label in LABELS},
        "beyond_token": {label: int(shared.beyond_token_is(label).sum()) for label in LABELS},
        "nulls": {null.key: float(null.shared(at)[0]) for null in match.nulls},
        "null_errors": {null.key: plain(null.standard_error(at)[0]) for null in match.nulls},
        "null_highest": {null.key: float(null.highest(at)[0]) for null in match.nulls},
        "partial_known": int(known.size),
        "median_token_null": _median(shared.token_null[np.isfinite(shared.token_null)]),
        "median_partial_token": _median(known),
        "explained_by": {label: shared.explained_by.count(label) for label in labels},
    }


def _margins_data(pairs: Pairs) -> Data:
    """Count the shared pairs, those mutual again and those that replicate, by margin."""
    shared = pairs.take(np.flatnonzero(pairs.r >= LEVELS[0]))
    # a margin is never negative, but for rounding
    band = np.searchsorted(_MARGINS, np.maximum(shared.margin, 0.0), side="right") - 1

    def count(chosen: NDArray[np.bool_]) -> list[int]:
        return np.bincount(band[chosen], minlength=len(_MARGINS)).tolist()

    return {
        "from": list(_MARGINS),
        "pairs": count(np.ones(len(shared), np.bool_)),
        "mutual_again": count((shared.rank_a == 1) & (shared.rank_b == 1)),
        "replicates": count(shared.replicates_is("yes")),
    }


def _median(values: NDArray[np.floating]) -> float | None:
    return float(np.median(values)) if values.size else None


def _side_data(side: MatchedDictionary, segments: int) -> Data:
    logs = np.log10(np.maximum(side.fires, 1) / segments)
    edges = np.round(np.arange(np.floor(logs.min() * 4), 1) / 4, 2)
    edges = edges if edges.size > 1 else np.array([-0.25, 0.0])
    return {
        "dictionary": side.dictionary,
        "features": side.features,
        "compared": len(side.compared),
        "rare": side.rare,
        "dead": side.dead,
        "density": {"edges": edges.tolist(), "counts": _histogram(logs, edges)},
    }


def _histogram(values: NDArray[np.floating], edges: NDArray[np.float64]) -> list[int]:
    return [int(count) for count in np.histogram(values, edges)[0]]


def _best_data(match: Match) -> Data:
    edges = np.round(np.arange(41) / 40, 3)

    def mean(best: NDArray[np.float32]) -> list[float]:
        return (np.histogram(best, edges)[0] / best.shape[0]).tolist()

    return {
        "edges": edges.tolist(),
        "a": _histogram(match.a.best, edges),
        "b": _histogram(match.b.best, edges),
        "nulls": {
            null.key: {"a": mean(null.best_a), "b": mean(null.best_b)} for null in match.nulls
        },
    }


def _explained_data(pairs: Pairs) -> Data:
    edges = np.round(np.arange(-20, 21) / 20, 2)
    shared = pairs.take(np.flatnonzero(pairs.r >= LEVELS[0]))
    return {
        "pairs": len(shared),
        "edges": edges.tolist(),
        "partial_token": _histogram(shared.partial_token[np.isfinite(shared.partial_token)], edges),
        "token_null": _histogram(shared.token_null[np.isfinite(shared.token_null)], edges),
        "excess": _histogram(np.clip(shared.excess[np.isfinite(shared.excess)], -1, 1), edges),
    }


def _scatter_data(pairs: Pairs) -> Data:
    rows = np.arange(len(pairs))
    if len(pairs) > _SCATTER:
        rows = np.linspace(0, len(pairs) - 1, _SCATTER).astype(np.int64)
    shown = pairs.take(rows)
    columns = (
        *("feature_a", "feature_b", "r", "token_null", "partial_token", "margin"),
        *("decoder_cosine", "encoder_cosine"),
    )
    return {
        **{name: [plain(value) for value in shown.columns()[name]] for name in columns},
        "fires": np.minimum(shown.fires_a, shown.fires_b).tolist(),
        "explained_by": shown.explained_by,
        "beyond_token": label_names(shown.beyond_token),
    }


def _bands_data(match: Match) -> list[Data]:
    paired = match.pairs.feature_a[match.pairs.r >= LEVELS[0]]
    shared = np.isin(match.a.compared, paired)
    band = band_of(match.a.fires)
    lows, highs = (0, *BAND_EDGES), (*BAND_EDGES, None)
    rows: list[Data] = []
    for number in np.unique(band):
        inside = band == number
        rows.append(
            {
                "fires_from": lows[number],
                "fires_to": highs[number],
                "features": int(inside.sum()),
                "shared": int(shared[inside].sum()),
                "share": float(shared[inside].mean()),
                "null_best": {
                    null.key: float(np.median(null.best_a[:, inside])) for null in match.nulls
                },
                "median_best": float(np.median(match.a.best[inside])),
            }
        )
    return rows


def _examples_data(pairs: Pairs, top: int) -> dict[str, list[Data]]:
    good = np.flatnonzero(pairs.replicates_is("yes"))
    certain = np.nan_to_num(pairs.ci_low, nan=-1.0)
    beyond = good[pairs.beyond_token_is("yes")[good]]
    held = np.minimum(np.nan_to_num(pairs.beyond_low[beyond], nan=-1.0), certain[beyond])
    middle = np.abs(pairs.r[good] - np.median(pairs.r[good])) if good.size else np.zeros(0)
    failed = np.flatnonzero(pairs.replicates_is("no"))
    return {
        "best": _rows(pairs, good[np.argsort(-certain[good], kind="stable")][:top]),
        "beyond_token": _rows(pairs, beyond[np.argsort(-held, kind="stable")][:top]),
        "typical": _rows(pairs, good[np.argsort(middle, kind="stable")][:top]),
        "unreplicated": _rows(
            pairs, failed[np.argsort(-pairs.r_choose[failed], kind="stable")][:top]
        ),
    }


def _rows(pairs: Pairs, numbers: NDArray[np.int64]) -> list[Data]:
    labels = pairs.explained_by
    return [{**pairs.row(int(number)), "explained_by": labels[number]} for number in numbers]
