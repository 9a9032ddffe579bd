"""The sparse autoencoder: one site in, the same site out."""

from collections.abc import Sequence
from dataclasses import dataclass

from isogloss.dictionaries.wirings.wiring import WiredColumns, Wiring
from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Sae(Wiring):
    """One site in, the same site out."""

    def connect(self, widths: Sequence[int]) -> WiredColumns:
        """Connect the one site to itself.

        Raises:
            InvalidInput: there is not exactly one site.
        """
        if len(widths) != 1:
            raise InvalidInput(
                f"an autoencoder was given {len(widths)} sites; it reads exactly 1: choose the "
                "wiring transcoder or crosscoder for more"
            )
        return WiredColumns(reads=range(widths[0]), writes=range(widths[0]))
