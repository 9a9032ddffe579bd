"""Reasons to doubt a match, found from the numbers and said in plain sentences."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr
from isogloss.universality.matching.pairs import Pairs
from isogloss.universality.nulls.intervals import LEAST_SOURCES
from isogloss.universality.probe.repeated import RUN

CODES = (
    "SHARED_INIT",
    "SHARED_ANCESTRY",
    "FOREIGN_CODES",
    "TOKEN_DRIVEN",
    "PARTLY_TOKEN",
    "POSITIONAL",
    "FEW_FIRINGS",
    "FEW_PAIRS",
    "SMALL_PROBE",
    "REPEATED_TEXT",
    "RARE_TOKENS",
    "FOLDED_CASE",
)
"""Every code a caution can have."""

SHARED_R = 0.3
"""Pairs with at least this r on the report half are what cautions about pairs look at."""

_MANY = 0.5
_HARDLY_ANY = 0.05
_TOKEN_BIAS = 0.1
_REPEATED = 0.1
_POSITIONAL_SHARE = 0.1
_FEW_FIRINGS = 50
_FEW_PAIRS = 20


@dataclass(frozen=True, kw_only=True)
class Caution:
    """One reason to doubt a match."""

    code: str
    """Kind of the reason: one of ``CODES``."""
    message: str
    """A sentence or two that say what was found and what it means."""
    value: float
    """The number that raised it."""

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.code not in CODES:
            raise InvalidInput(f"unknown caution {self.code!r}; use one of {', '.join(CODES)}")

    def to_dict(self) -> dict[str, str | float]:
        """Return the caution as JSON values."""
        return {"code": self.code, "message": self.message, "value": self.value}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Caution":
        """Rebuild from ``to_dict``."""
        return cls(
            code=str(values["code"]),
            message=str(values["message"]),
            value=float(str(values["value"])),
        )


def shared_ancestry(*, related: bool, similarity: float, why: str) -> Caution | None:
    """Return a caution when the two models are related, such as by fine-tuning or distillation.

    Args:
        related: whether ``models.relatedness`` found the models related.
        similarity: the similarity that it measured.
        why: the reason that it gave.

    Returns:
        A caution, or None when the models are not related.
    """
    if not related:
        return None
    return Caution(
        code="SHARED_ANCESTRY",
        message=(
            f"The two models are related ({why}; similarity {similarity:.2f}). Features they share "
            "may be inherited, not found independently."
        ),
        value=similarity,
    )


def foreign_codes(imported: Sequence[str], unknown_models: Sequence[str]) -> Caution | None:
    """Return a caution when a dictionary was imported as codes that another tool computed.

    Args:
        imported: ids of the dictionaries of which there are codes only.
        unknown_models: those of them whose model was not recorded.

    Returns:
        A caution that says what could not be checked; None where nothing was imported.
    """
    if not imported:
        return None
    unknown = (
        f" The model of {', '.join(unknown_models)} was not recorded, so shared ancestry cannot be "
        "seen."
        if unknown_models
        else ""
    )
    return Caution(
        code="FOREIGN_CODES",
        message=(
            f"{', '.join(imported)}: imported as codes that another tool computed. Whether the "
            "dictionary was trained on documents of this probe, and from which start, cannot be "
            f"checked.{unknown}"
        ),
        value=float(len(imported)),
    )


@dataclass(frozen=True, kw_only=True)
class ProbeFacts:
    """What cautions ask of the probe; pairs of counts are of the choose and the report half."""

    documents: tuple[int, int]
    """Documents."""
    sources: tuple[int, int]
    """Sources of those documents."""
    token_bias: float
    """``Strata.bias`` of the tokens: what plain shares explained would be off by."""
    repeated: float = 0.0
    """``repeated_share`` of the report half."""
    is_folded: bool = False
    """Tokens were to be told by their exact text, and the probe knows them folded only."""


def pair_cautions(pairs: Pairs, facts: ProbeFacts, *, min_fires: int) -> tuple[Caution, ...]:
    """Return the reasons to doubt a match that can be seen in its pairs and its probe.

    Args:
        pairs: the mutual pairs.
        facts: of the probe.
        min_fires: how often a feature must fire on the half that chooses pairs, to be compared.

    Returns:
        The cautions raised, in the order of ``CODES``.
    """
    shared = pairs.take(np.flatnonzero(pairs.r >= SHARED_R))
    found = [
        _token_driven(shared),
        _positional(shared),
        _few_firings(shared, min_fires),
        _few_pairs(shared),
        _few_sources(facts),
        _repeated_text(facts),
        _lone_tokens(facts, shared),
        _folded_case(facts),
    ]
    return tuple(caution for caution in found if caution is not None)


def _token_driven(shared: Pairs) -> Caution | None:
    """Say how many pairs are beyond their token, where that may be fewer than half."""
    beyond = int(shared.beyond_token_is("yes").sum())
    decided = beyond + int(shared.beyond_token_is("no").sum())
    if not decided:
        return None
    low, high = share_interval(beyond, decided)
    if low >= _MANY:
        return None
    nearly_all = beyond == 0 or high <= _HARDLY_ANY
    known = np.isfinite(shared.token_null)
    half = int((shared.token_null >= shared.r / 2).sum())
    of_half = share_interval(half, int(known.sum()))
    meaning = (
        "What is shared is which word stands there, as far as can be told."
        if nearly_all
        else "Much of what is shared is which word stands there, but not all."
    )
    return Caution(
        code="TOKEN_DRIVEN" if nearly_all else "PARTLY_TOKEN",
        message=(
            f"Of the {decided} pairs with r >= {SHARED_R} that could be tested, "
            f"{beyond / decided:.1%} ({low:.1%} to {high:.1%}) share more than their token; "
            f"{len(shared) - decided} are undecided. The token alone gives at least half of r in "
            f"{half / max(int(known.sum()), 1):.0%} ({of_half[0]:.0%} to {of_half[1]:.0%}) of "
            f"{int(known.sum())}. {meaning}"
        ),
        value=1 - beyond / decided,
    )


def share_interval(count: int, of: int) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson, 1927); from 0 to 1 for a share of none."""
    if not of:
        return 0.0, 1.0
    found = binomtest(count, of).proportion_ci(method="wilson")
    return float(found.low), float(found.high)


