"""Give the rows of each forward pass of a live module, with the token that each row is of."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isogloss.errors import InvalidInput, IsoglossError, ShapeError
from isogloss.models.passes.axes.tables import TracedAxes
from isogloss.models.passes.calls import Pass, PassCalls, SiteCall
from isogloss.models.passes.content import SpecialTokens, Tokens, refuse_packed
from isogloss.models.passes.generation.caches import cache_state
from isogloss.models.passes.generation.generations import Generations, Seen, Succession
from isogloss.models.passes.generation.running import running_generation
from isogloss.models.passes.ids.choice import checked_ids, chosen_ids, merged_sources, not_aligned
from isogloss.models.passes.ids.sources import IdSource
from isogloss.models.passes.inputs import Arguments
from isogloss.models.passes.layout import (
    BATCH_FIRST,
    Axes,
    Layout,
    Sized,
    batch_first,
    own_length,
    unresolved,
    without_own_padding,
)
from isogloss.models.passes.masks import Kept, has_mask, kept_tokens
from isogloss.models.passes.order_watch import OrderWatch
from isogloss.models.wrappers import unwrapped
from isogloss.short_repr import short_repr

_log = logging.getLogger(__name__)

_TRACED = 8
"""Passes in which axes are followed at most: what these do not tell is not told at all."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PassRows:
    """The rows of whole documents that a module read, in the order of the documents."""

    sites: Mapping[str, Tensor]
    """Activations of each site, ``[rows, width]``: detached copies on the module's device, or on
    the CPU where passes were held back."""
    token_id: NDArray[np.uint32]
    """``[rows]``."""
    position: NDArray[np.uint32]
    """Place of each row among the rows of its document, from 0, ``[rows]``."""
    document_index: NDArray[np.int64]
    """For each row the index of its document in ``documents``, ``[rows]``, ascending."""
    documents: tuple[NDArray[np.int64], ...]
    """Token ids of each document, padding left out and special tokens kept: what names it."""
    is_training: bool = False
    """Whether the module was in training mode."""
    passes: int = 1
    """How many forward passes are in it: several for generated documents."""
    step: int = 0
    """What ``step`` of the reader returned when the first of these passes began."""

    __repr__ = short_repr

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.token_id)


@dataclass(kw_only=True, eq=False)
class _Option:
    """Ids that the rows of a pass may be of, with what they say of the pass."""

    source: IdSource
    told: tuple[Tokens, Succession] | IsoglossError


@dataclass(kw_only=True, eq=False)
class _Waiting:
    """A pass of which it may not be known yet on which axes its outputs are, and of which ids."""

    options: list[_Option]
    sources: dict[str, list[int]]
    """For each site the options among which its own is."""
    sized: dict[str, list[Sized]]
    """For each site the sizes of the ids that its rows may be of."""
    outputs: dict[str, Tensor]
    step: int
    is_training: bool

    @property
    def nbytes(self) -> int:
        return sum(output.nbytes for output in self.outputs.values())


