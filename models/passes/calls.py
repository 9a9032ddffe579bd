"""The calls of sites within a pass of the model, each with the token ids that its stack read.

A model may hold several stacks that read ids: an encoder and a decoder, or one encoder that runs
once for each of two inputs. A site's rows are of the ids that the innermost stack around it read in
that very call.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from isogloss.errors import Conflict, InvalidInput
from isogloss.models.elements.containers import first_tensor
from isogloss.models.elements.rows import refuse_pattern, refuse_pattern_name
from isogloss.models.execution import compiler_is_loaded, hooked_execution
from isogloss.models.passes.axes.tables import TracedAxes
from isogloss.models.passes.axes.trace import AxisTrace
from isogloss.models.passes.direct import around_forward, calls_forward_itself
from isogloss.models.passes.generation.caches import cache_in, cache_state
from isogloss.models.passes.ids.embeddings import embeddings
from isogloss.models.passes.ids.sources import (
    Embedded,
    IdSource,
    Ordered,
    Reading,
    sources,
)
from isogloss.models.passes.ids.stacks import Stack, stacks_around
from isogloss.models.passes.inputs import Arguments, Copies, are_whole_numbers
from isogloss.models.passes.layout import numbers
from isogloss.models.sites import Site, site_names, submodule

_PreHook = Callable[[nn.Module, tuple[object, ...], Mapping[str, object]], None]
_Hook = Callable[[nn.Module, tuple[object, ...], object], None]


class _Stop(BaseException):
    """Ends a pass; not an Exception, so that a model's own handlers let it through.

    It carries the pass: what runs when a pass fails, such as the code around a ``forward`` that is
    called directly, may have let go of it by the time this arrives.
    """

    def __init__(self, broken_off: "Pass") -> None:
        super().__init__()
        self.broken_off = broken_off


@dataclass(frozen=True, kw_only=True, eq=False)
class SiteCall:
    """One call of a site."""

    output: Tensor
    """A detached copy, on the model's device."""
    reading: Reading
    """The innermost call around it that reads ids."""
    before: int
    """How many calls of embeddings the pass had made when it ran."""
    embedding: str | None
    """Its path, where it is an embedding of tokens itself."""
    traced: TracedAxes | None
    """What was followed to its output; None: nothing was."""


@dataclass(kw_only=True, eq=False)
class Pass:
    """One pass of the model."""

    root: Reading
    is_training: bool
    copies: Copies
    open: list[Reading] = field(default_factory=list[Reading])
    """The calls that read ids and run now, outermost first."""
    calls: dict[str, deque[SiteCall]] = field(default_factory=dict[str, deque[SiteCall]])
    counts: dict[str, int] = field(default_factory=dict[str, int])
    error: Exception | None = None
    """The first thing that could not be read."""
    embedded: dict[str, int] = field(default_factory=dict[str, int])
    """How often each embedding of tokens was called."""
    ordered: set[Ordered] = field(default_factory=set[Ordered])
    """Calls that tell which axis is the batch."""
    trace: AxisTrace | None = None
    """Follows the axes of ids, where they are not known from earlier passes."""

    def end_trace(self) -> None:
        """Follow no more operations."""
        if self.trace is not None:
            self.trace.end()

    def sources(self, name: str, call: SiteCall) -> list[IdSource]:
        """Return the token ids that the rows of a site's call may be of; empty: none are known.

        Args:
            name: of the site.
            call: the one that was chosen.
        """
        return sources(name, call.reading, call.before, self.ordered, call.embedding)

    def site(self, name: str, call: int | None) -> SiteCall:
        """Return the call of a site that was chosen.

        Args:
            name: of the site.
            call: which of several calls, from 0, or from -1 backwards; None: there must be one.

        Raises:
            InvalidInput: the site was not reached, or was called another number of times.
        """
        count = self.counts.get(name, 0)
        if not count:
            raise InvalidInput(
                f"site {name!r} was not reached in this pass; choose one that every pass runs"
            )
        if call is None and count > 1:
            raise InvalidInput(
                f"site {name!r} was called {count} times in one pass; choose one of the calls with "
                f"call=, from 0 to {count - 1}, or -1 for the last"
            )
        wanted = count if call is None else (call + 1 if call >= 0 else -call)
        if count < wanted:
            raise InvalidInput(
                f"site {name!r} was called {count} times in one pass, and call is {call}; choose "
                f"from 0 to {count - 1}"
            )
        return self.calls[name][0]


