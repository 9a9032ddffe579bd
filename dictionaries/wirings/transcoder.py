"""The transcoder: one site in, another one out (Dunefsky et al. 2024, arXiv 2406.11944)."""

from collections.abc import Sequence
from dataclasses import dataclass

from isogloss.dictionaries.wirings.wiring import WiredColumns, Wiring
from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcoder(Wiring):
    """The first site in, the second out, such as the input and the output of an MLP.

    ``z = act((x - c) W_e^T + b_e)`` and ``y_hat = z W_d + b_d`` with x the rows of the first site,
    c their mean, a constant, and the loss of the kind for y, the rows of the second. With ``skip``,
    ``y_hat = z W_d + b_d + (x - c) S^T`` (Paulo et al. 2025, arXiv 2501.18823): S starts at 0 and
    is trained with the features, by Adam on the gradient of the kind's squared error.
    """

    skip: bool = False
    """Whether a linear map of the rows read is trained beside the features."""

    def connect(self, widths: Sequence[int]) -> WiredColumns:
        """Connect the first site to the second.

        Raises:
            InvalidInput: there are not exactly two sites.
        """
        if len(widths) != 2:
            raise InvalidInput(
                f"a transcoder was given {len(widths)} sites; it takes exactly 2: the one to read, "
                "then the one to reconstruct"
            )
        first, second = widths
        return WiredColumns(reads=range(first), writes=range(first, first + second), skip=self.skip)