class PassReader:
    """Reads each forward pass of a module while it is entered.

    Each sequence of a pass is a document. Its rows are the positions that the attention mask keeps,
    without special tokens. The passes of a generation make one document of each sequence. A pass
    whose rows cannot be told with certainty is left out, with an error that says why; passes before
    and after it are taken.

    Nothing is run, and the module is as before when the reader is left. Meanwhile what is compiled
    runs eagerly: compiled code does not know the reader's hooks.
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[str],
        *,
        take: Callable[[PassRows], None],
        leave_out: Callable[[Exception], None],
        special_ids: Iterable[int] = (),
        pad_id: int | None = None,
        call: int | None = None,
        layout: Literal["batch_first"] | None = None,
        ids: str | None = None,
        held_bytes: int = 256 << 20,
        step: Callable[[], int] | None = None,
        lose: Callable[[int | None], None] | None = None,
    ) -> None:
        """Make a reader; it sets its hooks when it is entered.

        Args:
            module: the live module, or a wrapper of it (compiled, distributed, nnsight's); its
                forward pass takes token ids ``[sequences, tokens]``.
            sites: names of submodules.
            take: called in the thread that runs the module with the rows of documents. What it
                raises reaches the caller of the module.
            leave_out: called in that thread, once for each pass that is left out, with the error
                for which it is. What it raises reaches the caller of the module.
            special_ids: ids of the special tokens, of which no rows are given.
            pad_id: id of padding, for passes without a mask; None: not known.
            call: which call to read of a site that is called several times in one pass, from 0, or
                from -1 backwards; None: such a pass is left out.
            layout: ``batch_first``: outputs are ``[sequences, tokens, width]``. None: sizes and
                operations tell, and a pass of which neither does waits for one that tells.
            ids: argument of the forward pass whose ids all sites work on; None: it is told.
            held_bytes: most bytes of passes that wait for others (generation, layout).
            step: gives the training step, called when a pass ends; None: always 0.
            lose: called before ``leave_out`` with what ``step`` gave for that pass, which another
                thread may have made; with None where a pass of this thread failed before that.

        Raises:
            UnknownSite: a site is no submodule; the message lists the nearest names.
            InvalidInput: an argument cannot be used.
        """
        _check(layout, held_bytes)
        self._module, self._sites = unwrapped(module), tuple(sites)
        self._ids = checked_ids(self._module, ids)
        self._take_rows, self._leave_out, self._lose = take, leave_out, lose
        self._special, self._pad_id = SpecialTokens(special_ids), pad_id
        self._call, self._held_bytes, self._step = call, held_bytes, step
        self._calls = PassCalls(
            self._module, sites, call=call, on_pass=self._ended, traces=self._traces
        )
        self._is_batch_first = layout is not None
        fixed = BATCH_FIRST if layout else None
        self._layouts = {name: Layout(name, self._module, fixed) for name in self._sites}
        self._waiting, self._generations = deque[_Waiting](), self._joined()
        self._widths: dict[str, int] = {}
        self._passes = self._traced = 0
        self._orders = OrderWatch(self._module, self._sites, is_said=layout is not None)
        self._has_warned = self._has_said_turned = False
        self._lock = threading.RLock()

    def _joined(self) -> Generations:
        return Generations(
            take=self._take,
            leave_out=self._left_out,
            special=self._special,
            end_ids=_end_ids(self._module),
            held_bytes=self._held_bytes,
            pad_id=self._pad_id,
        )

    @property
    def widths(self) -> dict[str, int]:
        """Numbers per row of each site; empty until rows were given."""
        return dict(self._widths)

    def __enter__(self) -> "PassReader":
        self._calls.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the hooks, and give on or leave out the passes that wait."""
        self._calls.__exit__(kind, error, trace)
        with self._lock:
            self._drain(is_over=True)
            self._generations.finish()
            why = "" if self._passes else self._calls.why_unseen
            if why:
                self._leave_out(InvalidInput(f"no pass was seen: {why}"))

    def _ended(self, done: Pass | None) -> None:
        with self._lock:
            self._passes += 1
            try:
                seen = self._seen(done)
            except Exception as error:  # whatever a model does, its caller is not disturbed
                self._left_out(_as_ours(error), None)
                return
            self._waiting.append(seen)
            self._drain()

    def _left_out(self, error: Exception, step: int | None) -> None:
        if self._lose is not None:
            self._lose(step)
        self._leave_out(error)

    def _traces(self, given: Arguments, is_training: bool) -> bool:
        """Return whether the axes of ids are followed in the pass that begins: seldom."""
        is_open = self._traced < _TRACED and any(one.is_open for one in self._layouts.values())
        is_wanted = self._orders.wants(given.tables.values(), is_training=is_training) or is_open
        self._traced += is_wanted
        return is_wanted

    def _seen(self, done: Pass | None) -> _Waiting:
        if done is None:
            raise InvalidInput("the module ran within itself: the passes inside are read")
        if done.error is not None:
            raise done.error
        calls = {name: done.site(name, self._call) for name in self._sites}
        found = {name: self._sources(done, name, call) for name, call in calls.items()}
        merged, places = merged_sources(found)
        options = [self._option(done, source) for source in merged]
        if len(options) == 1 and isinstance(options[0].told, IsoglossError):
            raise options[0].told
        outputs = {name: call.output for name, call in calls.items()}
        if len(options) == 1 and not merged[0].is_turned:
            sizes = merged[0].sizes
            own = own_length(self._module, sizes[1])
            outputs = {
                name: without_own_padding(output, *sizes, own) for name, output in outputs.items()
            }
        seen = _Waiting(
            options=options,
            sources=places,
            sized={
                name: _sized([merged[i] for i in some], calls[name].traced)
                for name, some in places.items()
            },
            outputs=outputs,
            step=0,
            is_training=done.is_training,
        )
        for name, output in outputs.items():
            self._layouts[name].see_any(output.shape, seen.sized[name])
            some = [(one.ids, one.is_turned) for one in found[name]]
            self._orders.see(name, calls[name].traced, some)
        seen.step = 0 if self._step is None else self._step()
        return seen

    def _sources(self, done: Pass, name: str, call: SiteCall) -> list[IdSource]:
        found = done.sources(name, call)
        if self._ids is not None:
            found = chosen_ids(self._ids, name, done.root, call.traced, found)
        if self._is_batch_first:  # the user says so
            found = [source for source in found if not source.is_turned] or [
                replace(source, is_turned=False) for source in found
            ]
        if not found:
            raise ShapeError(
                f"the forward pass took {call.reading.arguments.odd_ids} for token ids, wanted "
                "input_ids [sequences, tokens] of whole numbers, by name or as the first argument; "
                "a part that works on pictures or sounds has no token ids, and no rows"
            )
        return found

    def _option(self, done: Pass, source: IdSource) -> _Option:
        try:
            arguments, ids = source.masked(), source.rows.to("cpu", torch.int64)
            given = source.reading.cached(source.ids).given
            before = None if given is None else given.tokens
            kept = kept_tokens(arguments, ids, before=before, pad_id=self._pad_id)
            refuse_packed(source.reading.arguments, kept.keep)
            tokens = self._special.tokens(ids, kept.keep)
            told = tokens, self._progress(done, source, kept)
        except Exception as error:  # told when these ids are found to be those of the rows
            return _Option(source=source, told=_as_ours(error))
        return _Option(source=source, told=told)

    def _warn_once(self, source: IdSource) -> None:
        is_told = has_mask(source.masked()) or self._pad_id is not None or bool(self._special)
        if is_told or self._has_warned or min(source.ids.shape) == 1:
            return
        self._has_warned = True
        _log.warning(
            "there is no attention mask and no tokenizer: if the texts are padded, padding is "
            "recorded as text; give attention_mask, or the tokenizer"
        )

    def _progress(self, done: Pass, source: IdSource, kept: Kept) -> Succession:
        given, cache = source.reading.cached(source.ids).given, source.reading.left(source.ids)
        before = None if given is None else given.tokens
        if before is None:
            before = kept.before
            if not before and given is not None and not given.is_empty:
                before = None
        quiet = not torch.is_grad_enabled()
        running = running_generation() if quiet else None
        if running is None:  # there the mask is left out where it hides nothing
            self._warn_once(source)
        may_go_on = running is not None or given is not None or _asks_for_cache(done, source)
        return Succession(
            before=before,
            given=given,
            left=None if cache is None else cache_state(cache),
            may_go_on=quiet and may_go_on,
            is_quiet=quiet,
            thread=threading.get_ident(),
            running=running,
        )

    def _drain(self, *, is_over: bool = False) -> None:
        """Give on the passes of which all is known, in their order."""
        while self._waiting:
            first = self._waiting[0]
            try:
                ways = {
                    name: self._layouts[name].choose(output.shape, first.sized[name])
                    for name, output in first.outputs.items()
                }
                open_name = next((name for name, found in ways.items() if found is None), None)
                if open_name is not None and not is_over and self._has_room():
                    return
                self._waiting.popleft()
                if open_name is not None:
                    raise self._unresolved(first, open_name)
                known = {name: way for name, way in ways.items() if way is not None}
            except ShapeError as error:
                if self._waiting and self._waiting[0] is first:
                    self._waiting.popleft()
                self._left_out(error, first.step)
                continue
            self._give(first, known)

    def _give(self, first: _Waiting, ways: Mapping[str, tuple[int, Axes]]) -> None:
        chosen = {name: first.sources[name][place] for name, (place, _) in ways.items()}
        (name, which), *others = chosen.items()
        odd = next((other for other, place in others if place != which), None)
        told = not_aligned(name, odd) if odd is not None else first.options[which].told
        if isinstance(told, IsoglossError):
            self._left_out(told, first.step)
            return
        outputs = {
            name: batch_first(output, ways[name][1]) for name, output in first.outputs.items()
        }
        tokens, succession = told
        self._say_turned(first.options[which].source)
        seen = Seen(tokens=tokens, outputs=outputs, step=first.step, is_training=first.is_training)
        self._generations.add(seen, succession)

    def _say_turned(self, source: IdSource) -> None:
        if source.is_turned and not self._has_said_turned:
            self._has_said_turned = True
            _log.warning(
                "token ids %r are read as [tokens, sequences]: so says batch_first of the modules "
                "that work on them; if they are [sequences, tokens], the model mixes texts",
                source.name,
            )

    def _has_room(self) -> bool:
        """Move the newest waiting pass to the CPU; False if there are too many bytes."""
        last = self._waiting[-1]
        last.outputs = {name: output.cpu() for name, output in last.outputs.items()}
        held = sum(waiting.nbytes for waiting in self._waiting) + self._generations.nbytes
        return held <= self._held_bytes

    def _unresolved(self, waiting: _Waiting, name: str) -> ShapeError:
        names = {waiting.options[i].source.name for i in waiting.sources[name]}
        return unresolved(name, waiting.outputs[name].shape, waiting.sized[name], sorted(names))

    def _take(self, seen: Seen) -> None:
        content = seen.tokens.content
        widths = {name: output.shape[2] for name, output in seen.outputs.items()}
        known = self._widths or widths
        odd = next((name for name in self._sites if widths[name] != known[name]), None)
        if odd is not None:
            error = ShapeError(
                f"site {odd!r} gives width {widths[odd]}, and {known[odd]} in earlier passes; "
                "choose a submodule of one width"
            )
            for _ in range(seen.passes):
                self._left_out(error, seen.step)
            return
        self._widths = widths
        self._take_rows(
            PassRows(
                sites={name: _rows(output, content) for name, output in seen.outputs.items()},
                token_id=seen.tokens.token_id,
                position=seen.tokens.position,
                document_index=seen.tokens.document_index,
                documents=seen.tokens.documents,
                is_training=seen.is_training,
                passes=seen.passes,
                step=seen.step,
            )
        )


def _check(layout: str | None, held_bytes: int) -> None:
    if layout not in (None, "batch_first"):
        raise InvalidInput(f"layout is {layout!r}, wanted 'batch_first' or None")
    if held_bytes < 0:
        raise InvalidInput(f"held_bytes is {held_bytes}, it must be at least 0")


def _rows(output: Tensor, content: Tensor) -> Tensor:
    if bool(content.all()):
        return output.flatten(0, 1)
    return output[content.to(output.device)]


def _sized(some: Sequence[IdSource], traced: TracedAxes | None) -> list[Sized]:
    """Return the sizes of the ids that rows of a call may be of, and what was followed."""
    return [
        Sized(
            sequences=one.sizes[0],
            tokens=one.sizes[1],
            source=one.name if one.is_choice else None,
            is_turned=one.is_turned,
            places=None if traced is None else traced.places(one.ids, is_turned=one.is_turned),
            is_other=traced is not None and traced.is_of_others(one.ids),
        )
        for one in some
    ]


def _as_ours(error: Exception) -> IsoglossError:
    if isinstance(error, IsoglossError):
        return error
    return InvalidInput(f"a pass could not be read: {type(error).__name__}: {error}")


def _asks_for_cache(done: Pass, source: IdSource) -> bool:
    readings = [*done.open, *source.chain]
    return any(found.arguments.named.get("use_cache") is True for found in readings)


def _end_ids(module: nn.Module) -> frozenset[int]:
    """Return the ids behind which generation pads, where the model's configuration tells."""
    found: set[int] = set()
    for holder in (getattr(module, "generation_config", None), getattr(module, "config", None)):
        ids = getattr(holder, "eos_token_id", None)
        found |= {i for i in (ids if isinstance(ids, list) else [ids]) if isinstance(i, int)}
    return frozenset(found)


__all__ = ["PassReader", "PassRows"]
