"""The base class of all wirings; every file beside this one has a subclass."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from isogloss.dictionaries.settings import Settings
from isogloss.short_repr import short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class WiredColumns:
    """The columns of the rows that a dictionary reads, and those that it reconstructs.

    The rows of all sources lie side by side: columns 0 to w0 are the first site's, w0 to w0 + w1
    the second's, and so on.
    """

    reads: range
    """Columns that go in."""
    writes: range
    """Columns that come out."""
    skip: bool = False
    """Whether a linear map from what goes in to what comes out is trained beside the features."""
    dedicated: tuple[float, ...] = ()
    """For each site the share of the features that read and write it alone; empty: there are none.
    """

    __repr__ = short_repr

    @property
    def reads_what_it_writes(self) -> bool:
        """Whether the columns that come out are those that go in."""
        return self.reads == self.writes


@dataclass(frozen=True, kw_only=True, slots=True)
class Wiring(Settings, ABC):
    """Says which sites a dictionary reads and which it reconstructs.

    It does not know what kind of dictionary is trained: a kind sees rows to read and rows to
    reconstruct, cut from the sites' rows as :meth:`connect` says. Its fields are its settings; a
    run names them beside those of the kind, so the two must not share a name. To add one, write the
    class in a file beside this one and its row in ``table.py``, or offer it from a package of your
    own by an entry point in the group ``isogloss.wirings``.
    """

    @abstractmethod
    def connect(self, widths: Sequence[int]) -> WiredColumns:
        """Return which columns the dictionary reads and which it reconstructs.

        Args:
            widths: widths of the sites, in the order in which the caller named them.

        Raises:
            InvalidInput: the wiring wants another number of sites.
        """


def site_columns(widths: Sequence[int]) -> tuple[range, ...]:
    """Return the columns of each site, where the rows of all lie side by side."""
    edges = [0, *accumulate(widths)]
    return tuple(range(start, stop) for start, stop in pairwise(edges))
