"""A feature of another dictionary that is active where the query is: what a question returns."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """A feature of another dictionary that is active where the query is."""

    dictionary: str
    """Id of the dictionary that the feature belongs to."""

    feature: int
    """Number of the feature in its dictionary."""

    r: float
    """Exact Pearson correlation with the query over all segments that both have."""

    token_null: float
    """Mean r when each segment takes another one of the same token; NaN where too few have one."""

    partial_token: float
    """Correlation among segments of the same token; NaN where neither can vary there."""

    margin: float
    """``r`` minus the best r of the dictionary's other candidates; above 0 only for the first."""

    mutual: bool
    """True when it is the query's best in its dictionary, and no feature of the query's dictionary
    that the atlas holds correlates more with it than the query."""

    cofires: int
    """Segments on which both fire."""

    fires: int
    """Segments on which it fires, of those that both have."""

    @property
    def excess(self) -> float:
        """``r - token_null``: the part of the correlation that equal tokens do not explain."""
        return self.r - self.token_null
