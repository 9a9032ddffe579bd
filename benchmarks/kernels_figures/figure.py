"""A figure of a benchmark."""

from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One measured number."""

    id: str
    """Its name."""
    value: float
    """What was measured."""
    bar: float | None
    """What it should reach."""
    how: str
    """What was done."""
    at_most: bool = True
    """Whether the bar is an upper bound."""
    unit: str = "ratio"
    """Of the value."""
    peers: dict[str, float] = field(default_factory=dict[str, float])
    """The same of others."""
    runs: int = 1
    """Timed rounds, of which the value is the median; 1 for what is counted."""

    def to_dict(self) -> dict[str, object]:
        """The figure as ``--json`` prints it."""
        return {
            "figure": self.id,
            "value": self.value,
            "bar": self.bar,
            "sign": "<=" if self.at_most else ">=",
            "holds": self.holds,
            "unit": self.unit,
            "peers": self.peers,
            "runs": self.runs,
            "how": self.how,
        }

    @property
    def holds(self) -> bool | None:
        """Whether the bar is reached; None without one."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar
