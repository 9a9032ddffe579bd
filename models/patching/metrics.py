"""Numbers that say how far a model's next token is the right one."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from isogloss.errors import InvalidInput
from isogloss.models.patching.pairs import TextPairs

Metric = Literal["logit_difference", "probability", "kl"]
METRICS: tuple[Metric, ...] = ("logit_difference", "probability", "kl")


def last_logits(module: nn.Module, ids: Tensor) -> Tensor:
    """Run a model and return its logits at the last position, ``[texts, vocabulary]``.

    They are float32 at least.

    Args:
        module: a causal language model.
        ids: ``[texts, tokens]``.

    Raises:
        InvalidInput: it gives no logits.
    """
    found = _logits(module, ids)[:, -1]
    return found.to(torch.promote_types(found.dtype, torch.float32))


def next_logits(module: nn.Module, ids: Tensor) -> Tensor:
    """Run a model and return its logits at every position, ``[texts, tokens, vocabulary]``.

    They are float32 at least.

    Args:
        module: a causal language model.
        ids: ``[texts, tokens]``.

    Raises:
        InvalidInput: it gives no logits.
    """
    found = _logits(module, ids)
    return found.to(torch.promote_types(found.dtype, torch.float32))


def _logits(module: nn.Module, ids: Tensor) -> Tensor:
    output = cast("object", module(ids))
    if isinstance(output, Mapping):
        output = cast("Mapping[str, object]", output).get("logits")
    found = getattr(output, "logits", output)
    if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[:2] != ids.shape:
        raise InvalidInput(
            f"{type(module).__name__} gives no logits [texts, tokens, vocabulary]; load the whole "
            "model: load_model(name, causal=True)"
        )
    return found


def measure(metric: Metric, logits: Tensor, pairs: TextPairs, clean: Tensor) -> Tensor:
    """Measure the next tokens of each pair, ``[pairs]``. Gradients flow through.

    * logit_difference: log of the odds of right tokens over wrong ones; of one token each the
      difference of their logits.
    * probability: of the right tokens together.
    * kl: of the clean run's next tokens from these, in nats.

    Args:
        metric: which.
        logits: ``[pairs, vocabulary]``.
        pairs: that they are of.
        clean: logits of the clean texts, for ``kl``.
    """
    logs = torch.log_softmax(logits, -1)
    if metric == "kl":
        wanted = torch.log_softmax(clean, -1)
        return (wanted.exp() * (wanted - logs)).sum(-1)
    right = _log_mass(logs, pairs.right)
    if metric == "probability":
        return right.exp()
    return right - _log_mass(logs, pairs.wrong)


def check_metric(metric: str) -> Metric:
    """Return a metric, or refuse one that there is not.

    Args:
        metric: its name.

    Raises:
        InvalidInput: there is none of that name.
    """
    if metric not in METRICS:
        raise InvalidInput(f"metric is {metric!r}; wanted one of {', '.join(METRICS)}")
    return metric


def _log_mass(logs: Tensor, tokens: Sequence[tuple[int, ...]]) -> Tensor:
    rows = [torch.logsumexp(logs[i, list(some)], 0) for i, some in enumerate(tokens)]
    return torch.stack(rows)


def permutation_p(own: float, null: Sequence[float]) -> float:
    """Return the chance that something random is as great: ``(1 + n) / (1 + all)``.

    It is never 0 (Phipson and Smyth 2010): what was found is one of all that might have been.

    Args:
        own: what was found.
        null: what random ones gave; n of them are as great.
    """
    return (1 + sum(one >= own for one in null)) / (1 + len(null))
