"""Which next tokens a feature promotes and suppresses, kept beside its dictionary."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from isogloss.dictionaries.effects.firings import find_firings
from isogloss.dictionaries.effects.shifts import shifts
from isogloss.dictionaries.files import read_json, write_json
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import CorruptData, InvalidInput
from isogloss.models import LoadedModel, token_name

FORMAT, VERSION = "isogloss-token-effects", 1
TOKEN_EFFECTS_FILE = "token-effects.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEffect:
    """One token whose probability a feature changes."""

    token: str
    """As the vocabulary has it."""
    token_id: int
    """Its id."""
    change: float
    """Of its log probability, mean over the texts' tokens, in nats."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenEffects:
    """The tokens that a feature promotes and suppresses most."""

    feature: int
    """Its number."""
    promoted: tuple[TokenEffect, ...]
    """Measured at the dictionary's site, most promoted first."""
    suppressed: tuple[TokenEffect, ...]
    """Most suppressed first."""
    direct_promoted: tuple[TokenEffect, ...]
    """Directly through the last norm and the unembedding."""
    direct_suppressed: tuple[TokenEffect, ...]
    """Directly, most suppressed first."""
    agreement: float
    """Pearson correlation of measured and direct changes over all tokens; 0 where all are one."""


_LISTS = ("promoted", "suppressed", "direct_promoted", "direct_suppressed")


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
        InvalidInput: there is no such feature, a setting is not above 0, or the model gives no
            logits.
        PassportRefused: the model or site is another than in training.
    """
    if count < 1 or not strength > 0:
        raise InvalidInput(f"count {count} and strength {strength}; wanted above 0")
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


def write_token_effects(effects: Sequence[TokenEffects], directory: str | Path) -> Path:
    """Write effects beside a saved dictionary, in place of those that were there.

    Args:
        effects: of its features.
        directory: of the dictionary.
    """
    path = Path(directory) / TOKEN_EFFECTS_FILE
    made = [
        {"feature": one.feature, "agreement": one.agreement}
        | {
            name: [[each.token, each.token_id, each.change] for each in getattr(one, name)]
            for name in _LISTS
        }
        for one in effects
    ]
    write_json(path, {"format": FORMAT, "version": VERSION, "effects": made})
    return path


def read_token_effects(directory: str | Path) -> dict[int, TokenEffects]:
    """Read the effects that stand beside a saved dictionary, by feature; none: an empty mapping.

    Args:
        directory: of the dictionary.

    Raises:
        CorruptData: the file holds no such effects.
    """
    path = Path(directory) / TOKEN_EFFECTS_FILE
    if not path.exists():
        return {}
    found = read_json(path)
    if found.get("format") != FORMAT or found.get("version") != VERSION:
        raise CorruptData(f"{path} is no {FORMAT} of version {VERSION}; measure the effects again")
    try:
        effects = [_read(one) for one in cast("list[dict[str, object]]", found["effects"])]
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptData(f"{path} does not hold effects ({error}); measure them again") from error
    return {one.feature: one for one in effects}


def _read(one: dict[str, object]) -> TokenEffects:
    lists = {
        name: tuple(
            TokenEffect(token=str(token), token_id=int(number), change=float(change))
            for token, number, change in cast("list[tuple[str, int, float]]", one[name])
        )
        for name in _LISTS
    }
    return TokenEffects(
        feature=int(cast("int", one["feature"])),
        agreement=float(cast("float", one["agreement"])),
        promoted=lists["promoted"],
        suppressed=lists["suppressed"],
        direct_promoted=lists["direct_promoted"],
        direct_suppressed=lists["direct_suppressed"],
    )


def _top(model: LoadedModel, change: Tensor, count: int, *, up: bool) -> tuple[TokenEffect, ...]:
    values, at = change.topk(min(count, len(change)), largest=up)
    return tuple(
        TokenEffect(token=token_name(model, token), token_id=token, change=value)
        for token, value in zip(at.tolist(), values.tolist(), strict=True)
    )
