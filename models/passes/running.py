"""The call of ``generate`` within which a pass runs, and which sequences have not ended in it.

Only the call itself knows where a sequence ends: its end tokens and its stopping criteria may be
others than the model's. What it fills a sequence with behind its end is no text.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType

from torch import Tensor

_SEARCHES = ("beam", "assisted", "speculative", "contrastive")
_GENERATE, _PREFILL = "generate", "_prefill"
# in transformers and in TransformerLens; True of the first and False of the second: it goes on
_UNFINISHED, _FINISHED = "unfinished_sequences", "finished_sequences"


@dataclass(frozen=True, kw_only=True, eq=False)
class Running:
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


def running_generation() -> Running | None:
    """Return the innermost call of ``generate`` in this thread; None: none runs."""
    names: list[str] = []
    unfinished: Tensor | None = None
    frame = sys._getframe(1)
    while frame is not None:
        names.append(frame.f_code.co_name)
        if unfinished is None:
            unfinished = _unfinished(frame)
        if names[-1] == _GENERATE:
            return Running(
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
