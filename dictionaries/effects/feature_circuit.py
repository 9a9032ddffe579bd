"""Circuits of features: which features of dictionaries at several sites act on which."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.effects.feature_runs import FeatureRuns, feature_runs
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import (
    METRICS,
    CircuitNode,
    Graph,
    Link,
    LoadedModel,
    Metric,
    TextPairs,
    permutation_p,
)

FeaturePlace = tuple[str, int, int]
"""Site, position and feature."""


@dataclass(frozen=True, kw_only=True)
class FeatureCircuit:
    """Features at positions, what they do to one another, and how far they are all that matters."""

    graph: Graph
    """The features, and the next token; links in shares of the clean metric's difference."""
    places: tuple[FeaturePlace, ...]
    """Site, position and feature of each, the greatest effect first."""
    effects: tuple[float, ...]
    """Share of the way to the corrupt metric that each makes, estimated by gradients."""
    faithfulness: float
    """Share of the difference that is left when all other features are as in the corrupt run."""
    floor: float
    """The same when no feature is kept: what passes beside the dictionaries."""
    random: tuple[float, ...]
    """Faithfulness of as many random features that differ between the runs."""

    @property
    def p(self) -> float:
        """Chance that random features are as near to 1: ``(1 + n) / (1 + all)``."""
        far = [-abs(1 - one) for one in self.random]
        return permutation_p(-abs(1 - self.faithfulness), far)


def feature_circuit(
    model: LoadedModel,
    pairs: TextPairs,
    dictionaries: Mapping[str, DictionaryModule],
    *,
    count: int = 20,
    metric: Metric = "logit_difference",
    random: int = 19,
    seed: int = 0,
    allow: Collection[str] = (),
) -> FeatureCircuit:
    """Find the features that matter most, and the effects between them.

    A feature's effect is the gradient of the metric at its activation in the clean run, through all
    that comes after, times its corrupt less its clean activation (Marks et al. 2024, sparse feature
    circuits, arXiv 2403.19647). A link is the part of it that goes through one later feature, and
    through no feature between; or through none at all, to the next token. The parts through all
    later features and the one to the next token add up to the effect.

    Args:
        model: a causal language model.
        pairs: clean and corrupt texts.
        dictionaries: by site, one of one site each.
        count: features at positions that are taken, over all sites.
        metric: ``logit_difference`` or ``probability``; the gradient of ``kl`` is 0 here.
        random: random circuits of as many features.
        seed: of them.
        allow: parts of the passports that may differ.

    Raises:
        InvalidInput: there is no dictionary, one is of several sites or two are of one, texts are
            longer than the model's context, no feature differs between the runs, or a setting
            cannot be used.
        PassportRefused: a dictionary is of another model or site.
        UnknownSite: the model has no such submodule.
    """
    _check(metric, count, random)
    runs = feature_runs(model, pairs, dictionaries, metric, allow)
    totals = runs.totals()
    span = runs.corrupt - runs.clean
    moved = {site: runs.donor[site] - runs.own[site] for site in runs.dictionaries}
    effects = {site: (totals[site] * moved[site]).mean(0) * len(pairs) / span for site in moved}
    places = _largest(effects, count)
    if not places:
        raise InvalidInput("no feature of these dictionaries differs between clean and corrupt")
    values = tuple(float(effects[site][at, feature]) for site, at, feature in places)
    kept, floor = (runs.faithfulness(_kept(runs, some)) for some in (places, []))
    beside = _random(runs, moved, count, random, seed)
    said = _said(runs, values, kept, floor, beside)
    return FeatureCircuit(
        graph=_graph(runs, places, links(runs, places, totals, moved), said),
        places=tuple(places),
        effects=values,
        faithfulness=kept,
        floor=floor,
        random=beside,
    )


def _check(metric: Metric, count: int, random: int) -> None:
    if metric not in METRICS or metric == "kl" or min(count, random) < 1:
        raise InvalidInput(
            f"metric {metric!r}, count {count}, random {random}; wanted logit_difference or "
            "probability, and 1 at least of both"
        )


