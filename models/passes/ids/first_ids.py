"""The token ids that a model embeds first, whatever it was given: ids, texts, or a prompt."""

from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from isogloss.models.passes.ids.embeddings import embeddings
from isogloss.models.wrappers import unwrapped


@contextmanager
def watch_first_ids(model: object, take: Callable[[Tensor], None]) -> Generator[None]:
    """Hand over the ids ``[sequences, tokens]`` of the first pass while this is entered.

    They are seen where the model embeds tokens. Nothing is handed over where it embeds none, such
    as a part of a model.

    Args:
        model: a module, or a wrapper of one.
        take: called once, within the pass; what it raises ends the pass.
    """
    seen: list[bool] = []

    def look(module: nn.Module, args: tuple[object, ...]) -> None:
        del module
        ids = next((arg for arg in args if isinstance(arg, Tensor)), None)
        if ids is None or ids.ndim != 2 or ids.is_floating_point() or seen:
            return
        seen.append(True)
        take(ids)

    tables = [table for table, (_, may) in embeddings(unwrapped(model)).items() if may]
    with ExitStack() as stack:
        for table in tables:
            stack.callback(table.register_forward_pre_hook(look).remove)
        yield


def begins_with(ids: Tensor, wanted: Sequence[int]) -> bool:
    """Return whether each sequence begins with some tokens, padding before them aside.

    Args:
        ids: ``[sequences, tokens]``.
        wanted: token ids, at least one.
    """
    start = torch.tensor(wanted, device=ids.device)
    return all(_begins(row, start) for row in ids)


def _begins(row: Tensor, start: Tensor) -> bool:
    same = (row != row[:1]).nonzero()  # a run of one token at the start may be padding
    run = int(same[0]) if len(same) else len(row)
    return any(
        torch.equal(row[place : place + len(start)], start) for place in sorted({0, run, run - 1})
    )
