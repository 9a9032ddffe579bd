"""Which features fire on the second copy of a text and not on the first."""

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom
from torch import Tensor

from isogloss.dictionaries.effects.firings import content_start, find_firings, site_of
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, repeated_ids


@dataclass(frozen=True, kw_only=True)
class RepeatFeature:
    """A feature on tokens that stand in a text twice."""

    feature: int
    """Its number."""
    first: float
    """Share of the tokens on whose first copy it fires."""
    second: float
    """Share on whose second copy it does."""
    p: float
    """Chance of so many more on the second copy if either were as likely: of the tokens on which
    it fires on one copy alone a one-sided sign test (McNemar's), times the number of features."""


def repeat_features(
    dictionary: DictionaryModule,
    model: LoadedModel,
    ids: Tensor | None = None,
    *,
    site: str | None = None,
    allow: Collection[str] = (),
) -> list[RepeatFeature]:
    """Compare features on the second copy of random tokens with the first: induction's features.

    Each token is compared with itself, so that a feature of the token fires on both. The first
    copy of a text's first token is left out.

    Args:
        dictionary: of one site.
        model: the model that it was trained on.
        ids: texts whose tokens repeat, ``[texts, tokens]``; None: 16 of
            :func:`isogloss.models.repeated_ids`.
        site: where; None: where the dictionary was trained.
        allow: parts of the passport that may differ.

    Returns:
        The features that fire, the greatest difference first.

    Raises:
        InvalidInput: no text repeats, or the dictionary is of several sites.
        PassportRefused: the model or site is another than in training.
    """
    texts = repeated_ids(model, sequences=16) if ids is None else ids
    path, skipped = site_of(dictionary, model, site), content_start(model, texts)
    dictionary.check(model.module, path).require(allow)
    first, second = _copies(texts.cpu().numpy(), skipped)
    if not len(first):
        raise InvalidInput("no text repeats whole; give such as isogloss.models.repeated_ids makes")
    found = find_firings(dictionary, model, texts, site=path, allow=allow)
    width = texts.shape[1]
    fires = np.zeros((found.features, texts.shape[0] * width), dtype=np.bool_)
    fires[found.feature, found.text * width + found.position] = True
    one, two = fires[:, first], fires[:, second]
    more, less = (two & ~one).sum(1), (one & ~two).sum(1)
    chance = binom.sf(more - 1, more + less, 0.5) * found.features
    rates = [
        RepeatFeature(
            feature=int(i),
            first=float(one[i].mean()),
            second=float(two[i].mean()),
            p=min(1.0, float(chance[i])),
        )
        for i in np.flatnonzero(one.any(1) | two.any(1))
    ]
    return sorted(rates, key=lambda rate: rate.first - rate.second)


def _copies(ids: NDArray[np.int64], skipped: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the places of first and second copies in the flattened texts, pairwise."""
    first: list[int] = []
    second: list[int] = []
    for number, row in enumerate(ids):
        inside, start = row[skipped:], number * ids.shape[1] + skipped
        spans = range(2, len(inside) // 2 + 1)
        period = next((n for n in spans if np.array_equal(inside[n:], inside[:-n])), None)
        if period is not None:
            first += range(start + 1, start + period)
            second += range(start + period + 1, start + 2 * period)
    return np.array(first, dtype=np.int64), np.array(second, dtype=np.int64)