def _said(
    runs: FeatureRuns,
    effects: tuple[float, ...],
    kept: float,
    floor: float,
    beside: tuple[float, ...],
) -> str:
    """Say in a sentence what was measured of a circuit."""
    return (
        f"{len(effects)} features at {', '.join(runs.dictionaries)}, with "
        f"{sum(map(abs, effects)):.3f} of effects; faithfulness {kept:.3f}, {floor:.3f} of no "
        f"feature, {min(beside):.3f} to {max(beside):.3f} of {len(beside)} random circuits as large"
    )


def _random(
    runs: FeatureRuns, moved: Mapping[str, Tensor], count: int, circuits: int, seed: int
) -> tuple[float, ...]:
    """Return the faithfulness of random features that differ between the runs."""
    differ = [
        (site, int(at), int(feature))
        for site in moved
        for at, feature in (moved[site] != 0).any(0).nonzero().tolist()
    ]
    draw = np.random.default_rng(seed)
    drawn = [[differ[i] for i in draw.permutation(len(differ))[:count]] for _ in range(circuits)]
    return tuple(runs.faithfulness(_kept(runs, places)) for places in drawn)


def links(
    runs: FeatureRuns,
    places: list[FeaturePlace],
    totals: Mapping[str, Tensor],
    moved: Mapping[str, Tensor],
) -> dict[tuple[FeaturePlace, FeaturePlace | None], float]:
    """Return what features do to later ones, and to the next token (None), by direct gradients.

    Args:
        runs: of the pairs.
        places: of the features.
        totals: gradients of the metric at features, by site, ``[pairs, tokens, features]``.
        moved: corrupt less clean activations, by site.
    """
    leaves, reached, value = runs.graph()
    order, span = list(runs.dictionaries), runs.corrupt - runs.clean
    found: dict[tuple[FeaturePlace, FeaturePlace | None], float] = {}
    for target in (*places, None):
        if target is None:
            told, before = value, order
        else:
            site, at, feature = target
            told = (reached[site][:, at, feature] * totals[site][:, at, feature]).sum()
            before = order[: order.index(site)]
        if not before or not told.requires_grad:
            continue
        asked = [leaves[site] for site in before]
        gradients = torch.autograd.grad(
            told, asked, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        for site, gradient in zip(before, gradients, strict=True):
            for source in (one for one in places if one[0] == site):
                at = source[1:]
                weight = float((gradient * moved[site])[:, at[0], at[1]].sum() / span)
                if weight:
                    found[source, target] = weight
    return found


def _largest(effects: Mapping[str, Tensor], count: int) -> list[FeaturePlace]:
    """Return the places of the greatest effects, either way, the greatest first."""
    found = [
        (abs(float(effects[site][at, feature])), (site, int(at), int(feature)))
        for site in effects
        for at, feature in effects[site].nonzero().tolist()
    ]
    return [place for _, place in sorted(found, key=lambda one: (-one[0], one[1]))[:count]]


def _kept(runs: FeatureRuns, places: list[FeaturePlace]) -> dict[str, Tensor]:
    kept = {site: torch.zeros_like(own[0], dtype=torch.bool) for site, own in runs.own.items()}
    for site, at, feature in places:
        kept[site][at, feature] = True
    return kept


def _graph(
    runs: FeatureRuns,
    places: list[FeaturePlace],
    found: Mapping[tuple[FeaturePlace, FeaturePlace | None], float],
    facts: str,
) -> Graph:
    order, tokens = list(runs.dictionaries), runs.pairs.tokens

    def name(place: FeaturePlace | None) -> str:
        if place is None:
            return "logits"
        site, at, feature = place
        return f"{order.index(site)}_{feature}_{at}"

    nodes = [
        CircuitNode(
            name=name(place),
            kind="feature",
            layer=order.index(place[0]),
            place=place[1],
            feature=place[2],
            label=f"{place[2]} at {tokens[place[1]].strip()}",
            value=float(runs.own[place[0]][:, place[1], place[2]].mean()),
        )
        for place in places
    ]
    nodes.append(CircuitNode(name="logits", kind="logit", layer=len(order), place=len(tokens) - 1,
                      label="next token"))  # fmt: skip
    return Graph(
        model=runs.model.name,
        tokens=tokens,
        nodes=tuple(nodes),
        links=tuple(
            Link(source=name(source), target=name(target), weight=weight)
            for (source, target), weight in found.items()
        ),
        facts=facts,
        sites=tuple(order),
    )
