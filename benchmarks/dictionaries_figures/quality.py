"""How well dictionaries reconstruct held-out rows, beside peers, of the cells that ``study`` keeps.

What is chosen (of our settings, and which peer) is chosen by seed 0 and part A of the held-out
rows. What is reported is of part B, of all three seeds. The figures read what is kept and run
nothing; what is missing they name. ``kept_cell`` runs one cell again.

A peer is compared whatever its share of dead features: the best of them have more than 2 % in long
runs, and would leave nothing to compare with.
"""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from house_figures.figure import Figure

from dictionaries_figures import study
from dictionaries_figures.cell import Cell

_T95 = {2: 6.314, 3: 2.920}
"""Upper 95 % point of Student's t, by the number of pairs."""
_ALIVE = 0.02


def _number(found: dict[str, object], name: str) -> float:
    value = found[name]
    return float(value) if isinstance(value, int | float) else math.nan


def upper_bound(ratios: Sequence[float]) -> float:
    """Return the upper 95 % bound of a mean of logarithms of paired ratios, as a ratio.

    Of one pair it is the ratio itself, which bounds nothing: the figure says so.
    """
    logs = [math.log(ratio) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) < 2:
        return math.exp(mean)
    error = statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(mean + _T95[len(logs)] * error)


def _pairs(site: str, steps: int) -> list[tuple[dict[str, object], dict[str, object]]]:
    """Return our default beside the best peer, for each seed of which both are kept."""
    pairs = [
        tuple(replace(one, site=site, steps=steps, seed=seed) for one in (study.OURS, _best_peer()))
        for seed in study.SEEDS
    ]
    kept = study.study([cell for pair in pairs for cell in pair])
    return [(kept[own], kept[peer]) for own, peer in pairs if own in kept and peer in kept]


def _best_peer() -> Cell:
    """Return the peer's cell with the lowest FVU on part A."""
    kept = study.study([one for one in study.CHOICE if one.trainer != "isogloss"])
    return min(kept, key=lambda cell: _number(kept[cell], "fvu_a"), default=study.SAELENS)


def _compared(
    name: str,
    bar: float,
    unit: str,
    value_of: Callable[[Sequence[tuple[dict[str, object], dict[str, object]]]], float],
    *,
    of_one_processor: bool = False,
) -> Figure:
    """Take the worst condition; without all of them the figure has no value but what there is."""
    found: dict[str, object] = {"peer": _best_peer().to_dict()}
    values: list[float] = []
    missing: list[str] = []
    runs = 0
    for site, steps in study.CONDITIONS:
        pairs = _pairs(site, steps)
        if of_one_processor:
            pairs = [(a, b) for a, b in pairs if a.get("processor") == b.get("processor")]
        runs += len(pairs)
        here = f"{site} {steps}"
        if len(pairs) < len(study.SEEDS):
            missing.append(f"{here}: {len(pairs)} of {len(study.SEEDS)} seeds")
        if pairs:
            values.append(value_of(pairs))
            found[here] = {
                "value": round(values[-1], 4),
                **{
                    f"{who} {what}": [round(_number(pair[place], what), 4) for pair in pairs]
                    for place, who in enumerate(("ours", "peer"))
                    for what in ("fvu_b", "dead", "cpu_s")
                },
            }
    found["missing"] = missing
    return Figure(
        figure=name,
        value=round(max(values), 4) if values else None,
        bar=bar,
        unit=unit,
        peers=found,
        runs=runs,
        is_doubtful=bool(missing),
    )


def fvu_vs_best_peer() -> Figure:
    """Take the upper bound of our defaults' FVU over the best peer's, in the worst condition."""
    return _compared(
        "fvu_vs_best_peer",
        0.98,
        "upper 95 % bound of the paired ratio of FVU, our defaults / best peer, worst condition",
        lambda pairs: upper_bound([_number(a, "fvu_b") / _number(b, "fvu_b") for a, b in pairs]),
    )


def cpu_to_fvu() -> Figure:
    """Compare CPU seconds of one processor; ours are of the whole run, which ends below their FVU.

    So the figure is an upper bound; where our FVU is above the peer's it is infinite.
    """

    def share(pairs: Sequence[tuple[dict[str, object], dict[str, object]]]) -> float:
        if any(_number(a, "fvu_b") > _number(b, "fvu_b") for a, b in pairs):
            return math.inf
        return statistics.median(_number(a, "cpu_s") / _number(b, "cpu_s") for a, b in pairs)

    unit = "CPU seconds of our whole run, which ends below the peer's FVU / the peer's; one thread"
    return _compared("cpu_to_fvu", 0.25, unit, share, of_one_processor=True)


def fvu_defaults() -> Figure:
    """Compare the defaults with our best that was tried, at the same rows and k."""
    wanted = [one for one in study.CHOICE if one.trainer == "isogloss"]
    kept = study.study(wanted)
    alive = {one: found for one, found in kept.items() if _number(found, "dead") <= _ALIVE}
    best = min(alive, key=lambda one: _number(alive[one], "fvu_a"), default=None)
    value = None
    if best is not None and study.OURS in alive:
        value = _number(alive[study.OURS], "fvu_b") / _number(alive[best], "fvu_b")
    return Figure(
        figure="fvu_defaults",
        value=None if value is None else round(value, 4),
        bar=1.02,
        unit="FVU of the defaults / of our best with at most 2 % dead, chosen on part A",
        peers={
            "best": None if best is None else best.to_dict(),
            "missing": len(wanted) - len(kept),
            "fvu_b": {_named(one): round(_number(f, "fvu_b"), 5) for one, f in kept.items()},
            "dead": {_named(one): round(_number(f, "dead"), 4) for one, f in kept.items()},
        },
        runs=len(kept),
        is_doubtful=len(kept) < len(wanted),
    )


def _named(cell: Cell) -> str:
    own = (("batch", cell.batch_rows), ("rate", cell.rate), ("", cell.settings.strip("{}")))
    return " ".join(f"{name} {value}".strip() for name, value in own if value) or "defaults"


def dead() -> Figure:
    """Take the largest share of dead features of the defaults, over sites, lengths and seeds."""
    wanted = [
        replace(study.OURS, site=site, steps=steps, seed=seed)
        for site, steps in study.CONDITIONS
        for seed in study.SEEDS
    ]
    kept = study.study(wanted)
    shares = {f"{c.site} {c.steps} seed {c.seed}": _number(f, "dead") for c, f in kept.items()}
    return Figure(
        figure="dead",
        value=max(shares.values(), default=None),
        bar=0.02,
        unit="share of features that fire on none of 16,384 held-out rows, defaults, worst cell",
        peers={**shares, "missing": len(wanted) - len(kept)},
        runs=len(kept),
        is_doubtful=len(kept) < len(wanted),
    )


def kept_cell() -> Figure:
    """Run the shortest of our cells again, and compare it with the kept one."""
    kept = study.study([study.OURS])
    if not kept:
        return Figure(
            figure="kept_cell",
            value=None,
            bar=1e-3,
            unit="relative difference of FVU, the cell of the defaults run again",
            peers={"reason": "no such cell of this code: python -m dictionaries_figures.study"},
            runs=0,
        )
    cell, again = kept[study.OURS], study.run(study.OURS)
    return Figure(
        figure="kept_cell",
        value=abs(_number(again, "fvu_b") / _number(cell, "fvu_b") - 1),
        bar=1e-3,
        unit="relative difference of FVU, the cell of the defaults run again",
        peers={"same weights": cell["weights"] == again["weights"]},
    )
