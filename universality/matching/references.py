"""What a match is read beside: ceilings and floors, each a match on the same probe.

A ceiling matches a model with itself (two dictionaries of one site, trained from different seeds):
more than that cannot be expected of two models. A floor matches with a dictionary that has nothing
to share: an untrained one, one of a model with random weights, one that reads rotated rows, or a
control of which a part was held to its start. What it finds is found anyway.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isogloss.errors import InvalidInput
from isogloss.universality.matching.result import Match

Role = Literal["ceiling", "floor"]

_COMMON = ("min_fires", "min_r", "replicates_low", "surface", "confidence")
"""Settings that change what the numbers mean; others (draws, seeds) change how well they are known.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """A match whose numbers stand beside those of another."""

    role: Role
    """``ceiling`` or ``floor``."""
    name: str
    """Id of the match."""
    what: str
    """What it is, for people, such as ``rotated rows of b``."""
    match: Match
    """The match."""


def check_references(match: Match, references: Sequence[Reference]) -> None:
    """Raise an error for references whose numbers cannot stand beside those of a match.

    Args:
        match: the match.
        references: ceilings and floors of it.

    Raises:
        InvalidInput: a reference is on another probe, of other settings, or of neither dictionary.
    """
    own = {match.a.dictionary, match.b.dictionary}
    for one in references:
        other = one.match
        if other.on.probe != match.on.probe:
            raise InvalidInput(
                f"{one.role} {one.name!r} is on probe {other.on.probe!r}, the match on "
                f"{match.on.probe!r}: match its dictionaries on that probe"
            )
        differing = [
            name
            for name in _COMMON
            if getattr(other.settings, name) != getattr(match.settings, name)
        ]
        if differing:
            found = ", ".join(f"{name} {getattr(other.settings, name)}" for name in differing)
            wanted = ", ".join(f"{name} {getattr(match.settings, name)}" for name in differing)
            raise InvalidInput(
                f"{one.role} {one.name!r} has {found}, the match {wanted}: match its dictionaries "
                "with the same settings"
            )
        sides = {other.a.dictionary, other.b.dictionary}
        if len(sides & own) != 1:
            raise InvalidInput(
                f"{one.role} {one.name!r} is of {' and '.join(sorted(sides))}: wanted exactly one "
                f"of {' and '.join(sorted(own))} in it"
            )