def _positional(shared: Pairs) -> Caution | None:
    if not len(shared):
        return None
    share = float((shared.positional | (shared.position_null >= shared.r / 2)).mean())
    if share < _POSITIONAL_SHARE:
        return None
    return Caution(
        code="POSITIONAL",
        message=(
            f"For {share:.0%} of the {len(shared)} pairs with r >= {SHARED_R} the position in the "
            "document gives at least half of r, or all that lies beyond the token: features of "
            "first words and the like."
        ),
        value=share,
    )


def _few_firings(shared: Pairs, min_fires: int) -> Caution | None:
    if not len(shared):
        return None
    least = max(min_fires, _FEW_FIRINGS)
    share = float((np.minimum(shared.fires_a, shared.fires_b) < least).mean())
    if share < _MANY:
        return None
    return Caution(
        code="FEW_FIRINGS",
        message=(
            f"In {share:.0%} of the {len(shared)} pairs with r >= {SHARED_R} a feature fires on "
            f"fewer than {least} segments of the report half: their correlations are uncertain. "
            "Use a larger probe."
        ),
        value=share,
    )


def _few_pairs(shared: Pairs) -> Caution | None:
    if len(shared) >= _FEW_PAIRS:
        return None
    return Caution(
        code="FEW_PAIRS",
        message=(
            f"Only {len(shared)} pairs reach r >= {SHARED_R}; shares and medians over fewer than "
            f"{_FEW_PAIRS} pairs say little."
        ),
        value=float(len(shared)),
    )


def _few_sources(facts: ProbeFacts) -> Caution | None:
    sources = facts.sources[1]
    if sources >= LEAST_SOURCES:
        return None
    return Caution(
        code="SMALL_PROBE",
        message=(
            f"The report half has {sources} sources of text ({facts.documents[1]} documents); "
            f"fewer than {LEAST_SOURCES} do not show how much sources differ. So no pair has an "
            "interval, and none is said to replicate or to share more than its token. Record text "
            "of more sources, or tell sources apart by the documents' group."
        ),
        value=float(sources),
    )


def _repeated_text(facts: ProbeFacts) -> Caution | None:
    if facts.repeated < _REPEATED:
        return None
    return Caution(
        code="REPEATED_TEXT",
        message=(
            f"{facts.repeated:.0%} of the segments of the report half stand in a run of {RUN} that "
            "another source has, too. Models do there what they did before, so sources depend on "
            "one another: intervals are too narrow, and labels say yes too often. Leave copies "
            "out, or give them one group."
        ),
        value=facts.repeated,
    )


def _lone_tokens(facts: ProbeFacts, shared: Pairs) -> Caution | None:
    if facts.token_bias < _TOKEN_BIAS:
        return None
    unknown = int(np.isnan(shared.token_null).sum())
    return Caution(
        code="RARE_TOKENS",
        message=(
            f"Many tokens stand in few segments: of any feature's variance they would explain "
            f"{facts.token_bias:.0%} by chance. That is taken off, and {unknown} of the "
            f"{len(shared)} pairs with r >= {SHARED_R}, whose tokens hardly recur, have no token "
            "null. A larger probe decides more."
        ),
        value=facts.token_bias,
    )


def _folded_case(facts: ProbeFacts) -> Caution | None:
    if not facts.is_folded:
        return None
    return Caution(
        code="FOLDED_CASE",
        message=(
            'The probe is of an earlier version and takes "The" and "the" for one token: telling '
            "them apart looks like more than the token. Make the probe again, or ask for the "
            "surface 'folded'."
        ),
        value=1.0,
    )
