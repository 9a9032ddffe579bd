"""Where generated sequences end: what a batch holds behind the end of one is padding."""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from isogloss.models.passes.content import Tokens
from isogloss.models.passes.running import Running


@dataclass(kw_only=True, eq=False)
class GeneratedColumns:
    """Which tokens of a batch were read one by one, and of which it is known that they are text."""

    single: list[bool]
    """For each token column whether it was read alone."""
    alive: list[Tensor | None]
    """For each column which sequences had not ended before it, ``[sequences]``; None: not known."""
    unfinished: Tensor | None
    """Which sequences have not ended, as the last pass told; its tokens were chosen before."""
    call: int | None
    """The call of ``generate`` within which the last pass ran."""

    @classmethod
    def of_prompt(cls, tokens: Tokens, running: Running | None) -> "GeneratedColumns":
        """Begin with the tokens of a first pass.

        Args:
            tokens: what it read.
            running: the call of ``generate`` within which it ran.
        """
        count = tokens.ids.shape[1]
        columns = cls(single=[False] * count, alive=[None] * count, unfinished=None, call=None)
        columns._note(running)
        return columns

    def copy(self) -> "GeneratedColumns":
        """Return a copy, for a text that goes on in two ways."""
        return GeneratedColumns(
            single=[*self.single],
            alive=[*self.alive],
            unfinished=self.unfinished,
            call=self.call,
        )

    def add(self, tokens: Tokens, running: Running | None, since: int = 0) -> None:
        """Add the columns of one more pass.

        Args:
            tokens: what it read.
            running: the call of ``generate`` within which it ran.
            since: how many of the columns were read before.
        """
        count = tokens.ids.shape[1] - since
        same = running is not None and running.call == self.call and not running.is_prompt
        is_single = (count == 1 or since > 0) and (same or running is None)
        self.single += [is_single] * count
        self.alive += [self.unfinished if same and is_single else None, *[None] * (count - 1)]
        self._note(running)

    def kept(self, tokens: Tokens, *, end_ids: Iterable[int], pad_id: int | None) -> Tensor:
        """Return which tokens are text, ``[sequences, tokens]``.

        Where ``generate`` told which sequences go on, that decides. Elsewhere, of several
        sequences, one token that is repeated from an end of sequence on until the others have
        ended too is padding, and so is the padding id.

        Args:
            tokens: of all columns.
            end_ids: ids that may end a sequence.
            pad_id: id of padding; None: not known.
        """
        keep = tokens.keep.clone()
        ends = torch.isin(tokens.ids, torch.tensor(sorted(set(end_ids)), dtype=torch.int64))
        for column, alive in enumerate(self.alive):
            if alive is not None:
                keep[:, column] &= alive
        if len(keep) > 1:
            for first, last in self._unknown():
                keep[:, first:last] &= ~_padding(
                    tokens.ids[:, first:last], ends[:, first:last], pad_id
                )
        return keep

    def _note(self, running: Running | None) -> None:
        self.unfinished = None if running is None else running.unfinished
        self.call = None if running is None else running.call

    def _unknown(self) -> list[tuple[int, int]]:
        """Return first and last of neighbouring columns of which nothing is known."""
        open_ = [one and alive is None for one, alive in zip(self.single, self.alive, strict=True)]
        found: list[tuple[int, int]] = []
        first: int | None = None
        for column, is_open in enumerate([*open_, False]):
            if is_open and first is None:
                first = column
            elif not is_open and first is not None:
                found.append((first, column))
                first = None
        return found


def _padding(ids: Tensor, ends: Tensor, pad_id: int | None) -> Tensor:
    """Return which generated tokens are padding, ``[sequences, tokens]``."""
    same = ids == ids[:, -1:]
    run = same.flip(1).cumprod(1).flip(1).bool()  # the token that is repeated until the end
    is_over = ends.cumsum(1) - ends.long() > 0  # behind the first end
    # the run must begin no later than behind the first end
    fits = (run | ~is_over).all(1, keepdim=True)
    padding = is_over & fits
    return padding | (run & (ids == pad_id) & ~(ends & ~is_over) if pad_id is not None else False)
