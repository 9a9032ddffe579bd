"""Two dictionaries of which every answer of a match is known; ``isogloss bench universality``.

Planted pairs (reordered, firings dropped, split in two, merged) are among impostors that fire in
the same places for another reason: the token, its capitals, the position, the token at a position,
the topic of the document; and among features that the other dictionary lacks.
"""

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from isogloss.universality.codes.probed import ProbedDictionary
from isogloss.universality.matching.match import match
from isogloss.universality.matching.result import Match
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.probe.probe import Probe
from isogloss.universality.testing.synthetic import ProbeShape, synthetic_probe, write_probed

KINDS = (
    *("planted", "split", "token", "case", "position", "token at position", "topic", "private"),
    "merged",
)
"""What a feature of the first dictionary is."""

_FOUND = "paired with its partner, replicates, beyond its token"
_NOT_BEYOND = "in no pair said to replicate beyond its token"
MEANS: Mapping[str, str] = {
    "planted": f"{_FOUND}; reordered, a fifth of the firings dropped",
    "split": f"{_FOUND}; the partner is one of two, of .7 and .3 of the firings",
    "merged": f"{_FOUND}; the partner also has what another feature is, .3 of its firings",
    "private": "in no pair said to replicate",
    "topic": "in no such pair, or explained by the document",
    **dict.fromkeys(("token", "case", "position", "token at position"), _NOT_BEYOND),
}
"""When a feature of each kind is answered rightly."""

_MERGED = KINDS.index("merged")
SMALLER_PART = -1
"""Kind of the smaller part of a merged feature, which has no answer of its own."""

_TOPICS = 20
_OF_A_KIND = 40
_DROPPED = 0.2

Random = np.random.Generator
Column = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class GroundTruth:
    """Two dictionaries on a probe, and what is true of their features."""

    probe: Probe
    """The text."""
    a: ProbedDictionary
    """The first dictionary."""
    b: ProbedDictionary
    """The second."""
    kind: NDArray[np.int8]
    """Place in ``KINDS`` of each feature of the first dictionary, ``[features_a]``; -1: the smaller
    part of a merged one, which is not judged."""
    partner: NDArray[np.int32]
    """Feature of ``a`` that each feature of ``b`` was made with, ``[features_b]``; -1: none."""

    def judge(self, found: Match) -> dict[str, tuple[int, int]]:
        """Return, by kind, how many features were answered rightly, and how many there are.

        A planted feature is right in a pair with its partner that replicates and is beyond its
        token; a private one in none that replicates; an impostor in none that is said to be beyond
        its token, one of the topic in none that is not explained by the document.
        """
        pairs = found.pairs
        right = np.ones(len(self.kind), np.bool_)
        sound = pairs.replicates_is("yes") & pairs.beyond_token_is("yes")
        matched = self.partner[pairs.feature_b] == pairs.feature_a
        explained = np.array(pairs.explained_by)
        kind = np.array(KINDS)[self.kind[pairs.feature_a]]
        wrong = np.where(
            kind == "private",
            pairs.replicates_is("yes"),
            np.where(kind == "topic", sound & (explained != "document"), sound),
        )
        right[pairs.feature_a[wrong]] = False
        planted = np.isin(self.kind, [KINDS.index("planted"), KINDS.index("split"), _MERGED])
        right[planted] = False
        right[pairs.feature_a[sound & matched & planted[pairs.feature_a]]] = True
        return {
            name: (int(right[self.kind == n].sum()), int((self.kind == n).sum()))
            for n, name in enumerate(KINDS)
        }


