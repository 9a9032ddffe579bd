"""Wirings of two sites, for test_train.py."""

from collections.abc import Sequence

from isogloss.dictionaries import WiredColumns, Wiring


class SideBySide(Wiring):
    """All sites in, all sites out: what a crosscoder reads and writes."""

    def connect(self, widths: Sequence[int]) -> WiredColumns:
        return WiredColumns(reads=range(sum(widths)), writes=range(sum(widths)))


class OneToAnother(Wiring):
    """The first site in, the second out: what a transcoder reads and writes."""

    def connect(self, widths: Sequence[int]) -> WiredColumns:
        first, second = widths
        return WiredColumns(reads=range(first), writes=range(first, first + second))
