"""The call of ``generate`` within which a pass runs, and where the sequences end in it.

Only the call itself knows where a sequence ends: its end tokens and its stopping criteria may be
others than the model's. What it fills a batch with behind the end of a sequence is no text.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType

import torch
from torch import Tensor

from isogloss.models.passes.content import Tokens

_SEARCHES = ("beam", "assisted", "speculative", "contrastive")
_GENERATE, _PREFILL = "generate", "_prefill"
# in transformers and in TransformerLens; True of the first and False of the second: it goes on
_UNFINISHED, _FINISHED = "unfinished_sequences", "finished_sequences"


@dataclass(frozen=True, kw_only=True, eq=False)
class GenerateCall:
    """A call of a function named ``generate`` that runs now."""

    call: int
    """Tells it from other calls that run at the same time."""
    search: str
    """Name of the function that swaps or takes back tokens; empty: there is none."""
    is_prompt: bool
    """Whether the pass is known to read a part of the prompt, and nothing that was generated."""
    unfinished: Tensor | None
    """Which sequences have not ended, ``[sequences]``, on the CPU; None: the call does not tell.

    The tokens that the pass reads are chosen already: they are those of the pass before.
    """


def running_generation() -> GenerateCall | None:
    """Return the innermost call of ``generate`` in this thread; None: none runs."""
    names: list[str] = []
    unfinished: Tensor | None = None
    frame = sys._getframe(1)
    while frame is not None:
        names.append(frame.f_code.co_name)
        if unfinished is None:
            unfinished = _unfinished(frame)
        if names[-1] == _GENERATE:
            return GenerateCall(
                call=id(frame),
                search=search_among(names),
                is_prompt=_PREFILL in names,
                unfinished=unfinished,
            )
        frame = frame.f_back
    return None


def search_among(names: Iterable[str]) -> str:
    """Return the name of the function that swaps or takes back tokens; empty: there is none."""
    return next((name for name in names if any(word in name for word in _SEARCHES)), "")


def _unfinished(frame: FrameType) -> Tensor | None:
    known = frame.f_code.co_varnames
    name = next((one for one in (_UNFINISHED, _FINISHED) if one in known), None)
    found = None if name is None else frame.f_locals.get(name)
    if not isinstance(found, Tensor) or found.ndim != 1:
        return None
    told = found.detach().bool().cpu().clone()
    return told if name == _UNFINISHED else ~told


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
    def of_prompt(cls, tokens: Tokens, running: GenerateCall | None) -> "GeneratedColumns":
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

    def add(self, tokens: Tokens, running: GenerateCall | None, since: int = 0) -> None:
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

    def _note(self, running: GenerateCall | None) -> None:
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