class PassCalls:
    """Hooks on a model that collect the calls of its sites, pass by pass.

    A pass is a call of the model, or of a stack in it that reads token ids, used by itself. What
    runs outside is left alone: layers that are run again in the backward pass, or called by
    themselves. A pass of the model inside of a pass is a pass of its own.
    """

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[str | Site],
        *,
        call: int | None = None,
        on_pass: Callable[[Pass | None], None] | None = None,
        stop_early: bool = False,
        traces: Callable[[Arguments, bool], bool] | None = None,
    ) -> None:
        """Prepare; the hooks are set when this is entered.

        Args:
            module: the model.
            sites: its sites.
            call: which call of a site in one pass to keep; None: the first.
            on_pass: called at the end of each pass; with None if the module ran within itself.
            stop_early: end passes started with :meth:`run` behind the last site.
            traces: whether to follow the axes of ids through the pass that begins with these
                arguments, in training mode or not; it costs some microseconds an operation. None:
                in none.

        Raises:
            UnknownSite: a site is no submodule.
        """
        self._module = module
        for name in site_names(sites):
            refuse_pattern_name(name)
        self._sites = {name: submodule(module, name) for name in site_names(sites)}
        self._embeddings = embeddings(module)
        paths = [path for path, is_of_tokens in self._embeddings.values() if is_of_tokens]
        self._stacks = stacks_around(module, self._sites.values(), paths)
        self._call = call
        self._on_pass = on_pass
        self._stop_early = stop_early
        self._traces = traces or _never
        self._calls_to_stop_at: int | None = None
        self._may_stop = False
        self._thread = threading.local()
        self._context: ExitStack | None = None
        self._compiler_was_loaded = False
        self._calls_outside = 0

    def __enter__(self) -> "PassCalls":
        if self._context is not None:
            raise Conflict("these hooks are set already; make a second reader")
        with ExitStack() as stack:
            self._compiler_was_loaded = compiler_is_loaded()
            stack.enter_context(hooked_execution(self._module))
            self._set_hooks(stack)
            self._context = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        context, self._context = self._context, None
        if self._now is not None:  # a pass was broken off
            self._now.end_trace()
        self._thread = threading.local()
        if context is not None:
            context.close()

    @property
    def why_unseen(self) -> str:
        """Why passes may have run unseen, and what to do; empty: there is no sign of any."""
        if compiler_is_loaded() and not self._compiler_was_loaded:
            return (
                "torch.compile was first used while recording, and what it made has no hooks; "
                "compile the model before the recorder is entered"
            )
        if self._calls_outside:
            return (
                f"sites ran {self._calls_outside} times outside of a call of the model; call the "
                "model, or the wrapper that was given, not its forward or layers"
            )
        return ""

    def run(self, *args: object, **inputs: object) -> Pass:
        """Run a pass of the model and return its calls.

        With ``stop_early`` the first pass is complete and counts the calls; later ones are broken
        off after as many.

        Args:
            *args: given to the module.
            **inputs: given to the module.

        Raises:
            InvalidInput: the pass was not seen: something bypasses the module's hooks.
        """
        self._may_stop = self._calls_to_stop_at is not None
        self._thread.ended = None
        try:
            self._module(*args, **inputs)
            done = self._thread.ended
        except _Stop as stop:
            done = stop.broken_off
        finally:
            if self._now is not None:
                self._now.end_trace()
            self._may_stop = False
            self._thread.now = self._thread.ended = None
        if not isinstance(done, Pass):
            raise InvalidInput("the module's own passes were not seen: its hooks did not run")
        if self._stop_early:
            self._calls_to_stop_at = sum(done.counts.values()) or None
        return done

    def _set_hooks(self, stack: ExitStack) -> None:
        for name, module in self._sites.items():
            stack.callback(module.register_forward_hook(self._at_site(name)).remove)
        for module, told in self._embeddings.items():
            hook = module.register_forward_pre_hook(self._at_embedding(*told), with_kwargs=True)
            stack.callback(hook.remove)
        for path, module in self._module.named_modules():
            if isinstance(getattr(module, "batch_first", None), bool):
                hook = module.register_forward_pre_hook(self._at_ordered(path), with_kwargs=True)
                stack.callback(hook.remove)
        for module, found in self._stacks.items():
            if module is self._module and calls_forward_itself(module):
                stack.enter_context(
                    around_forward(
                        module, self._beginning(found), self._ending(found), self._closing(found)
                    )
                )
                continue
            before = self._beginning(found)
            handle = module.register_forward_pre_hook(before, with_kwargs=True)
            stack.callback(handle.remove)
            stack.callback(module.register_forward_hook(self._ending(found)).remove)
            closing = module.register_forward_hook(self._closing(found), always_call=True)
            stack.callback(closing.remove)

    @property
    def _now(self) -> Pass | None:
        return getattr(self._thread, "now", None)

    # Hooks are functions: a copy of the model made meanwhile shares them, and copies nothing here.

    def _beginning(self, stack: Stack) -> _PreHook:
        def begins(
            module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
        ) -> None:
            if not self._is_own(module, stack):
                return
            now = self._now
            if now is None or not stack.name:
                # the outermost stack that runs makes a pass; the model within itself a new one
                if now is not None:
                    now.end_trace()
                self._thread.now = self._begun(module, stack, stack.signature.bind(args, kwargs))
                return
            given = stack.signature.bind(args, kwargs).copied(now.copies)
            reading = _reading(stack, given, now.open[-1])
            now.open.append(reading)
            pair = next((r for r in reversed(now.open[:-1]) if r.is_pair), None)
            if stack.is_decoder and pair is not None:
                pair.decoder = reading

        return begins

    def _begun(self, module: nn.Module, stack: Stack, given: Arguments) -> Pass:
        copies = Copies()
        root = _reading(stack, given.copied(copies), None)
        begun = Pass(root=root, is_training=module.training, copies=copies, open=[root])
        if self._traces(given, module.training):
            begun.trace = AxisTrace()
            for name, ids in given.tables.items():
                begun.trace.name(ids, root.arguments.tables[name])
            begun.trace.begin()
        return begun

    def _ending(self, stack: Stack) -> _Hook:
        def ends(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            now = self._now
            is_outermost = now is None or now.root.stack is stack
            if is_outermost and self._is_own(module, stack) and (now or not stack.name):
                self._thread.now = None
                if now is not None:
                    now.end_trace()
                    now.root.returned = cache_in(output)
                if self._on_pass is None:
                    self._thread.ended = now
                else:
                    self._on_pass(now)

        return ends

    def _closing(self, stack: Stack) -> _Hook:
        def closes(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            now = self._now
            if now is None or not self._is_own(module, stack):
                return
            if now.root.stack is stack:  # it has failed
                now.end_trace()
                self._thread.now = None
            elif any(found.stack is stack for found in now.open):
                while (closed := now.open.pop()).stack is not stack:
                    pass
                closed.returned = cache_in(output)
                if closed.is_pair:  # what comes behind it works on what the decoder gave
                    now.open[-1].is_pair, now.open[-1].decoder = True, closed.decoder

        return closes

    def _is_own(self, module: nn.Module, stack: Stack) -> bool:
        """Return whether a call is one of the model's, not of a copy or of the backward pass."""
        if torch.compiler.is_compiling() or _in_backward():
            return False
        own = self._stacks.get(module)
        return own is stack or hasattr(module, "_is_replica")  # of DataParallel

    def _at_embedding(self, path: str, is_of_tokens: bool) -> _PreHook:
        def reads(
            module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
        ) -> None:
            now, ids = self._now, _first_given(args, kwargs)
            if now is None or ids is None or not are_whole_numbers(ids):
                return
            number, count = sum(now.embedded.values()), now.embedded.get(path, 0)
            now.embedded[path] = count + 1
            size: object = getattr(module, "num_embeddings", None)
            call = Embedded(
                path=path,
                name=f"{path}, call {count}" if count else path,
                number=number,
                ids=cast("Tensor", now.copies.of(ids)),
                size=size if isinstance(size, int) else None,
                is_of_tokens=is_of_tokens,
            )
            for reading in now.open:
                reading.embedded.append(call)

        return reads

    def _at_ordered(self, path: str) -> _PreHook:
        def tells(
            module: nn.Module, args: tuple[object, ...], kwargs: Mapping[str, object]
        ) -> None:
            now, states = self._now, _first_given(args, kwargs)
            if now is not None and states is not None and states.ndim == 3:
                is_first, sizes = bool(module.batch_first), (states.shape[0], states.shape[1])
                traced = None if now.trace is None else now.trace.traced(states)
                label = None if traced is None else traced.labels[0]
                axis = None if label is None else label.axis
                now.ordered.add(Ordered(name=path, batch_first=is_first, sizes=sizes, axis=axis))

        return tells

    def _at_site(self, name: str) -> _Hook:
        def read(module: nn.Module, args: tuple[object, ...], output: object) -> None:
            if torch.compiler.is_compiling() or _in_backward():
                return
            now = self._now
            if now is None:
                self._calls_outside += 1
                return
            now.counts[name] = now.counts.get(name, 0) + 1
            try:
                self._keep(now, name, output)
            except Exception as error:  # the caller of the module is not disturbed
                now.error = now.error or error
            if self._may_stop and sum(now.counts.values()) == self._calls_to_stop_at:
                raise _Stop(now)

        return read

    def _keep(self, now: Pass, name: str, output: object) -> None:
        which, call = now.counts[name] - 1, self._call
        calls = now.calls.setdefault(name, deque(maxlen=1 if call is None else max(1, -call)))
        if call is None and which:
            calls.clear()  # refused at the end of the pass
        elif call is None or call < 0 or which == call:
            reading = now.open[-1]
            if reading.is_pair:
                reading = _of_decoder(reading, name)
            # a copy: the layers behind may write into the tensor in place (residual adds do)
            _check_padded(output, name)
            given = first_tensor(output, name)
            traced = None if now.trace is None else now.trace.traced(given)
            copy = numbers(given.detach(), name).clone()
            refuse_pattern(copy, name)
            read = sum(now.embedded.values())
            path, _ = self._embeddings.get(self._sites[name], (None, False))
            calls.append(
                SiteCall(output=copy, reading=reading, before=read, embedding=path, traced=traced)
            )


def _never(given: Arguments, is_training: bool) -> bool:
    return False


def _reading(stack: Stack, arguments: Arguments, outer: Reading | None) -> Reading:
    found = Reading(stack=stack, arguments=arguments, outer=outer, is_pair=stack.is_pair)
    if arguments.cache is not None:  # read now: the pass will write into it
        same = outer is not None and outer.arguments.cache is arguments.cache
        found.given = outer.given if outer is not None and same else cache_state(arguments.cache)
    return found


def _of_decoder(pair: Reading, name: str) -> Reading:
    if pair.decoder is None:
        raise InvalidInput(
            f"site {name!r} runs outside of the encoder and the decoder: which ids its rows are of "
            "is not known; choose a submodule of one of them"
        )
    return pair.decoder


def _check_padded(output: object, name: str) -> None:
    """Refuse the packed sequences that recurrent modules of torch give for packed ones."""
    is_tuple = isinstance(output, tuple) and not isinstance(output, PackedSequence)
    first = next(iter(cast("tuple[object, ...]", output)), None) if is_tuple else output
    if isinstance(first, PackedSequence):
        raise InvalidInput(
            f"site {name!r} gives a PackedSequence, whose rows are sorted by time; choose the "
            "module behind pad_packed_sequence, or give it padded texts"
        )


def _first_given(args: tuple[object, ...], kwargs: Mapping[str, object]) -> Tensor | None:
    """Return the first tensor of a call; None: it has none, or is traced or run again."""
    if torch.compiler.is_compiling() or _in_backward():
        return None
    return next((value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)), None)


def _in_backward() -> bool:
    return torch._C._current_graph_task_id() != -1  # -1 outside of a backward pass


__all__ = ["Pass", "PassCalls", "SiteCall"]
