"""What changing a feature does to the next token, beside like features changed alike."""

import math
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from isogloss.dictionaries.effects.firings import Firings, alike, find_firings, site_of
from isogloss.dictionaries.effects.shifts import adder, check_features, decoder_of
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import (
    LoadedModel,
    evaluating,
    next_logits,
    permutation_p,
    splice,
    table_size,
    unwrapped,
)

FeatureChange = Literal["ablate", "clamp", "steer"]
CHANGES: tuple[FeatureChange, ...] = ("ablate", "clamp", "steer")


@dataclass(frozen=True, kw_only=True)
class FeatureEffect:
    """What changing one feature at every token does, means over the texts' tokens."""

    feature: int
    """Its number."""
    change: FeatureChange
    """What was done."""
    firings: int
    """On how many tokens of the texts it fires."""
    value: float
    """The activation that it was set to, or that was added; 0: ablated."""
    kl: float
    """From the next tokens before to those after, in nats; NaN where one is ablated that never
    fires: nothing was changed, so that nothing was measured."""
    loss: float
    """Rise of the loss on the texts' own next tokens, in nats a token; NaN as the KL."""
    logits: tuple[float, ...]
    """Rise of the chosen tokens' logits, less the mean of all."""
    null_kl: tuple[float, ...]
    """KL of like features changed alike; none where nothing was measured."""
    null_loss: tuple[float, ...]
    """Rises of their loss."""
    p_kl: float
    """Chance that a like feature has as great a KL: ``(1 + n) / (1 + all)``; NaN as the KL."""
    p_loss: float
    """Chance that a like feature changes the loss as much, either way; NaN as the KL."""


def check_change(change: str) -> FeatureChange:
    """Return a change of features, or refuse one that there is not.

    Args:
        change: its name.

    Raises:
        InvalidInput: there is none of that name.
    """
    if change not in CHANGES:
        raise InvalidInput(f"change is {change!r}; wanted one of {', '.join(CHANGES)}")
    return change


def feature_effect(
    dictionary: DictionaryModule,
    model: LoadedModel,
    ids: Tensor,
    feature: int,
    change: FeatureChange = "ablate",
    *,
    value: float | None = None,
    tokens: Sequence[int] = (),
    count: int = 20,
    seed: int = 0,
    site: str | None = None,
    allow: Collection[str] = (),
) -> FeatureEffect:
    """Change one feature, and like ones, at every token of some texts: one pass of them for each.

    Like features fire about as often and write about as much (:func:`alike`); what is set or added
    is scaled to equal length.

    Args:
        dictionary: of one site.
        model: a causal language model.
        ids: texts, such as of :func:`isogloss.models.token_windows`, ``[texts, tokens]``.
        feature: its number.
        change: ``ablate`` sets it to 0, ``clamp`` to a value, ``steer`` adds a value times its
            direction.
        value: of ``clamp`` and ``steer``; None: four times its mean activation where it fires.
        tokens: ids of tokens whose logits are asked for.
        count: like features.
        seed: of their draw.
        site: where; None: where the dictionary was trained.
        allow: parts of the passport that may differ.

    Raises:
        InvalidInput: there is no such feature, change or token, or the feature never fires and no
            value is given.
        PassportRefused: the model or site is another than in training.
    """
    check_features(dictionary, [feature])
    _check(model, change, value, tokens, count)
    found = find_firings(dictionary, model, ids, site=site, allow=allow)
    if change == "ablate" and not found.counts()[feature]:
        return _nothing_to_ablate(feature, len(tokens))
    value = _value(found, feature, change, value)
    edits = _Edits(dictionary, model, site_of(dictionary, model, site), change, allow)
    norms = decoder_of(dictionary, ids).norm(dim=1).double().cpu().numpy()
    others = alike(found, norms, feature, count, seed)
    if not len(others):
        raise InvalidInput("no other feature fires on these texts; give more of them")
    before = _logits(model, found)
    _check_known(tokens, before.shape[-1])
    own, *null = [
        _measured(model, found, before, edits.of(int(one), value, norms[feature] / norms[one]))
        for one in (feature, *others)
    ]
    rises = tuple(float(own[2][token]) for token in tokens)
    beside = [one[:2] for one in null]
    return _beside(feature, change, int(found.counts()[feature]), value, own[:2], rises, beside)


def _check(
    model: LoadedModel,
    change: FeatureChange,
    value: float | None,
    tokens: Sequence[int],
    count: int,
) -> None:
    """Refuse settings that cannot be used, before any pass."""
    if change not in CHANGES or count < 1 or (change == "ablate" and value is not None):
        raise InvalidInput(
            f"change {change!r}, value {value} and {count} like features; wanted one of "
            f"{', '.join(CHANGES)}, a value with clamp or steer alone, and 1 feature at least"
        )
    if value is not None and not math.isfinite(value):
        raise InvalidInput(f"value is {value}; wanted a finite number")
    known = table_size(model)
    if known is not None:
        _check_known(tokens, known)


