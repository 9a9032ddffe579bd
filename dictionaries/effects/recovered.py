"""How much of the next-token loss a dictionary's reconstruction keeps."""

import math
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from isogloss.dictionaries.effects.firings import content_start, site_of
from isogloss.dictionaries.live.module import DictionaryModule
from isogloss.errors import InvalidInput
from isogloss.models import LoadedModel, ablate, evaluating, next_logits, unwrapped


@dataclass(frozen=True, kw_only=True)
class LossRecovered:
    """The loss of next tokens with a site as it is, rebuilt, and gone; in nats a token."""

    clean: float
    """With the activations as they are."""
    rebuilt: float
    """With what the dictionary makes of them."""
    ablated: float
    """With zeros in their place."""

    @property
    def share(self) -> float:
        """Share of what the site is worth that is kept: ``(ablated - rebuilt) / (ablated - clean)``
        (Bricken et al. 2023); 1 loses nothing."""
        return (self.ablated - self.rebuilt) / (self.ablated - self.clean)


def loss_recovered(
    dictionary: DictionaryModule,
    model: LoadedModel,
    ids: Tensor,
    *,
    site: str | None = None,
    allow: Collection[str] = (),
) -> LossRecovered:
    """Put a dictionary's reconstruction, and zeros, in the place of a site's activations.

    Special tokens before a text are rebuilt too, as they are wherever the dictionary is spliced.

    Args:
        dictionary: of one site.
        model: a causal language model.
        ids: texts, such as of :func:`isogloss.models.token_windows`, ``[texts, tokens]``.
        site: where; None: where the dictionary was trained.
        allow: parts of the passport that may differ.

    Raises:
        InvalidInput: the dictionary is of several sites, texts have no next token or more tokens
            than the model reads, or it gives no logits, or none that are finite.
        PassportRefused: the model or site is another than in training.
    """
    path, root = site_of(dictionary, model, site), unwrapped(model.module)
    skipped = content_start(model, ids)
    dictionary.check(model.module, path).require(allow)

    def loss(change: AbstractContextManager[object]) -> float:
        with change, torch.no_grad(), evaluating(root):
            each = [
                functional.cross_entropy(
                    next_logits(root, one[None])[0, skipped:-1], one[skipped + 1 :]
                )
                for one in ids
            ]
        return float(torch.stack(each).double().mean())

    clean = loss(nullcontext())
    if not math.isfinite(clean):
        raise InvalidInput(
            f"the loss of next tokens is {clean} on these texts; wanted a finite number: load the "
            "model in float32, or choose others"
        )
    return LossRecovered(
        clean=clean,
        rebuilt=loss(dictionary.spliced(model.module, path, keep_error=False, allow=allow)),
        ablated=loss(ablate(root, [path])),
    )
