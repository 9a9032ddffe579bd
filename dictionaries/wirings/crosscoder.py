"""The crosscoder: several sites in, the same sites out (Lindsey et al., Anthropic, Oct. 2024)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta

from isogloss.dictionaries.wirings.wiring import WiredColumns, Wiring
from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Crosscoder(Wiring):
    """All sites in, all sites out: layers of one model, or sites of several models.

    With x^m the rows of site m, each scaled to a total variance of its width: ``z = act(sum_m (x^m
    - b_d^m) W_e^m^T + b_e)`` and ``x_hat^m = z W_d^m + b_d^m``; the loss is that of the kind for
    all sites together, ``sum_m |x_hat^m - x^m|^2``. So it is an autoencoder whose width is the sum
    of the widths, and where a kind keeps decoder rows at norm 1, that is the norm over all sites:
    the norm of one site's part says how much of the feature is there.

    With ``dedicated``, that share of the features belongs to each site alone: they read and write
    no other, and their other weights are 0 from the first step to the last (dedicated feature
    crosscoder, Jiralerspong and Bricken 2026, arXiv 2602.11729). ``feature_owners`` says which.
    """

    dedicated: Annotated[float, Meta(ge=0, lt=0.5)] = 0.0
    """Share of the features that each site has for itself; the rest is shared by all sites."""

    def connect(self, widths: Sequence[int]) -> WiredColumns:
        """Connect all sites to themselves.

        Raises:
            InvalidInput: there are fewer than two sites, or no feature is left to be shared.
        """
        if len(widths) < 2:
            raise InvalidInput(
                f"a crosscoder was given {len(widths)} sites; it takes at least 2: choose the "
                "wiring sae for one"
            )
        if self.dedicated * len(widths) >= 1:
            raise InvalidInput(
                f"dedicated is {self.dedicated:g} for each of {len(widths)} sites, which leaves no "
                f"feature to share; wanted less than {1 / len(widths):g}"
            )
        every = range(sum(widths))
        shares = (self.dedicated,) * len(widths) if self.dedicated else ()
        return WiredColumns(reads=every, writes=every, dedicated=shares)


def feature_owners(features: int, shares: Sequence[float]) -> list[int]:
    """Return for each feature the number of the site that it belongs to, -1 where all share it.

    The features of a site are spread evenly, so that every prefix of the features has its part.

    Args:
        features: number of features.
        shares: share of the features of each site, in the order of the sites.

    Returns:
        As many numbers as there are features.
    """
    wanted = [*shares, 1 - sum(shares)]
    given = [0] * len(wanted)
    owners: list[int] = []
    for feature in range(features):
        behind = [share * (feature + 1) - done for share, done in zip(wanted, given, strict=True)]
        owner = max(range(len(wanted)), key=lambda place: (behind[place], place))
        given[owner] += 1
        owners.append(owner if owner < len(shares) else -1)
    return owners
