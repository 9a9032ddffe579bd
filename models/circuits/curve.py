"""Faithfulness and completeness over the size of a circuit, beside random circuits."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.models.circuits.circuit import same_edges
from isogloss.models.circuits.edges import Edges
from isogloss.models.circuits.runs import edge_runs
from isogloss.models.circuits.scores import EdgeScores
from isogloss.models.patching.metrics import permutation_p
from isogloss.models.patching.pairs import TextPairs
from isogloss.models.wrappers import LoadedModel

_PATHS = 500
"""Random paths after which it is looked whether they still bring edges."""


@dataclass(frozen=True, kw_only=True)
class CircuitCurve:
    """Circuits of growing size, by score and at random."""

    sizes: tuple[int, ...]
    """Edges of each circuit, all on paths from the embedding to the logits, ascending."""
    faithfulness: tuple[float, ...]
    """Share of the way from the corrupt to the clean metric that each makes by itself."""
    completeness: tuple[float, ...]
    """Share of it that is gone when each is cut and the rest is kept."""
    random: tuple[tuple[float, ...], ...]
    """Faithfulness of random circuits of each size, as many edges, all on paths too."""

    @property
    def p(self) -> tuple[float, ...]:
        """Of each size the chance that a random circuit is as near to 1: ``(1 + n) / (1 + all)``,
        n of all random ones being so."""
        return tuple(
            permutation_p(-abs(1 - found), [-abs(1 - one) for one in null])
            for found, null in zip(self.faithfulness, self.random, strict=True)
        )

    def to_dict(self) -> dict[str, object]:
        """Return the curve as JSON holds it."""
        found: dict[str, object] = {one.name: getattr(self, one.name) for one in fields(self)}
        return {**found, "p": self.p}


def circuit_curve(
    model: LoadedModel,
    pairs: TextPairs,
    scores: EdgeScores,
    *,
    sizes: Sequence[int] | None = None,
    count: int = 8,
    seed: int = 0,
) -> CircuitCurve:
    """Measure circuits of the edges of the greatest scores, beside random ones of equal size.

    A random circuit is a union of random paths from the embedding to the logits, so that it is not
    bad for being disconnected.

    Args:
        model: see :func:`isogloss.models.score_edges`.
        pairs: clean and corrupt texts; others than those that were scored make the better test.
        scores: of the model's edges.
        sizes: how many edges are taken; None: powers of 2, and all.
        count: random circuits of each size.
        seed: of them.

    Raises:
        InvalidInput: the scores are of another model's edges, or a size or count is below 1.
    """
    edges, total = scores.edges, int((scores.edges.exist & ~np.isnan(scores.effects)).sum())
    wanted = [*(2**i for i in range(total.bit_length()) if 2**i < total), total]
    taken = wanted if sizes is None else sorted(min(size, total) for size in sizes)
    if not taken or min(taken) < 1 or count < 1:
        raise InvalidInput(f"sizes {taken} and {count} random circuits; wanted 1 at least of each")
    runs = edge_runs(model, pairs, scores.metric)
    same_edges(runs, scores)
    draw = np.random.default_rng(seed)
    kept = [edges.live(scores.top(size)) for size in taken]
    kept = [
        one for i, one in enumerate(kept) if one.any() and (not i or one.sum() != kept[i - 1].sum())
    ]
    null = [[random_circuit(edges, int(one.sum()), draw) for _ in range(count)] for one in kept]
    return CircuitCurve(
        sizes=tuple(int(one.sum()) for one in kept),
        faithfulness=tuple(runs.faithfulness(one) for one in kept),
        completeness=tuple(1 - runs.faithfulness(edges.exist & ~one) for one in kept),
        random=tuple(tuple(runs.faithfulness(one) for one in some) for some in null),
    )


def random_circuit(edges: Edges, size: int, draw: np.random.Generator) -> NDArray[np.bool_]:
    """Return a union of random paths from the embedding to the logits, of as many edges.

    The last path may bring more edges than are wanted; then the union is of that many more. Where
    a path brings less than an edge any more, since most are kept, single edges that lie on a path
    are drawn: all edges are never covered by paths alone.

    Args:
        edges: of the model.
        size: how many edges at least.
        draw: where chance comes from.
    """
    kept, count = np.zeros_like(edges.exist), 0
    size = min(size, int(edges.live(edges.exist).sum()))
    before = [np.flatnonzero(column) for column in edges.exist.T]
    feeds = [np.flatnonzero(column) for column in edges.feeds.T]
    gained = _PATHS
    while count < size and gained >= _PATHS:
        was = count
        for _ in range(_PATHS):
            if count >= size:
                return kept
            count += _add_path(kept, edges, before, feeds, draw)
        gained = count - was
    while count < size:
        others = np.argwhere(edges.exist & ~kept)
        chosen = draw.permutation(others)[: size - count]
        kept[chosen[:, 0], chosen[:, 1]] = True
        kept = edges.live(kept)
        count = int(kept.sum())
    return kept


def _add_path(
    kept: NDArray[np.bool_],
    edges: Edges,
    before: list[NDArray[np.int64]],
    feeds: list[NDArray[np.int64]],
    draw: np.random.Generator,
) -> int:
    """Keep the edges of a random path, from the logits back; return how many were not kept."""
    reader, new = len(edges.readers) - 1, 0
    while True:
        writer = int(before[reader][draw.integers(len(before[reader]))])
        new += not kept[writer, reader]
        kept[writer, reader] = True
        if edges.writers[writer].layer < 0:
            return new
        reader = int(feeds[writer][draw.integers(len(feeds[writer]))])
