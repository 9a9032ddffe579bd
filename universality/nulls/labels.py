"""What a tested label can say of a pair: yes, no, or that the text at hand cannot tell."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

LabelName = Literal["no", "yes", "undecided"]

LABELS: tuple[LabelName, ...] = ("no", "yes", "undecided")
"""Labels by their number in a column."""

NO, YES, UNDECIDED = (np.int8(number) for number in range(3))


def labelled(
    passes: NDArray[np.bool_], enough: NDArray[np.bool_], decisive: NDArray[np.bool_]
) -> NDArray[np.int8]:
    """Return the label of each pair.

    Args:
        passes: the pair passes every condition of the rule, ``[pairs]``.
        enough: it fires often enough for a yes to be trusted, ``[pairs]``.
        decisive: it fires so often that a failure says something, ``[pairs]``.

    Returns:
        ``[pairs]``, numbers of ``LABELS``.
    """
    return np.where(passes & enough, YES, np.where(decisive & ~passes, NO, UNDECIDED))


def label_names(numbers: NDArray[np.int8]) -> list[LabelName]:
    """Return the labels that numbers stand for, ``[pairs]``."""
    return [LABELS[number] for number in numbers.tolist()]
