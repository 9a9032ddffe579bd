"""Passes that go on from each other, as in text generation: one document a sequence.

With a cache each pass reads one more token of each sequence. Which passes belong together is told
by the cache: the one that a pass gave back is the one that the next is given. So several texts may
be gone on with in turn. Below ``generate`` without a cache each pass reads the whole prefix again
and one token more. Any other pass without a cache is of documents of its own.

A document is named by all tokens that it ended with. So its rows are held on the CPU until nothing
can go on from them: the cache is gone or begun anew, or the reader is left.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from isogloss.errors import InvalidInput, IsoglossError, ResourceExhausted
from isogloss.models.passes.content import SpecialTokens, Tokens
from isogloss.models.passes.generation.caches import CacheState
from isogloss.models.passes.generation.running import GenerateCall, GeneratedColumns

# Of a row's norm. In a causal model rows of a longer prefix differ by rounding alone: some 10 times
# the machine epsilon of the numbers, or of TF32 (1e-3) where that multiplies float32.
_SAME = {torch.float64: 1e-6, torch.float32: 1e-2}
_SAME_HALF = 5e-2


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
    given: CacheState | None
    """The cache that it was given, as it was before the pass; None: it was given none."""
    left: CacheState | None
    """The cache that it gave back, or wrote into, as it was after the pass; None: none is known."""
    may_go_on: bool
    """Whether a pass that goes on from this one is to be expected."""
    is_quiet: bool
    """Whether it ran without gradients."""
    thread: int
    """In which thread it ran."""
    running: GenerateCall | None
    """The call of ``generate`` within which it ran."""


@dataclass(kw_only=True, eq=False)
class _Held:
    seen: Seen
    parts: dict[str, list[Tensor]]
    columns: GeneratedColumns
    succession: Succession
    nbytes: int
    lost: IsoglossError | None = None

    @property
    def length(self) -> int:
        return self.seen.tokens.ids.shape[1]

    @property
    def sequences(self) -> int:
        return len(self.seen.tokens.ids)

    @property
    def is_over(self) -> bool:
        """Whether its cache is gone, so that no pass can go on from it."""
        left = self.succession.left
        return left is not None and not left.is_alive


@dataclass(kw_only=True, eq=False)
class Generations:
    """Joins passes that go on from each other; gives all others on as they come."""

    take: Callable[[Seen], None]
    leave_out: Callable[[Exception, int], None]
    """Called with an error, and with the step of the pass that is left out for it."""
    special: SpecialTokens
    end_ids: Iterable[int]
    """Ids behind which a sequence may be padding, where the call of ``generate`` does not tell."""
    held_bytes: int
    pad_id: int | None = None
    _held: list[_Held] = field(default_factory=list[_Held], init=False)
    """The one that was gone on with last comes last."""

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(held.nbytes for held in self._held)

    def add(self, seen: Seen, succession: Succession) -> None:
        """Take one more pass.

        Args:
            seen: what it gave.
            succession: how it stands to those before it.
        """
        running = succession.running
        if running is not None and running.search:
            self._finish(self._before(succession))
            self.leave_out(_refused(f"it runs under {running.search}"), seen.step)
        elif succession.before != 0:
            self._go_on(seen, succession)
        elif not self._repeats(seen, succession):
            self._finish(self._before(succession))  # its cache was begun anew
            if succession.may_go_on:
                self._hold(seen, succession, GeneratedColumns.of_prompt(seen.tokens, running))
            else:
                self.take(seen)
        for held in [held for held in self._held if held.is_over]:
            self._finish(held)

    def finish(self) -> None:
        """Give on what is held: nothing goes on from it any more."""
        while self._held:
            self._finish(self._held[0])

    def _finish(self, held: _Held | None) -> None:
        if held is None:
            return
        self._held.remove(held)
        if held.lost is not None:
            return
        outputs = {name: torch.cat(parts, 1) for name, parts in held.parts.items()}
        tokens = held.seen.tokens
        keep = held.columns.kept(tokens, end_ids=self.end_ids, pad_id=self.pad_id)
        tokens = self.special.tokens(tokens.ids, keep)
        self.take(replace(held.seen, tokens=tokens, outputs=outputs))

    def _before(self, succession: Succession) -> _Held | None:
        """Return what was read with the cache that a pass was given.

        For a pass without a cache it is what was read last in its thread, if no cache is known that
        this left.
        """
        given = succession.given
        for held in reversed(self._held):
            left = held.succession.left
            if given is None or left is None:
                if given is None and left is None and held.succession.thread == succession.thread:
                    return held
            elif left.is_of(given):
                return held
        return None

    def _copied(self, seen: Seen, succession: Succession) -> _Held | None:
        """Return what was read with the cache of which a pass was given a copy; hold it twice.

        A text may be read once, and gone on with in several ways, each with a copy of its cache.
        """
        given = succession.given
        if given is None or given.mark is None:
            return None
        for held in reversed(self._held):
            left = held.succession.left
            is_whole = succession.before in (None, held.length) and held.lost is None
            same = is_whole and held.sequences == len(seen.tokens.ids)
            if not same or left is None or left.mark is None or not left.is_like(given):
                continue
            if held.is_over:
                return held
            twin = replace(
                held,
                seen=replace(held.seen, passes=0),
                parts={name: list(parts) for name, parts in held.parts.items()},
                columns=held.columns.copy(),
            )
            self._held.append(twin)
            return twin
        return None

    def _hold(self, seen: Seen, succession: Succession, columns: GeneratedColumns) -> None:
        held = _Held(
            seen=replace(seen, outputs={}),
            parts={name: [output.cpu()] for name, output in seen.outputs.items()},
            columns=columns,
            succession=succession,
            nbytes=seen.nbytes,
        )
        self._held.append(held)
        self._check_size(held)

    def _go_on(self, seen: Seen, succession: Succession) -> None:
        held = self._before(succession) or self._copied(seen, succession)
        if held is None:
            self.leave_out(_unseen(succession), seen.step)
            return
        if held.lost is not None:
            self.leave_out(held.lost, seen.step)
            return
        why = _ended(held, seen, succession)
        if why:  # what was read until here is right
            self._finish(held)
            self.leave_out(_refused(why), seen.step)
            return
        why = _broken(held, succession)
        if why:
            self._lose(held, _refused(why))
            self.leave_out(held.lost or _refused(why), seen.step)
            return
        for name, output in seen.outputs.items():
            held.parts[name].append(output.cpu())
        held.columns.add(seen.tokens, succession.running)
        held.seen = replace(
            held.seen, tokens=_joined(held.seen.tokens, seen.tokens), passes=held.seen.passes + 1
        )
        held.succession = succession
        held.nbytes += seen.nbytes
        self._held.remove(held)
        self._held.append(held)
        self._check_size(held)

    def _repeats(self, seen: Seen, succession: Succession) -> bool:
        """Take a pass below ``generate`` that reads what is held again and more.

        Returns:
            Whether the pass is such a one.
        """
        running, held = succession.running, self._before(succession)
        if held is None or running is None or running.is_prompt or succession.given is not None:
            return False
        before = held.succession.running
        same = before is not None and before.call == running.call and seen.step == held.seen.step
        if not same or not succession.is_quiet or not _extends(seen, held.seen):
            return False
        if held.lost is not None:
            self.leave_out(held.lost, seen.step)
            return True
        if not _same_rows(held, seen):
            return False
        columns = held.columns
        columns.add(seen.tokens, running, since=held.length)
        self._held.remove(held)
        self._hold(replace(seen, passes=held.seen.passes + 1), succession, columns)
        return True

    def _check_size(self, held: _Held) -> None:
        """Give on those that were not gone on with for longest, until the rest may be held."""
        while self.nbytes > self.held_bytes:
            others = (other for other in self._held if other is not held and other.nbytes)
            first = next(others, None)
            if first is None:
                break
            self._finish(first)
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
            self.leave_out(error, held.seen.step)
        held.lost, held.nbytes = error, 0
        held.parts = {}


def _ended(held: _Held, seen: Seen, succession: Succession) -> str:
    """Return why a pass is not joined to what is held, which is right as it is; empty: it is."""
    if len(seen.tokens.ids) != held.sequences:
        return (
            f"its cache was of {held.sequences} sequences, and a pass of {len(seen.tokens.ids)} "
            "goes on from it"
        )
    if seen.step != held.seen.step:
        return "the training step, or the texts of recorder.documents(), changed within it"
    if succession.before is not None and succession.before > held.length:
        return f"its cache holds {succession.before} tokens, of which {held.length} were seen"
    return ""


def _broken(held: _Held, succession: Succession) -> str:
    """Return why a pass does not go on from exactly what is held; empty: it does."""
    if succession.before is not None and succession.before != held.length:
        return f"its cache was cut from {held.length} to {succession.before} tokens"
    left, given = held.succession.left, succession.given
    if left is not None and given is not None and not left.is_like(given):
        return "the sequences in its cache were swapped or replaced"
    return ""


def _unseen(succession: Succession) -> InvalidInput:
    return InvalidInput(
        f"a pass goes on from {succession.before or 'some'} cached tokens that were not seen as "
        "the beginning of a generation, or of which another pass went on meanwhile: enter the "
        "recorder before the first pass, and give that one use_cache=True or an empty cache; or "
        "use generate()"
    )


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


def _extends(seen: Seen, prefix: Seen) -> bool:
    ids, old = seen.tokens.ids, prefix.tokens.ids
    if len(ids) != len(old) or ids.shape[1] <= old.shape[1]:
        return False
    return torch.equal(ids[:, : old.shape[1]], old)


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