def ground_truth(directory: Path, *, seed: int = 0, documents: int = 240) -> GroundTruth:
    """Write two dictionaries of known answers on a synthetic probe.

    Args:
        directory: where their codes are written.
        seed: everything is a pure function of it.
        documents: of 100 segments each, every one a source of its own.

    Returns:
        The dictionaries, read back, and what is true.
    """
    random = np.random.default_rng([seed, 0x7275])
    shape = ProbeShape(documents=documents, length=100, tokens=600)
    plain = synthetic_probe(shape, seed=seed)
    capital = random.random(shape.segments) < 0.3
    probe = replace(
        plain,
        stratum_token=2 * plain.stratum_token + capital,
        stratum_folded=plain.stratum_token,
        half=(plain.segment_document % 2).astype(np.int8),
    )
    topic = random.integers(0, _TOPICS, documents)[probe.segment_document]
    left: list[Column] = []
    right: list[tuple[Column, int]] = []
    kinds: list[int] = []
    for number, kind in enumerate(KINDS):
        for _ in range(_OF_A_KIND):
            one, others = _made(random, kind, probe, topic)
            partner = -1 if kind == "private" else len(kinds)
            if number == _MERGED:  # the parts are of the first dictionary, the whole of the second
                left.extend(others)
                kinds.extend((number, SMALLER_PART))
                right.append((one, partner))
                continue
            left.append(one)
            right.extend((other, partner) for other in others)
            kinds.append(number)
    order = random.permutation(len(right))
    return GroundTruth(
        probe=probe,
        a=write_probed(directory / "a", "left", sp.csr_array(np.stack(left, axis=1))),
        b=write_probed(
            directory / "b", "right", sp.csr_array(np.stack([right[n][0] for n in order], axis=1))
        ),
        kind=np.array(kinds, np.int8),
        partner=np.array([right[n][1] for n in order], np.int32),
    )


def _made(
    random: Random, kind: str, probe: Probe, topic: NDArray[np.int64]
) -> tuple[Column, list[Column]]:
    """Return a feature of one dictionary, and those of the other that belong to it."""
    count = probe.segments
    if kind in ("planted", "split", "merged", "private"):
        rows = random.random(count) < 10 ** random.uniform(-1.8, -1.2)
        one = _strength(random, rows)
        if kind == "private":
            return one, [_strength(random, random.random(count) < 0.03)]
        kept = np.where(random.random(count) < _DROPPED, 0.0, one)
        if kind == "planted":
            return one, [kept]
        share = random.random(count) < 0.7
        return one, [np.where(share, kept, 0.0), np.where(share, 0.0, kept)]
    rows = _rows(random, kind, probe, topic)
    one, other = (_strength(random, rows & (random.random(count) < 0.7)) for _ in range(2))
    return one, [other]


def _rows(random: Random, kind: str, probe: Probe, topic: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where an impostor may fire."""
    word, position = probe.token_values("folded"), probe.stratum_position
    chosen = np.isin(word, random.choice(np.arange(3, 60), 3, replace=False))
    if kind == "case":
        return chosen & (probe.stratum_token % 2 == 1)
    if kind == "position":
        return position == random.integers(0, 32)
    if kind == "token at position":
        return np.isin(word, random.choice(12, 6, replace=False)) & (position < 8)
    if kind == "topic":
        return topic == random.integers(0, _TOPICS)
    return chosen


def _strength(random: Random, fires: NDArray[np.bool_]) -> Column:
    strength = random.lognormal(0, 0.7, len(fires)).astype(np.float32).astype(np.float64)
    return np.where(fires, strength, 0.0)


def ground_truth_rates(
    seeds: Iterable[int], *, documents: int = 240
) -> dict[str, tuple[int, int, str]]:
    """Match dictionaries of known answers, and count the right ones.

    Args:
        seeds: a pair of dictionaries is made and matched for each.
        documents: of the text, as in :func:`ground_truth`.

    Returns:
        By kind of feature: right answers, features, and what a right answer is.
    """
    found: dict[str, tuple[int, int]] = dict.fromkeys(KINDS, (0, 0))
    for seed in seeds:
        with tempfile.TemporaryDirectory() as scratch:
            truth = ground_truth(Path(scratch), seed=seed, documents=documents)
            settings = MatchSettings(keys=("none",), draws=1, max_draws=1)
            result = match(truth.a, truth.b, truth.probe, settings=settings)
            for kind, (right, of) in truth.judge(result).items():
                found[kind] = (found[kind][0] + right, found[kind][1] + of)
    return {kind: (right, of, MEANS[kind]) for kind, (right, of) in found.items()}
