"""Passes that go on from each other, as in text generation: one document a sequence.

With a cache each pass reads one more token of each sequence; without one it reads the whole prefix
again and one token more. A document is named by all tokens that it ended with. So its rows are held
on the CPU until a pass does not go on.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from isogloss.errors import InvalidInput, IsoglossError, ResourceExhausted
from isogloss.models.passes.content import SpecialTokens, Tokens

# Of a row's norm. In a causal model rows of a longer prefix differ by rounding alone: some 10 times
# the machine epsilon of the numbers, or of TF32 (1e-3) where that multiplies float32.
_SAME = {torch.float64: 1e-6, torch.float32: 1e-2}
_SAME_HALF = 5e-2
_SEARCHES = ("beam", "assisted", "speculative", "contrastive")


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What one pass gave, or the passes of one generation."""

    tokens: Tokens
    outputs: Mapping[str, Tensor]
    """Of each site, ``[sequences, tokens, width]``."""
    step: int
    is_training: bool
    passes: int = 1

    @property
    def nbytes(self) -> int:
        """Bytes of the outputs."""
        return sum(output.nbytes for output in self.outputs.values())


@dataclass(frozen=True, kw_only=True, eq=False)
class Succession:
    """How a pass stands to the passes before it."""

    before: int | None
    """How many tokens of each sequence earlier passes have read; None: some, unsaid how many."""
    cache: int | None
    """Identity of the cache object; None: it has none that lasts."""
    mark_before: Tensor | None
    """What the cache held of the last token before the pass."""
    mark_after: Tensor | None
    """What it holds after the pass."""
    may_go_on: bool
    """Whether a pass that goes on from this one is to be expected."""
    search: str
    """Name of the search under which the pass ran, if it is one that swaps or takes back tokens."""
    is_quiet: bool
    """Whether it ran without gradients."""
    is_prompt: bool = False
    """Whether it is known to read a part of the prompt, and nothing that was generated."""


@dataclass(kw_only=True, eq=False)
class _Held:
    seen: Seen
    parts: dict[str, list[Tensor]]
    is_single: list[bool]
    """For each token column whether it was read alone."""
    succession: Succession
    nbytes: int
    lost: IsoglossError | None = None

    @property
    def length(self) -> int:
        return self.seen.tokens.ids.shape[1]


def running_generation() -> tuple[str, ...]:
    """Return the names of the functions that run within one named ``generate``; empty: none."""
    names: list[str] = []
    frame = sys._getframe(1)
    while frame is not None:
        names.append(frame.f_code.co_name)
        if names[-1] == "generate":
            return tuple(names)
        frame = frame.f_back
    return ()


def search_among(names: Iterable[str]) -> str:
    """Return the name of the function that swaps or takes back tokens; empty: there is none."""
    return next((name for name in names if any(word in name for word in _SEARCHES)), "")


