"""Scores of all heads: how much of their attention goes where known kinds of heads look."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.attention.patterns import Head, check_finite, layers_of
from isogloss.models.attention.prompts import check_ids, content_ids, context, start_ids
from isogloss.models.hooks import capture, evaluating
from isogloss.models.resolve import device_of
from isogloss.models.wrappers import LoadedModel, unwrapped

HeadKind = Literal["previous", "first", "duplicate", "induction"]
KINDS: tuple[HeadKind, ...] = ("previous", "first", "duplicate", "induction")


@dataclass(frozen=True, kw_only=True, eq=False)
class HeadScores:
    """Scores of all heads of a model, each a share of attention in ``[0, 1]``."""

    model: str
    """Name of the model."""
    scores: dict[HeadKind, NDArray[np.float64]]
    """Of each kind, ``[layers, heads]``; NaN where a layer has fewer heads.

    * previous: the token before.
    * first: the first token of the text, of queries behind it.
    * duplicate: earlier places of the same token.
    * induction: the tokens that followed on those (Olsson et al. 2022).
    """
    null: dict[HeadKind, float]
    """Of each kind the score of a head that looks at all that it may see in equal shares."""
    queries: dict[HeadKind, int]
    """Of each kind how many queries the mean is over."""

    def highest(self, kind: HeadKind, count: int = 10) -> list[tuple[Head, float]]:
        """Return the heads of the highest scores, the highest first.

        Args:
            kind: which score.
            count: of how many heads.
        """
        table = np.nan_to_num(self.scores[kind], nan=-1.0)
        order = np.argsort(-table, axis=None, kind="stable")[:count]
        places = [divmod(int(at), table.shape[1]) for at in order]
        return [(Head(layer=i, head=j), float(table[i, j])) for i, j in places if table[i, j] >= 0]


def repeated_ids(
    model: LoadedModel, *, sequences: int = 8, tokens: int = 96, seed: int = 0
) -> Tensor:
    """Make sequences of random tokens that repeat, each at a distance of its own.

    A head that looks a fixed number of tokens back is thus no induction head. The special tokens
    that the tokenizer puts before texts come first.

    Args:
        model: whose tokens.
        sequences: how many.
        tokens: of each; the distance is between a third and a half of it.
        seed: of the random choices.

    Returns:
        ``[sequences, tokens]``, int64, on the CPU.

    Raises:
        InvalidInput: there are fewer tokens than 6, or more than the model reads.
    """
    start, limit = start_ids(model), context(model)
    if tokens < 6 + len(start) or sequences < 1:
        raise InvalidInput(f"{sequences} sequences of {tokens} tokens; wanted 1 of 6 at least")
    if limit is not None and tokens > limit:
        raise InvalidInput(f"sequences of {tokens} tokens, the model reads {limit}; give fewer")
    random = torch.Generator().manual_seed(seed)
    known, free = content_ids(model), tokens - len(start)
    made = torch.empty(sequences, tokens, dtype=torch.int64)
    for row in made:
        period = int(torch.randint(-(-free // 3), free // 2 + 1, (), generator=random))
        block = known[torch.randint(len(known), (period,), generator=random)]
        row[: len(start)] = torch.tensor(start, dtype=torch.int64)
        row[len(start) :] = block.repeat(-(-free // period))[:free]
    return made


def head_scores(
    model: LoadedModel, ids: Tensor | Sequence[Sequence[int]] | None = None, *, causal: bool = True
) -> HeadScores:
    """Score all heads of a model, in passes of one sequence each.

    Args:
        model: module and tokenizer.
        ids: sequences of token ids, ``[sequences, tokens]``; None: :func:`repeated_ids`.
        causal: whether queries see only keys that are not behind them; of an encoder False, and
            then the null is of all keys.

    Raises:
        InvalidInput: the model has no attention module whose heads are known, the sequences differ
            in length, are longer than the model's context or of ids that it does not have, or
            patterns are not finite.
    """
    layers, root = layers_of(model), unwrapped(model.module)
    given = repeated_ids(model) if ids is None else _table(ids)
    check_ids(model, given)
    sites = [f"{one.path}.heads.pattern" for one in layers]
    most = max(one.count for one in layers)
    sums = {kind: np.zeros((len(layers), most)) for kind in KINDS}
    nulls, queries = dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0)
    device = device_of(root)
    with torch.no_grad(), evaluating(root), capture(root, sites, stop_early=True) as seen:
        for row in given:
            seen.run(row[None].to(device))
            for kind, keys in _looked_at(row, causal=causal).items():
                asked = keys.any(1)
                visible = torch.arange(1, len(row) + 1) if causal else torch.tensor(len(row))
                nulls[kind] += float((keys.sum(1) / visible)[asked].sum())
                queries[kind] += int(asked.sum())
                for i, site in enumerate(sites):
                    check_finite(site, seen[site])
                    pattern = seen[site][0].double().cpu()
                    sums[kind][i, : len(pattern)] += (pattern * keys).sum((1, 2)).numpy()
    for table in sums.values():
        for i, one in enumerate(layers):
            table[i, one.count :] = np.nan
    return HeadScores(
        model=model.name,
        scores={kind: sums[kind] / max(queries[kind], 1) for kind in KINDS},
        null={kind: nulls[kind] / max(queries[kind], 1) for kind in KINDS},
        queries=queries,
    )


def _table(ids: Tensor | Sequence[Sequence[int]]) -> Tensor:
    lengths = {len(row) for row in ids}
    if len(lengths) != 1 or not min(lengths):
        raise InvalidInput(
            f"sequences of {sorted(lengths)} tokens; wanted one length, of 1 at least"
        )
    return torch.as_tensor(ids).cpu()


def _looked_at(row: Tensor, *, causal: bool) -> dict[HeadKind, Tensor]:
    """Return for each kind which keys its heads look at, ``[queries, keys]``."""
    length = len(row)
    earlier = torch.ones(length, length).tril(-1).bool()
    same = (row[:, None] == row[None, :]) & (earlier if causal else ~torch.eye(length).bool())
    followed = torch.zeros_like(same)
    followed[:, 1:] = same[:, :-1]  # the key behind an earlier place of the query's token
    previous = torch.eye(length).roll(-1, 1).bool() & earlier
    first = torch.zeros_like(same)
    first[1:, 0] = True
    return {"previous": previous, "first": first, "duplicate": same, "induction": followed}
