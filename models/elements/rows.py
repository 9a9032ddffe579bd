"""What has no row for each token: attention patterns are never recorded as rows."""

import re

import torch
from torch import Tensor

from isogloss.errors import InvalidInput

_NAMED = re.compile(r"(.*\.)?(hook_pattern|hook_attn_scores)|.+\.heads?\.(-?\d+\.)?pattern")


def refuse_pattern_name(name: str) -> None:
    """Refuse to record a site whose name says that it is an attention pattern.

    Args:
        name: of the site.

    Raises:
        InvalidInput: it is one.
    """
    if _NAMED.fullmatch(name):
        raise _no_rows(name)


def pattern_axis(name: str) -> int | None:
    """Return the axis of the queries at a site whose name says that it is a pattern; else None.

    Args:
        name: of the site.
    """
    found = _NAMED.fullmatch(name)
    if found is None:
        return None
    return 1 if found[3] else 2


def refuse_pattern(output: Tensor, name: str) -> None:
    """Refuse to record an output that is an attention pattern.

    That is ``[batch, heads, tokens, tokens]`` with shares of 1 along the last axis: nothing below
    0, and a sum of 1 to the precision of its dtype (``keys * eps`` for rounded terms, of which the
    softmax itself takes as much again).

    Args:
        output: at the site.
        name: of the site.

    Raises:
        InvalidInput: it is one.
    """
    if output.ndim != 4 or output.shape[-1] != output.shape[-2] or not output.numel():
        return
    sums = output.sum(-1, dtype=torch.float64)
    near = 2 * output.shape[-1] * torch.finfo(output.dtype).eps
    if bool((output >= 0).all()) and bool(((sums - 1).abs() <= near).all()):
        raise _no_rows(name)


def _no_rows(name: str) -> InvalidInput:
    return InvalidInput(
        f"site {name!r} is an attention pattern, [batch, heads, queries, keys]: it has no row of "
        "fixed width for each token and cannot be recorded; read it with isogloss.models.capture"
    )