@dataclass(kw_only=True, eq=False)
class Generations:
    """Joins passes that go on from each other; gives all others on as they come."""

    take: Callable[[Seen], None]
    leave_out: Callable[[Exception], None]
    special: SpecialTokens
    end_ids: Iterable[int]
    """Ids behind which a sequence is padding."""
    held_bytes: int
    _held: _Held | None = field(default=None, init=False)
    _last: Tensor | None = field(default=None, init=False)
    _last_step: int = field(default=0, init=False)

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return 0 if self._held is None else self._held.nbytes

    def holds(self, cache: int | None) -> bool:
        """Return whether what is held was read with this cache."""
        return self._held is not None and self._held.succession.cache == cache

    def add(self, seen: Seen, succession: Succession) -> None:
        """Take one more pass.

        Args:
            seen: what it gave.
            succession: how it stands to those before it.
        """
        if succession.search:
            self.finish()
            self.leave_out(_refused(f"it runs under {succession.search}"))
        elif succession.before != 0:
            self._go_on(seen, succession)
        elif not self._repeats(seen, succession):
            self.finish()
            self._last = seen.tokens.ids if succession.is_quiet else None
            self._last_step = seen.step
            if succession.may_go_on:
                self._hold(seen, succession)
            else:
                self.take(seen)

    def finish(self) -> None:
        """Give on what is held: nothing goes on from it any more."""
        held, self._held = self._held, None
        if held is None or held.lost is not None:
            return
        outputs = {name: torch.cat(parts, 1) for name, parts in held.parts.items()}
        tokens = self._cut(held)
        self.take(replace(held.seen, tokens=tokens, outputs=outputs))

    def _hold(self, seen: Seen, succession: Succession, single: list[bool] | None = None) -> None:
        self._held = _Held(
            seen=replace(seen, outputs={}),
            parts={name: [output.cpu()] for name, output in seen.outputs.items()},
            is_single=single or [False] * seen.tokens.ids.shape[1],
            succession=succession,
            nbytes=seen.nbytes,
        )
        self._check_size(self._held)

    def _go_on(self, seen: Seen, succession: Succession) -> None:
        held = self._held
        if held is None or not _belongs(held, seen, succession):
            self.finish()
            self.leave_out(
                InvalidInput(
                    f"a pass goes on from {succession.before or 'some'} cached tokens that were "
                    "not seen as the beginning of a generation: enter the recorder before the "
                    "first pass, and give that one use_cache=True or an empty cache; or use "
                    "generate()"
                )
            )
            return
        if held.lost is not None:
            self.leave_out(held.lost)
            return
        why = _broken(held, succession)
        if why:
            self._lose(held, _refused(why))
            self.leave_out(held.lost or _refused(why))
            return
        new = seen.tokens
        for name, output in seen.outputs.items():
            held.parts[name].append(output.cpu())
        is_single = new.ids.shape[1] == 1 and not succession.is_prompt
        held.is_single += [is_single] * new.ids.shape[1]
        held.seen = replace(
            held.seen, tokens=_joined(held.seen.tokens, new), passes=held.seen.passes + 1
        )
        held.succession = succession
        held.nbytes += seen.nbytes
        self._check_size(held)

    def _repeats(self, seen: Seen, succession: Succession) -> bool:
        """Take a pass that reads the held prefix again and more; False: it is no such pass."""
        held, ids = self._held, seen.tokens.ids
        if held is None:
            is_next = self._last is not None and _extends(ids, self._last, by=1)
            if succession.is_quiet and is_next and seen.step == self._last_step:
                # a loop without a cache: from the second pass on it is known to be one
                self._hold(seen, succession)
                self._last = None
                return True
            return False
        if not succession.is_quiet or not _extends(ids, held.seen.tokens.ids):
            return False
        if seen.step != held.seen.step:  # passes of a training loop that look alike
            return False
        if held.lost is not None:
            self.leave_out(held.lost)
            return True
        if not _same_rows(held, seen):
            return False
        single, passes = held.is_single, held.seen.passes + 1
        single = [*single, *[True] * (ids.shape[1] - len(single))]
        self._hold(replace(seen, passes=passes), succession, single)
        return True

    def _check_size(self, held: _Held) -> None:
        if held.nbytes > self.held_bytes and held.lost is None:
            self._lose(
                held,
                ResourceExhausted(
                    f"a generation of {held.length} tokens takes {held.nbytes} bytes, more than "
                    f"held_bytes {self.held_bytes}; generate fewer sequences at once, record fewer "
                    "sites, or raise held_bytes"
                ),
            )

    def _lose(self, held: _Held, error: IsoglossError) -> None:
        for _ in range(held.seen.passes):
            self.leave_out(error)
        held.lost, held.nbytes = error, 0
        held.parts = {}

    def _cut(self, held: _Held) -> Tokens:
        """Return the tokens, with those behind a generated end-of-sequence token as padding."""
        tokens = held.seen.tokens
        ends = torch.isin(tokens.ids, torch.tensor(sorted(set(self.end_ids)), dtype=torch.int64))
        keep, is_over = tokens.keep.clone(), torch.zeros(len(ends), dtype=torch.bool)
        for column, single in enumerate(held.is_single):
            if not single:
                is_over[:] = False  # a new turn
                continue
            keep[:, column] &= ~is_over
            is_over |= ends[:, column]
        return self.special.tokens(tokens.ids, keep)


def _belongs(held: _Held, seen: Seen, succession: Succession) -> bool:
    same = held.succession.cache == succession.cache or None in (
        held.succession.cache,
        succession.cache,
    )
    fits = succession.before is None or succession.before <= held.length or held.lost is not None
    return same and fits and len(seen.tokens.ids) == len(held.seen.tokens.ids)


def _broken(held: _Held, succession: Succession) -> str:
    """Return why a pass does not go on from exactly what is held; empty: it does."""
    if succession.before is not None and succession.before != held.length:
        return f"its cache was cut from {held.length} to {succession.before} tokens"
    one, other = held.succession.mark_after, succession.mark_before
    if one is not None and other is not None and not _equal(one, other):
        return "the sequences in its cache were swapped or replaced"
    return ""


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.equal(one, other.to(one.device))


def _refused(why: str) -> InvalidInput:
    return InvalidInput(
        f"a generation is left out, because {why}: which tokens a row goes on from is not known; "
        "generate greedily or by sampling (num_beams=1, no assistant), or record the finished "
        "texts in one pass"
    )


def _joined(one: Tokens, other: Tokens) -> Tokens:
    return Tokens(
        ids=torch.cat([one.ids, other.ids], 1),
        keep=torch.cat([one.keep, other.keep], 1),
        content=torch.cat([one.content, other.content], 1),
    )


def _extends(ids: Tensor, prefix: Tensor, by: int | None = None) -> bool:
    more = ids.shape[1] - prefix.shape[1]
    if len(ids) != len(prefix) or more < 1 or (by is not None and more != by):
        return False
    return torch.equal(ids[:, : prefix.shape[1]], prefix)


def _same_rows(held: _Held, seen: Seen) -> bool:
    keep = held.seen.tokens.keep
    for name, output in seen.outputs.items():
        same = _SAME.get(output.dtype, _SAME_HALF)
        old = torch.cat(held.parts[name], 1)[keep].float()
        new = output[:, : held.length].cpu()[keep].float()
        if old.shape != new.shape or bool(
            ((new - old).norm(dim=1) > same * old.norm(dim=1) + 1e-6).any()
        ):
            return False
    return True
