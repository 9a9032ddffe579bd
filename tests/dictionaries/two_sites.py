"""Wirings of two sites, for test_train.py."""

from collections.abc import Sequence

from isogloss.dictionaries import Connection, Wiring


class SideBySide(Wiring):
    """All sites in, all sites out: what a crosscoder reads and writes."""

    def connect(self, widths: Sequence[int]) -> Connection:
        return Connection(reads=range(sum(widths)), writes=range(sum(widths)))


class OneToAnother(Wiring):
    """The first site in, the second out: what a transcoder reads and writes."""

    def connect(self, widths: Sequence[int]) -> Connection:
        first, second = widths
        return Connection(reads=range(first), writes=range(first, first + second))
