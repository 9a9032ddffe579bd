"""Which next tokens a feature promotes and suppresses: measured, and directly."""

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from isogloss.dictionaries.effects.firings import find_firings
from isogloss.dictionaries.effects.shifts import check_features, shifts
from isogloss.dictionaries.effects.token_lists import TokenEffect, TokenEffects
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, token_name


def token_effects(
    dictionary: DictionaryModule,
    model: LoadedModel,
    ids: Tensor,
    features: Sequence[int],
    *,
    count: int = 10,
    strength: float = 0.5,
    site: str | None = None,
    allow: Collection[str] = (),
) -> list[TokenEffects]:
    """Find the tokens that features promote and suppress: two passes of all texts for each.

    Args:
        dictionary: of one site.
        model: a causal language model.
        ids: texts, such as of :func:`isogloss.models.token_windows`, ``[texts, tokens]``.
        features: numbers of features.
        count: tokens of each list.
        strength: norm of what is added, as a share of the median norm of the site's rows.
        site: where; None: where the dictionary was trained.
        allow: parts of the passport that may differ.

    Raises:
        InvalidInput: there is no such feature, one is named twice, a setting is not above 0, or
            the model gives no logits.
        PassportRefused: the model or site is another than in training.
    """
    if count < 1 or not 0 < strength < math.inf:
        raise InvalidInput(f"count {count} and strength {strength}; wanted above 0, and finite")
    check_features(dictionary, features)
    norm = strength * find_firings(dictionary, model, ids[:8], site=site, allow=allow).norm
    measured, direct = (
        shifts(dictionary, model, ids, features, norm=norm, site=site, direct=way, allow=allow)
        for way in (False, True)
    )
    found: list[TokenEffects] = []
    for feature, own, through in zip(features, measured, direct, strict=True):
        found.append(
            TokenEffects(
                feature=feature,
                promoted=_top(model, own, count, up=True),
                suppressed=_top(model, own, count, up=False),
                direct_promoted=_top(model, through, count, up=True),
                direct_suppressed=_top(model, through, count, up=False),
                agreement=float(
                    torch.corrcoef(torch.stack([own, through]).double())[0, 1].nan_to_num()
                ),
            )
        )
    return found


def _top(model: LoadedModel, change: Tensor, count: int, *, up: bool) -> tuple[TokenEffect, ...]:
    values, at = change.topk(min(count, len(change)), largest=up)
    return tuple(
        TokenEffect(token=token_name(model, token), token_id=token, change=value)
        for token, value in zip(at.tolist(), values.tolist(), strict=True)
    )
