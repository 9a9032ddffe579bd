"""A circuit: the fewest edges of the greatest scores that say what the whole model says."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.models.circuits.edges import Edges
from isogloss.models.circuits.graph import CircuitNode, Graph, Link
from isogloss.models.circuits.runs import EdgeRuns, edge_runs
from isogloss.models.circuits.scores import EdgeScores
from isogloss.models.pages.page import readable
from isogloss.models.patching.pairs import TextPairs
from isogloss.models.wrappers import LoadedModel


@dataclass(frozen=True, kw_only=True, eq=False)
class Circuit:
    """Edges of a model that are kept, and what they do by themselves."""

    model: str
    """Name of the model."""
    edges: Edges
    """Of the whole model."""
    kept: NDArray[np.bool_]
    """Which edges are in the circuit, ``[writers, readers]``; each lies on a path from the
    embedding to the logits."""
    scores: NDArray[np.float64]
    """Effects by which they were chosen, ``[writers, readers]``."""
    faithfulness: float
    """Share of the way from the corrupt to the clean metric that the circuit makes by itself."""
    completeness: float
    """Share of it that is gone when the circuit is cut and all the rest is kept."""
    tokens: tuple[str, ...]
    """The first clean text's."""

    def __len__(self) -> int:
        return int(self.kept.sum())

    @property
    def names(self) -> tuple[str, ...]:
        """The edges by name, such as ``a0.h1->a2.h3<k>``."""
        return self.edges.names(self.kept)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The heads and MLPs in it, with ``input`` and ``logits``."""
        used = np.flatnonzero(np.any(self.kept, axis=1)).tolist()
        return (*(self.edges.writers[i].name for i in used), *(["logits"] if used else []))

    def graph(self) -> Graph:
        """Return the circuit as a graph, to draw or to write."""
        writers = {one.name: one for one in self.edges.writers}
        nodes = [
            CircuitNode(
                name=name,
                kind=_kind(name),
                layer=writers[name].layer if name in writers else self.edges.readers[-1].layer,
                place=(writers[name].head or 0) if name in writers else 0,
                label=_label(name),
            )
            for name in self.nodes
        ]
        known, links = {node.name for node in nodes}, list[Link]()
        for i, j in np.argwhere(self.kept).tolist():
            reader, weight = self.edges.readers[j], float(self.scores[i, j])
            fed = [one.name for one in self.edges.writers if reader.feeds(one)] or ["logits"]
            part = reader.part if reader.part in ("q", "k", "v") else ""
            links += [
                Link(source=self.edges.writers[i].name, target=name, weight=weight, part=part)
                for name in fed
                if name in known
            ]
        return Graph(
            model=self.model,
            tokens=self.tokens,
            nodes=tuple(nodes),
            links=tuple(links),
            facts=self._facts(len(links)),
        )

    def _facts(self, links: int) -> str:
        """Say what was measured, and why the circuit has other links than edges."""
        drawn = ""
        if links != len(self):
            drawn = f", drawn as {links:,} links (each head that shares keys or values has its own)"
        return (
            f"{len(self):,} of {len(self.edges):,} edges{drawn}; faithfulness "
            f"{self.faithfulness:.3f}, completeness {self.completeness:.3f}"
        )


def find_circuit(
    model: LoadedModel, pairs: TextPairs, scores: EdgeScores, *, faithfulness: float = 0.95
) -> Circuit:
    """Find the fewest edges of the greatest scores that reach a faithfulness.

    The number of edges is doubled until they do, then halved in between: about ``2 log2(edges)``
    passes. A circuit that overshoots by more than it may fall short is not faithful either. Edges
    that lie on no path from the embedding to the logits are left out.

    Args:
        model: see :func:`isogloss.models.score_edges`.
        pairs: clean and corrupt texts, the scored ones or others.
        scores: of the model's edges.
        faithfulness: which share of the difference between clean and corrupt texts the circuit
            must make by itself, above 0 and at most 1.

    Raises:
        InvalidInput: the scores are of another model's edges, or the share is none.
    """
    if not 0 < faithfulness <= 1:
        raise InvalidInput(f"faithfulness is {faithfulness}; wanted above 0 and at most 1")
    runs = edge_runs(model, pairs, scores.metric)
    same_edges(runs, scores)
    known = int((scores.edges.exist & ~np.isnan(scores.effects)).sum())

    def reaches(count: int) -> bool:
        found = runs.faithfulness(scores.edges.live(scores.top(count)))
        return abs(1 - found) <= 1 - faithfulness

    return circuit_of(runs, scores, fewest(reaches, known))


def circuit_of(runs: EdgeRuns, scores: EdgeScores, count: int) -> Circuit:
    """Return the circuit of the edges of the greatest scores, with what it does.

    Args:
        runs: of the pairs that it is measured on.
        scores: of the edges.
        count: how many edges are taken, before those on no path are left out.
    """
    kept = scores.edges.live(scores.top(count))
    return Circuit(
        model=runs.model,
        edges=scores.edges,
        kept=kept,
        scores=scores.effects,
        faithfulness=runs.faithfulness(kept),
        completeness=1 - runs.faithfulness(scores.edges.exist & ~kept),
        tokens=runs.pairs.tokens,
    )


def same_edges(runs: EdgeRuns, scores: EdgeScores) -> None:
    """Refuse scores of another model's edges.

    Args:
        runs: of the model.
        scores: given for it.

    Raises:
        InvalidInput: they are of other writers and readers.
    """
    found = runs.stream.edges
    if (found.writers, found.readers) != (scores.edges.writers, scores.edges.readers):
        raise InvalidInput(
            f"the scores are of {len(scores.edges)} edges of {scores.model!r}, {runs.model!r} has "
            f"{len(found)} others: score its own"
        )


def fewest(reaches: Callable[[int], bool], most: int) -> int:
    """Return a number that reaches something while the one below, as far as looked, does not.

    Args:
        reaches: whether a number does.
        most: the greatest; returned where none below it does.
    """
    low, high = 0, 1
    while high < most and not reaches(high):
        low, high = high, 2 * high
    high = min(high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if reaches(middle):
            high = middle
        else:
            low = middle
    return high


def _kind(name: str) -> str:
    if name in ("input", "logits"):
        return {"input": "embedding", "logits": "logit"}[name]
    return "attention head" if name.startswith("a") else "mlp"


def _label(name: str) -> str:
    if name in ("input", "logits"):
        return {"input": "embeddings", "logits": "next token"}[name]
    layer, _, head = name[1:].partition(".h")
    return f"head {layer}.{head}" if head else f"MLP {readable(layer)}"
