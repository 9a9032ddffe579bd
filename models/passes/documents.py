"""Passes that are made over documents: padded batches, and the rows of their content."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from isogloss.errors import InvalidInput, IsoglossError, ShapeError
from isogloss.models.hooks import evaluating
from isogloss.models.passes.calls import Pass, PassCalls, SiteCall
from isogloss.models.passes.ids.sources import IdSource
from isogloss.models.passes.inputs import Arguments, Signature
from isogloss.models.passes.layout import (
    BATCH_FIRST,
    Axes,
    Layout,
    Sized,
    batch_first,
    unresolved,
)
from isogloss.models.passes.model_state import ModelState
from isogloss.models.passes.names import ids_parameter
from isogloss.models.passes.order_watch import OrderWatch
from isogloss.models.sites import Site, site_names
from isogloss.models.tokens import EncodedDocument

# whether padding is hidden is seen on some texts, of each some tokens: a model that chooses what to
# look at (the highest of some scores) lets padding into one row of a hundred
_TRIED_TEXTS, _TRIED, _MORE = 16, 16, 5
_SOME = 8
_SAME, _SAME_HALF = 1e-4, 2e-2  # of the norm: rounding alone is below, a model that looks above


@dataclass(frozen=True, kw_only=True)
class PassSettings:
    """How passes over documents are made."""

    forward_tokens: int
    """Most tokens of one pass, padding counted."""
    autocast: bool
    """Whether matrix products are made in bfloat16."""
    longest: int
    """Most tokens of one document."""
    pad_id: int
    """Id to fill short rows with."""
    call: int | None
    """Which of several calls of a site in one pass to read; None: there must be one."""
    layout: Axes | None
    """Axes of sequences and tokens; None: told by sizes."""


class DocumentPasses:
    """A module with hooks at its sites, fed with documents."""

    def __init__(
        self,
        module: nn.Module,
        sites: Sequence[str | Site],
        settings: PassSettings,
        device: torch.device,
    ) -> None:
        """Prepare; nothing is run.

        Args:
            module: the model.
            sites: its sites; where a width is given, the rows must have it.
            settings: how passes are made.
            device: where the inputs go.

        Raises:
            UnknownSite: a site is no submodule.
            InvalidInput: the model wants more than token ids.
        """
        self._module = module
        self._settings = settings
        self._device = device
        self._names = site_names(sites)
        self._widths = {site.name: site.width for site in sites if isinstance(site, Site)}
        self._may_trace = False
        self._calls = PassCalls(
            module, sites, call=settings.call, stop_early=True, traces=self._traces
        )
        self._orders = OrderWatch(module, self._names, is_said=settings.layout is not None)
        self._layouts = {name: Layout(name, module, settings.layout) for name in self._names}
        signature = Signature(module)
        self._arguments, self._ids_name = signature.names, ids_parameter(signature)
        self._padding_is_hidden: bool | None = None
        self._tried: tuple[int, int] | None = None
        self._state: ModelState | None = None

    def _traces(self, given: Arguments, is_training: bool) -> bool:
        return self._may_trace

    @contextmanager
    def entered(self) -> Generator[None]:
        """Hold the module ready for passes: hooked, in evaluation mode, without gradients."""
        # no inference_mode: a table that the module keeps would be of no use in a backward pass
        with torch.no_grad(), evaluating(self._module), self._calls:
            self._state = state = ModelState(self._module)
            try:
                yield
            finally:
                state.restore()
                self._state = None

    def batches(self, documents: Sequence[EncodedDocument]) -> Iterator[list[int]]:
        """Yield indices of documents of similar length, so that little is padding.

        Where the module takes no mask, or its rows depend on padding all the same, only documents
        of equal length share a pass.
        """
        lengths = [len(document.input_ids) for document in documents]
        order = [i for i, document in enumerate(documents) if document.content.any()]
        order.sort(key=lambda i: (lengths[i], i))
        differ = len({lengths[i] for i in order}) > 1
        may_pad = differ and self._may_pad([documents[i] for i in order])
        batch: list[int] = []
        for i in order:
            full = lengths[i] * (len(batch) + 1) > self._settings.forward_tokens
            other_length = bool(batch) and not may_pad and lengths[i] != lengths[batch[0]]
            if batch and (full or other_length):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def rows(self, documents: Sequence[EncodedDocument]) -> dict[str, Tensor]:
        """Run one pass and return the content rows of each site, ``[rows, width]``.

        Raises:
            ShapeError: a site gives no row for each token, or rows of another width than it should.
            InvalidInput: a site is not reached, is called several times, or reads other ids.
        """
        longest = max(len(document.input_ids) for document in documents)
        calls, ids = self._seen(documents, longest)
        longer = self._longer(calls, ids)
        if longer is not None:  # the module pads to a length of its own, behind the texts
            calls, ids = self._seen(documents, longer)
        content = np.zeros(ids.shape, dtype=np.bool_)
        for i, document in enumerate(documents):
            content[i, : len(document.content)] = document.content
        where = torch.from_numpy(content)
        return {name: self._rows(name, call, where, ids) for name, call in calls.items()}

    def _may_pad(self, documents: Sequence[EncodedDocument]) -> bool:
        """Return whether rows stay the same behind padding: seen on some texts.

        Some models look at padding in spite of the mask: convolutions over tokens, landmarks. For
        others the length of the whole batch decides what they do, such as which rotary frequencies
        or which kind of attention. So texts are also padded to the longest there is; again when
        texts come that are shorter or longer than all before.

        Args:
            documents: the shortest first.
        """
        if self._padding_is_hidden is None:
            self._padding_is_hidden = "attention_mask" in self._arguments and all(
                self._hides(ids, ids.shape[1] + _MORE) for ids in _beginnings(documents)
            )
        if not self._padding_is_hidden:
            return False
        least, most = (len(documents[i].input_ids) for i in (0, -1))
        if self._tried is None or least < self._tried[0] or most > self._tried[1]:
            tried = self._tried or (least, most)
            self._tried = least, most = min(least, tried[0]), max(most, tried[1])
            self._padding_is_hidden = all(self._hides(ids, most) for ids in _lengths(documents))
        return self._padding_is_hidden

    def _hides(self, ids: Tensor, longer: int) -> bool:
        """Return whether texts, ``[texts, tokens]``, have the same rows padded to a length."""
        texts, tokens = ids.shape
        more = max(1, min(longer, self._settings.longest) - tokens)
        padded = torch.nn.functional.pad(ids, (0, more), value=self._settings.pad_id)
        mask = torch.ones_like(ids)
        one = self._run(ids, mask)
        other = self._run(padded, torch.nn.functional.pad(mask, (0, more)))
        for name in self._names:
            calls = [done.calls.get(name) for done in (one, other)]
            if not all(calls):
                return True  # refused when its rows are read
            alone, beside = (call[0].output for call in calls if call)
            if alone.ndim > 2 and alone.shape[:2] == (tokens, texts):  # time first
                alone, beside = alone.transpose(0, 1), beside.transpose(0, 1)
            both = _are_rows(alone, texts, tokens) and _are_rows(beside, texts, tokens + more)
            if not both or alone.shape[2:] != beside.shape[2:]:
                continue  # other axes
            if self._moved(
                alone[:, :tokens].float().flatten(2), beside[:, :tokens].float().flatten(2)
            ):
                return False
        return True

    def _moved(self, alone: Tensor, beside: Tensor) -> bool:
        """Return whether a row, ``[texts, tokens, width]``, is another than that of the text alone.

        In half precision rounding moves single rows as far, so that all of them are looked at
        together.
        """
        dtype = next((p.dtype for p in self._module.parameters()), torch.float32)
        if dtype in (torch.float32, torch.float64) and not self._settings.autocast:
            moved, scale = (beside - alone).norm(dim=2), alone.norm(dim=2)
            return bool((moved > _SAME * scale).any())
        return bool((beside - alone).norm() > _SAME_HALF * alone.norm())

    def _seen(
        self, documents: Sequence[EncodedDocument], tokens: int
    ) -> tuple[dict[str, SiteCall], Tensor]:
        shape = (len(documents), tokens)
        ids = np.full(shape, self._settings.pad_id, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for i, document in enumerate(documents):
            ids[i, : len(document.input_ids)] = document.input_ids
            mask[i, : len(document.input_ids)] = 1
        given = torch.from_numpy(ids)
        is_open = any(layout.is_open for layout in self._layouts.values())
        self._may_trace = self._orders.wants([given], is_training=False) or is_open
        try:
            done = self._run(given, torch.from_numpy(mask))
        finally:
            self._may_trace = False
        if done.error is not None:
            raise done.error
        calls = {name: done.site(name, self._settings.call) for name in self._names}
        for name, call in calls.items():
            self._check_ids(name, done, call, given)
        return calls, given

    def _run(self, ids: Tensor, mask: Tensor) -> Pass:
        if self._state is not None:
            self._state.restore()
        device, inputs = self._device, dict[str, object]()
        if "attention_mask" in self._arguments:
            inputs["attention_mask"] = mask.to(device)
        if "use_cache" in self._arguments:
            inputs["use_cache"] = False
        if "decoder_input_ids" in self._arguments:  # some decoders shift nothing by themselves
            inputs["decoder_input_ids"] = ids.to(device)
        autocast = self._settings.autocast
        with torch.autocast(device.type, torch.bfloat16) if autocast else nullcontext():
            if self._ids_name is not None:
                return self._calls.run(**{self._ids_name: ids.to(device)}, **inputs)
            return self._calls.run(ids.to(device), **inputs)

    def _check_ids(self, name: str, done: Pass, call: SiteCall, given: Tensor) -> None:
        found = done.sources(name, call)
        others = [one for one in found if not torch.equal(one.ids.cpu().long(), given)]
        if call.reading.stack.is_decoder or (found and len(others) == len(found)):
            raise InvalidInput(
                f"site {name!r} reads other token ids than the documents', such as those of a "
                "decoder: its rows would carry wrong tokens; choose a site of the encoder, or "
                "record a loop of your own that gives the decoder its ids (client.record)"
            )
        may_be = [
            one
            for one in others
            if all(n in call.output.shape for n in one.ids.shape)
            and not (call.traced is not None and call.traced.is_of_others(one.ids))
        ]
        if may_be:
            raise InvalidInput(
                f"whether site {name!r} is of the documents' token ids or of {may_be[0].name!r}, "
                "which the model reads too, is not known; choose a submodule that reads one alone, "
                "or record a loop of your own (client.record)"
            )
        if self._settings.layout is None and self._is_turned(name, found, given):
            raise InvalidInput(
                f"the model seems to read token ids as [tokens, sequences]: so says batch_first of "
                f"the modules that work on them (site {name!r}); record it inside of a module "
                "whose forward takes [sequences, tokens] and turns them, or pass "
                'layout="batch_first" if it does not mix texts'
            )

    def _is_turned(self, name: str, found: Sequence[IdSource], ids: Tensor) -> bool:
        """Return whether the model takes ids for time first, and so mixes texts."""
        turns = {one.is_turned for one in found}
        if len(turns) > 1:  # as many texts as tokens
            done, _ = self._of_other_length(ids, {*ids.shape})
            call = done.site(name, self._settings.call)
            turns = {one.is_turned for one in done.sources(name, call)}
        return True in turns

    def _longer(self, calls: dict[str, SiteCall], ids: Tensor) -> int | None:
        shapes = [call.output.shape for call in calls.values()]
        may_pad = "attention_mask" in self._arguments
        if not may_pad or any(len(s) < 3 or s[0] != ids.shape[0] for s in shapes):
            return None
        lengths = {shape[1] for shape in shapes}
        return max(lengths) if len(lengths) == 1 and min(lengths) > ids.shape[1] else None

    def _rows(self, name: str, call: SiteCall, content: Tensor, ids: Tensor) -> Tensor:
        output, traced = call.output, call.traced
        size = Sized(
            sequences=ids.shape[0],
            tokens=ids.shape[1],
            places=None if traced is None else traced.places(ids.to(self._device), is_turned=False),
        )
        self._layouts[name].see_any(output.shape, [size])
        axes = self._layouts[name].axes(output.shape, *ids.shape)
        if axes is None:
            self._probe(ids, {*output.shape, *ids.shape})
            axes = self._layouts[name].axes(output.shape, *ids.shape)
        if axes is None:
            raise unresolved(name, output.shape, [size])
        self._orders.see(name, traced, [(ids.to(self._device), False)])
        found = batch_first(output, axes)
        width = self._widths.setdefault(name, found.shape[2])
        if width != found.shape[2]:
            raise ShapeError(
                f"site {name!r} gives {list(output.shape)} for tokens {list(ids.shape)}; wanted "
                f"[batch, tokens, width {width}]; choose another submodule"
            )
        return found[content.to(output.device)]

    def _probe(self, ids: Tensor, sizes: set[int]) -> None:
        """Run one sequence of a length that is no other size, to tell the axes apart."""
        done, tokens = self._of_other_length(ids, sizes)
        for name in self._names:
            call = done.site(name, self._settings.call)
            self._layouts[name].see(call.output.shape, 1, tokens)

    def _of_other_length(self, ids: Tensor, sizes: set[int]) -> tuple[Pass, int]:
        tokens = next(n for n in range(2, len(sizes) + 3) if n not in sizes)
        one = ids[:1].repeat(1, -(-tokens // ids.shape[1]))[:, :tokens]
        try:
            done = self._run(one, torch.ones_like(one))
        except IsoglossError:
            raise
        except Exception as error:  # of a model that takes texts of one length alone
            raise InvalidInput(
                f"which axes of a site's output are texts and tokens cannot be told, since the "
                f"model fails on a text of {tokens} tokens ({type(error).__name__}); pass "
                'layout="batch_first" if it is [sequences, tokens, width], or give texts of '
                "another length"
            ) from error
        if done.error is not None:
            raise done.error
        return done, tokens


def _are_rows(output: Tensor, texts: int, tokens: int) -> bool:
    """Return whether an output is ``[texts, tokens, ...]``, maybe padded by the model."""
    return output.ndim > 2 and output.shape[0] == texts and output.shape[1] >= tokens


def _beginnings(documents: Sequence[EncodedDocument]) -> list[Tensor]:
    """Return the first tokens of some documents, ``[texts, tokens]`` for each number of tokens."""
    some = [documents[i * len(documents) // _TRIED_TEXTS] for i in range(_TRIED_TEXTS)]
    found: dict[int, dict[bytes, Tensor]] = {}
    for document in some:
        ids = document.input_ids[:_TRIED]
        found.setdefault(len(ids), {})[ids.tobytes()] = torch.from_numpy(ids)
    return [torch.stack([*texts.values()]) for texts in found.values()]


def _lengths(documents: Sequence[EncodedDocument]) -> list[Tensor]:
    """Return some documents of unlike lengths, ``[1, tokens]`` each, but none of the longest.

    Args:
        documents: the shortest first.
    """
    lengths = np.array([len(document.input_ids) for document in documents])
    shorter = int((lengths < lengths[-1]).sum())
    some = int((lengths < min(_SOME, lengths[-1] - 1)).sum())  # one token has nothing to look at
    places = {0, some, shorter // 3, 2 * shorter // 3, shorter - 1}
    found = {int(lengths[i]): documents[i].input_ids for i in sorted(places) if 0 <= i < shorter}
    return [torch.from_numpy(ids)[None] for ids in found.values()]


__all__ = ["BATCH_FIRST", "DocumentPasses", "PassSettings"]
