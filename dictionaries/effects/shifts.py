"""How adding a feature's direction shifts the next token: measured, and directly."""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from isogloss.dictionaries.effects.firings import content_start, site_of
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import (
    LoadedModel,
    evaluating,
    layer_sites,
    next_logits,
    splice,
    unwrapped,
)


def shifts(
    dictionary: DictionaryModule,
    model: LoadedModel,
    ids: Tensor,
    features: Sequence[int],
    *,
    norm: float,
    site: str | None = None,
    direct: bool = False,
    allow: Collection[str] = (),
) -> Tensor:
    """Add each feature's direction at every token, and see how the next tokens change.

    Args:
        dictionary: of one site.
        model: a causal language model.
        ids: texts, ``[texts, tokens]``.
        features: numbers of features.
        norm: length of what is added, the same for all, in the units of the site's activations.
        site: where; None: where the dictionary was trained.
        direct: whether it is added behind the last layer, so that only the last norm and the
            unembedding see it: the direct effect.
        allow: parts of the passport that may differ.

    Returns:
        Mean over tokens of the change of log probabilities, ``[features, vocabulary]``, float32.

    Raises:
        InvalidInput: there is no such feature, one is named twice, the norm is not above 0, texts
            are longer than the model's context, or the model gives no logits, or none that are
            finite.
        PassportRefused: the model or site is another than in training.
    """
    path, root = site_of(dictionary, model, site), unwrapped(model.module)
    check_features(dictionary, features)
    if not norm > 0:
        raise InvalidInput(f"norm is {norm}; wanted above 0")
    dictionary.check(model.module, path).require(allow)
    where = layer_sites(model)[-1] if direct else path
    skipped = content_start(model, ids)
    rows = dictionary.directions(torch.tensor(list(features), device=ids.device)).detach()
    rows = norm * rows / rows.norm(dim=1, keepdim=True).clamp(min=1e-12)
    found: list[Tensor] = []
    with torch.no_grad(), evaluating(root):
        before = _mean_logs(model, ids, skipped)
        if before.isnan().any():
            raise InvalidInput(
                "the model gives next tokens that are not finite on these texts; load it in "
                "float32, or choose others"
            )
        for row in rows:
            with splice(root, {where: adder(row)}):
                found.append(_mean_logs(model, ids, skipped) - before)
    return torch.stack(found).float().cpu()


def adder(row: Tensor) -> Callable[[Tensor], Tensor]:
    """Return what adds a vector to activations ``[texts, tokens, ...]``, in their dtype.

    Args:
        row: as many numbers as a token has.
    """

    def add(x: Tensor) -> Tensor:
        return x + row.to(x).reshape(x.shape[2:])

    return add


def decoder_of(dictionary: DictionaryModule, like: Tensor) -> Tensor:
    """Return all decoder rows, float32, where a tensor is, without a gradient.

    Args:
        dictionary: whose.
        like: on the wanted device.
    """
    return dictionary.directions(torch.arange(dictionary.features, device=like.device)).detach()


def check_features(dictionary: DictionaryModule, features: Sequence[int]) -> None:
    """Refuse features that a dictionary does not have, or that are named twice.

    Args:
        dictionary: of which.
        features: their numbers.

    Raises:
        InvalidInput: there is none, no such feature, or one is named twice.
    """
    odd = [one for one in features if not 0 <= one < dictionary.features]
    if odd or not features:
        raise InvalidInput(
            f"features {odd[:4] or list(features)}: name some of 0 to {dictionary.features - 1}"
        )
    if twice := sorted({one for one in features if list(features).count(one) > 1}):
        raise InvalidInput(f"features {twice[:4]} are named twice; name each once")


def _mean_logs(model: LoadedModel, ids: Tensor, skipped: int) -> Tensor:
    """Return the mean of the log probabilities of next tokens, ``[vocabulary]``, float64."""
    total: Tensor | None = None
    for text in ids:
        logits = next_logits(unwrapped(model.module), text[None])[0, skipped:]
        logs = torch.log_softmax(logits, -1).double().mean(0)
        total = logs if total is None else total + logs
    if total is None:
        raise InvalidInput("no text was given")
    return total / len(ids)