def _check_known(tokens: Sequence[int], known: int) -> None:
    """Refuse tokens that a model of so many does not know."""
    if odd := [one for one in tokens if not 0 <= one < known]:
        raise InvalidInput(f"tokens {odd}: the model knows 0 to {known - 1}")


def _nothing_to_ablate(feature: int, tokens: int) -> FeatureEffect:
    """Return the effect of ablating a feature that never fires: none was measured."""
    return FeatureEffect(
        feature=feature,
        change="ablate",
        firings=0,
        value=0.0,
        kl=math.nan,
        loss=math.nan,
        logits=(math.nan,) * tokens,
        null_kl=(),
        null_loss=(),
        p_kl=math.nan,
        p_loss=math.nan,
    )


def _beside(
    feature: int,
    change: FeatureChange,
    firings: int,
    value: float | None,
    own: tuple[float, float],
    logits: tuple[float, ...],
    null: Sequence[tuple[float, float]],
) -> FeatureEffect:
    """Put a feature's KL and loss beside those of like ones."""
    null_kl, null_loss = tuple(one[0] for one in null), tuple(one[1] for one in null)
    return FeatureEffect(
        feature=feature,
        change=change,
        firings=firings,
        value=value or 0.0,
        kl=own[0],
        loss=own[1],
        logits=logits,
        null_kl=null_kl,
        null_loss=null_loss,
        p_kl=permutation_p(own[0], null_kl),
        p_loss=permutation_p(abs(own[1]), [*map(abs, null_loss)]),
    )


def _value(
    found: Firings, feature: int, change: FeatureChange, value: float | None
) -> float | None:
    """Return the value that is set or added; None: the feature is ablated."""
    if value is not None or change == "ablate":
        return value
    if not (mean := float(found.means()[feature])):
        raise InvalidInput(
            f"feature {feature} does not fire on these texts, so that four times its mean is "
            "nothing; give value= (--value), or texts on which it fires"
        )
    return 4 * mean


class _Edits:
    """Changes a feature while a context is entered."""

    def __init__(
        self,
        dictionary: DictionaryModule,
        model: LoadedModel,
        site: str,
        change: FeatureChange,
        allow: Collection[str],
    ) -> None:
        self._dictionary, self._model, self._site = dictionary, model, site
        self._change, self._allow = change, allow

    def of(self, feature: int, value: float | None, scale: float) -> AbstractContextManager[object]:
        if self._change == "ablate" or value is None:
            return self._dictionary.spliced(
                self._model.module, self._site, ablate=[feature], allow=self._allow
            )
        value *= scale
        if self._change == "clamp":
            return self._dictionary.spliced(
                self._model.module, self._site, steer={feature: value}, allow=self._allow
            )
        row = value * self._dictionary.directions(torch.tensor([feature]))[0].detach()
        return splice(unwrapped(self._model.module), {self._site: adder(row)})


def _logits(model: LoadedModel, found: Firings) -> Tensor:
    """Return the logits behind each token of content, ``[texts, tokens, vocabulary]``."""
    root = unwrapped(model.module)
    with torch.no_grad(), evaluating(root):
        return torch.stack([next_logits(root, one[None])[0, found.skipped :] for one in found.ids])


def _measured(
    model: LoadedModel, found: Firings, before: Tensor, edit: AbstractContextManager[object]
) -> tuple[float, float, Tensor]:
    """Return KL, rise of the loss, and mean rise of each logit less their mean.

    A text at a time: the logits of all are as large as texts times tokens times the vocabulary.
    """
    root, skipped = unwrapped(model.module), found.skipped
    kl, loss, rises = 0.0, 0.0, torch.zeros_like(before[0, 0], dtype=torch.float64)
    with edit, torch.no_grad(), evaluating(root):
        for ids, was in zip(found.ids, before, strict=True):
            after = next_logits(root, ids[None])[0, skipped:]
            old, new = torch.log_softmax(was, -1), torch.log_softmax(after, -1)
            kl += float((old.exp() * (old - new)).sum(-1).double().mean())
            nexts = ids[skipped + 1 :, None]
            loss += float((old - new)[:-1].gather(-1, nexts).double().mean())
            rise = after - was
            rises += (rise - rise.mean(-1, keepdim=True)).double().mean(0)
    return kl / len(before), loss / len(before), rises / len(before)
