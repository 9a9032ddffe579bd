"""What else a match measured, in words: means of best partners, assignments, subsets, margins.

Each number stands beside what it is where nothing is shared.
"""

from dataclasses import dataclass
from itertools import pairwise

from isogloss.service.pages.figures import NULL_KEYS
from isogloss.service.pages.report_data import Node
from isogloss.service.pages.report_view import ReportSide, decimal

_LEVEL = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class OtherMeasure:
    """A number of the match beside its null."""

    name: str
    """What was measured."""
    value: str
    """What was found."""
    beside: str
    """The same where nothing is shared; empty where there is no null of it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MarginBand:
    """The pairs whose margin lies in a band."""

    label: str
    """The band."""
    pairs: int
    """Pairs with r of at least .3 in it."""
    again: int
    """Those that are each other's best on the reporting half as well."""
    replicates: int
    """Those that replicate."""


def measures_of(data: Node, sides: tuple[ReportSide, ReportSide]) -> tuple[OtherMeasure, ...]:
    """Return what else was measured; nothing of what data of earlier releases lack."""
    found: list[OtherMeasure] = []
    if "mean_best" in data:
        found += [_mean_best(data.node("mean_best"), key, side) for key, side in _keyed(sides)]
    if "one_to_one" in data:
        found += _one_to_one(data.node("one_to_one"))
    if "subsets" in data:
        subsets = data.node("subsets")
        for name, (own, other) in (("split", sides), ("merged", sides[::-1])):
            if name in subsets:
                found.append(_subsets(subsets.node(name), own, other))
    return tuple(found)


def margins_of(data: Node) -> tuple[MarginBand, ...]:
    """Return the pairs with r of at least .3 by their margin on the choosing half."""
    if "margins" not in data:
        return ()
    margins = data.node("margins")
    lows = margins.numbers("from")
    labels = [f"{low:g} to {high:g}" for low, high in pairwise(lows)]
    rows = zip(
        [*labels, f"{lows[-1]:g} or more"],
        *(margins.numbers(name) for name in ("pairs", "mutual_again", "replicates")),
        strict=True,
    )
    return tuple(
        MarginBand(label=label, pairs=round(pairs), again=round(again), replicates=round(good))
        for label, pairs, again, good in rows
        if pairs
    )


def _keyed(sides: tuple[ReportSide, ReportSide]) -> tuple[tuple[str, ReportSide], ...]:
    return tuple(zip("ab", sides, strict=True))


def _mean_best(node: Node, key: str, side: ReportSide) -> OtherMeasure:
    nulls = node.node("nulls")

    def means(found: Node) -> str:
        names = ("features", "by_fires", "by_mass")
        return ", ".join(decimal(found.maybe(name)) for name in names)

    return OtherMeasure(
        name=f"mean best correlation of the features of {side.name} (MPPC): plain, by firings, by "
        "mass; on the choosing half",
        value=means(node.node(key)),
        beside="; ".join(
            f"{NULL_KEYS[name]} {means(nulls.node(name).node(key))}"
            for name in NULL_KEYS
            if name in nulls
        ),
    )


def _one_to_one(node: Node) -> list[OtherMeasure]:
    counts = ", ".join(
        f"{count:.0f} with r ≥ {level:g}"
        for level, count in zip(node.numbers("thresholds"), node.numbers("shared"), strict=True)
    )
    found = [
        OtherMeasure(
            name="features assigned one to one, whether mutual or not",
            value=f"{node.count('pairs'):,} pairs, {node.count('mutual'):,} of them mutual; "
            f"{counts}",
            beside="",
        )
    ]
    if "decoders" in node:
        decoders = node.node("decoders")
        found.append(
            OtherMeasure(
                name="mean cosine of decoder rows assigned one to one (PW-MCC)",
                value=f"{decoders.number('value'):.3f}",
                beside=f"one decoder rotated {decoders.number('null'):.3f} "
                f"(sd {decoders.number('null_spread'):.3f})",
            )
        )
    return found


def _subsets(node: Node, own: ReportSide, other: ReportSide) -> OtherMeasure:
    at = node.numbers("thresholds").index(_LEVEL)
    nulls = node.node("nulls")
    return OtherMeasure(
        name=f"features of {own.name} that reach r ≥ {_LEVEL:g} by up to {node.count('most')} "
        f"features of {other.name} together",
        value=f"{node.numbers('together')[at]:,.0f}; by one alone "
        f"{node.numbers('single')[at]:,.0f}",
        beside="; ".join(
            f"{NULL_KEYS[name]} {nulls.numbers(name)[at]:,.0f}"
            for name in NULL_KEYS
            if name in nulls
        ),
    )
