"""A figure, and how a benchmark shows what it found."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number counted or measured on the tree, beside its bar."""

    figure: str
    """Its id."""
    value: float | None
    """The number; None where it was not measured."""
    bar: float
    """What it should reach."""
    unit: str
    """What is counted."""
    at_most: bool = True
    """Whether the bar is an upper bound."""
    peers: dict[str, object] = field(default_factory=dict[str, object])
    """What the number is made of, for whoever wants to lower it."""
    runs: int = 1
    """Measured rounds; 1 for what is counted."""
    is_doubtful: bool = False
    """Whether something behind the number did not check out; ``peers`` says what."""

    @property
    def holds(self) -> bool:
        """Whether the number was measured, checked out and reaches its bar."""
        if self.value is None or self.is_doubtful:
            return False
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def to_dict(self) -> dict[str, object]:
        """Return the figure as ``--json`` prints it."""
        return {
            "figure": self.figure,
            "value": None if self.value is None else float(f"{self.value:.4g}"),
            "bar": self.bar,
            "sign": "<=" if self.at_most else ">=",
            "holds": self.holds,
            "unit": self.unit,
            "peers": self.peers,
            "runs": self.runs,
        }


def show(figures: Iterable[Mapping[str, object]], *, is_json: bool) -> int:
    """Print figures, each as it comes, or all as one document of JSON.

    Args:
        figures: as :meth:`Figure.to_dict` gives them, or the same with a ``bar`` of None: what is
            only reported.
        is_json: whether one document is printed.

    Returns:
        0 where every bar holds, else 1: the exit status of a benchmark.
    """
    found: list[Mapping[str, object]] = []
    for figure in figures:
        found.append(figure)
        if not is_json:
            beside = f"{figure['sign']} {figure['bar']} {'holds' if figure['holds'] else 'MISSED'}"
            if figure["bar"] is None:
                beside = "has no bar"
            print(f"[{figure['figure']}] {figure['value']} {beside}")
            print(json.dumps(figure, indent=1), flush=True)
    if is_json:
        print(json.dumps({"figures": found}, indent=1))
    return 0 if all(figure["holds"] or figure["bar"] is None for figure in found) else 1
