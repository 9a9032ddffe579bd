"""What the committed results of ``make mutants`` say, checked against the tree."""

import json
import random

from house_figures.figure import Figure
from house_figures.mutants import Config, drawn, hash_of_files, load_config, mutated_files
from house_figures.mutate import RESULTS, SESSIONS, hash_of_mutants, hash_of_outcomes, measure

AGAIN = 5
_NEAREST = frozenset({"killed", "timeout"})
_KILLED = _NEAREST | {"killed beside"}


def mutants(*, jobs: int = 2) -> Figure:
    """Return the share of drawn mutants that the tests of their folder kill.

    The results count only if they are of this tree, of the mutants that its hash draws, unchanged
    since they were written, and if five of them taken by chance come out the same again.
    """
    config = load_config()
    if not RESULTS.exists():
        return _figure(None, {"not measured": "no benchmarks/mutants.json: run make mutants"}, 1)
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    problems = _problems(document, config)
    outcomes: list[dict[str, object]] = document["outcomes"]
    again: dict[str, object] = {}
    if not problems:
        again, changed = _run_again(outcomes, config, jobs)
        problems += changed
    killed = sum(outcome["outcome"] in _KILLED for outcome in outcomes)
    nearest = sum(outcome["outcome"] in _NEAREST for outcome in outcomes)
    peers: dict[str, object] = {
        "by the nearest tests alone": nearest / max(len(outcomes), 1),
        **document["counts"],
        "excluded": document["left_out"],
        "run again": again,
        "problems": problems,
    }
    return _figure(killed / max(len(outcomes), 1), peers, len(outcomes), is_doubtful=bool(problems))


def _figure(
    value: float | None, peers: dict[str, object], runs: int, *, is_doubtful: bool = False
) -> Figure:
    return Figure(
        figure="mutants",
        value=value,
        bar=0.85,
        unit="share of mutants of store and service that the tests of their folder kill",
        at_most=False,
        peers=peers,
        runs=runs,
        is_doubtful=is_doubtful,
    )


def _problems(document: dict[str, object], config: Config) -> list[str]:
    """Return why committed results do not count; nothing where they do."""
    if document["tree"] != hash_of_files(mutated_files(config)):
        return ["benchmarks/mutants.json is of another tree: run make mutants"]
    problems: list[str] = []
    chosen, left_out = drawn(config)
    if document["mutants"] != hash_of_mutants(chosen):
        problems.append("other mutants were run than this tree draws")
    if document["result"] != hash_of_outcomes(document["outcomes"]):
        problems.append("the outcomes are not those that were written")
    if len(chosen) < 200:
        problems.append(f"{len(chosen)} mutants, wanted at least 200")
    if len(left_out) > 0.03 * len(chosen):
        problems.append(f"{len(left_out)} places excluded, at most 3 % of {len(chosen)}")
    return problems


def _run_again(
    outcomes: list[dict[str, object]], config: Config, jobs: int
) -> tuple[dict[str, object], list[str]]:
    """Run five mutants anew; return what came of them, and those that came out differently."""
    chosen, _ = drawn(config)
    some = random.SystemRandom().sample(range(len(chosen)), min(AGAIN, len(chosen)))
    session = SESSIONS / "again.sqlite"
    session.unlink(missing_ok=True)
    found = measure(config, [chosen[number] for number in some], jobs, session)
    again = {outcome.mutant.name: outcome.outcome for outcome in found}
    changed = [
        f"{outcome.mutant.name} was {outcomes[number]['outcome']} and is {outcome.outcome}"
        for number, outcome in zip(some, found, strict=True)
        if (outcome.outcome in _KILLED) != (outcomes[number]["outcome"] in _KILLED)
    ]
    return dict(again), changed
