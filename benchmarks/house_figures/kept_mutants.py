"""What the committed results of ``make mutants`` say, checked against the tree."""

import json
import random
from collections import Counter

from house_figures.figure import Figure
from house_figures.mutants import HOUSE, Config, Mutant, drawn, load_config
from house_figures.mutate import (
    SESSIONS,
    Outcome,
    hash_of_outcomes,
    measure,
    outcomes_of,
)

AGAIN = 5
LEAST = {HOUSE: 200, "universality": 150}
"""Mutants of a draw at least."""

_NEAREST = frozenset({"killed", "timeout"})
_KILLED = _NEAREST | {"killed beside"}


def mutants(draw: str = HOUSE, *, jobs: int = 2) -> Figure:
    """Return the share of drawn mutants that the tests of their folder kill.

    A mutant of a file that was changed since the results were written, or whose tests were, is
    stale: it counts as not killed until ``make mutants`` runs it again. The results count only if
    they are as they were written, and if five that still hold, taken by chance, come out the same.

    Args:
        draw: the draw, as :func:`~house_figures.mutants.load_config` knows it.
        jobs: processes at once.
    """
    config = load_config(draw=draw)
    if not config.results.exists():
        missing = f"no benchmarks/{config.results.name}: run make mutants"
        return _figure(config, None, {"not measured": missing}, 1)
    document = json.loads(config.results.read_text(encoding="utf-8"))
    chosen, left_out = drawn(config)
    known = outcomes_of(document, chosen, config)
    problems = _problems(document, chosen, left_out, LEAST[draw])
    again: dict[str, object] = {}
    if not problems:
        again, changed = _run_again(list(known.values()), config, jobs)
        problems += changed
    counts = Counter(outcome.outcome for outcome in known.values())
    peers: dict[str, object] = {
        "by the nearest tests alone": sum(counts[name] for name in _NEAREST) / len(chosen),
        **dict(sorted(counts.items())),
        "stale": len(chosen) - len(known),
        "excluded": len(left_out),
        "run again": again,
        "problems": problems,
    }
    killed = sum(counts[name] for name in _KILLED)
    share = killed / len(chosen)
    return _figure(config, share, peers, len(chosen), is_doubtful=bool(problems))


def _figure(
    config: Config,
    value: float | None,
    peers: dict[str, object],
    runs: int,
    *,
    is_doubtful: bool = False,
) -> Figure:
    rooms = " and ".join(config.rooms)
    return Figure(
        figure="mutants",
        value=value,
        bar=0.85,
        unit=f"share of mutants of {rooms} that the tests of their folder kill",
        at_most=False,
        peers=peers,
        runs=runs,
        is_doubtful=is_doubtful,
    )


def _problems(
    document: dict[str, object], chosen: list[Mutant], left_out: list[Mutant], least: int
) -> list[str]:
    """Return why committed results do not count; nothing where they do."""
    problems: list[str] = []
    if document["result"] != hash_of_outcomes(document["outcomes"]):
        problems.append("the outcomes are not those that were written: run make mutants")
    if len(chosen) < least:
        problems.append(f"{len(chosen)} mutants, wanted at least {least}")
    if len(left_out) > 0.03 * len(chosen):
        problems.append(f"{len(left_out)} places excluded, at most 3 % of {len(chosen)}")
    return problems


def _run_again(
    known: list[Outcome], config: Config, jobs: int
) -> tuple[dict[str, object], list[str]]:
    """Run five mutants anew; return what came of them, and those that came out differently."""
    before = random.SystemRandom().sample(known, min(AGAIN, len(known)))
    session = SESSIONS / "again.sqlite"
    session.unlink(missing_ok=True)
    found = measure(config, [outcome.mutant for outcome in before], jobs, session)
    again = {outcome.mutant.name: outcome.outcome for outcome in found}
    changed = [
        f"{now.mutant.name} was {then.outcome} and is {now.outcome}"
        for then, now in zip(before, found, strict=True)
        if (now.outcome in _KILLED) != (then.outcome in _KILLED)
    ]
    return dict(again), changed
