"""How much of a planted truth a dictionary found: directions, and the rows on which they fire."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from isogloss.dictionaries.dictionary import Dictionary
from isogloss.dictionaries.experiments.superposition import BLOCK_ROWS, Superposition
from isogloss.errors import ShapeError

FOUND = 0.9
"""Cosine above which a planted direction is found."""
_HELD_OUT = 2**40
"""Number of the first block that is scored: no training comes so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recovery:
    """Scores of a dictionary against planted features, each 1 at best.

    Planted features and features of the dictionary are matched one to one, so that the sum of the
    cosines of their directions is greatest. A planted feature without a partner scores 0 in all.
    """

    recovered: float
    """Share of the planted features whose partner's direction has a cosine above 0.9 to theirs."""
    mcc: float
    """Mean over planted features of that cosine (the mean correlation coefficient)."""
    precision: float
    """Mean over planted features: of the rows on which the partner fires, the share on which the
    planted one does; 0 where the partner never fires."""
    recall: float
    """Mean over planted features that fire: of the rows on which the planted one fires, the share
    on which the partner does."""
    f1: float
    """Mean over planted features that fire of ``2 p r / (p + r)``, p and r their own precision and
    recall; not that of the means."""
    l0: float
    """Features of the dictionary that fire on a row."""

    def to_dict(self) -> dict[str, float]:
        """Return the scores by name."""
        return {
            "recovered": self.recovered,
            "mcc": self.mcc,
            "precision": self.precision,
            "recall": self.recall,
            "f1": self.f1,
            "l0": self.l0,
        }


def score_recovery(dictionary: Dictionary, planted: Superposition, *, blocks: int = 8) -> Recovery:
    """Score a dictionary that was trained on planted rows, on rows that it was not trained on.

    Args:
        dictionary: of the planted width.
        planted: what the rows were made of.
        blocks: how many blocks of 4,096 rows are encoded.

    Raises:
        ShapeError: the dictionary is of another width.
    """
    directions = planted.directions()
    decoder = dictionary.decoder.detach().cpu().to(torch.float64).numpy()
    if decoder.shape[1] != planted.width:
        raise ShapeError(f"the dictionary's width is {decoder.shape[1]}; wanted {planted.width}")
    norms = np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-300)
    cosines = directions.astype(np.float64) @ (decoder / norms).T
    true, own = linear_sum_assignment(cosines, maximize=True)
    cosine = np.zeros(planted.features)
    cosine[true] = cosines[true, own]
    counts, fires = np.zeros((3, planted.features)), 0.0
    for number in range(blocks):
        rows, present = planted.block(_HELD_OUT + number)
        active = _active(dictionary, rows)
        fires += float(active.sum())
        partner = np.zeros_like(present)
        partner[:, true] = active[:, own]
        both = (partner & present).sum(0)
        counts += np.stack([both, partner.sum(0), present.sum(0)])
    both, partner, present = counts
    precision = both / np.maximum(partner, 1)
    recall = both / np.maximum(present, 1)
    f1 = 2 * both / np.maximum(partner + present, 1)  # 2 p r / (p + r), where either is 0 too
    seen = present > 0
    return Recovery(
        recovered=float((cosine > FOUND).mean()),
        mcc=float(cosine.mean()),
        precision=float(precision.mean()),
        recall=float(recall[seen].mean()),
        f1=float(f1[seen].mean()),
        l0=fires / (blocks * BLOCK_ROWS),
    )


def _active(dictionary: Dictionary, rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which features fire on rows, ``[rows, features]``."""
    codes = dictionary.encode(torch.from_numpy(rows)).to_fixed()
    number, place = np.nonzero(codes.values.cpu().numpy() > 0)
    found = np.zeros((len(rows), dictionary.features), dtype=np.bool_)
    found[number, codes.indices.cpu().numpy()[number, place]] = True
    return found
