"""One forward pass in which each reader of the residual stream reads something of its own."""

from collections.abc import Callable, Sequence
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from isogloss.models.circuits.edges import HeadRead
from isogloss.models.circuits.stream import Layer, Norm, ResidualStream
from isogloss.models.hooks import evaluating, splice
from isogloss.models.patching.metrics import last_logits
from isogloss.models.sites import submodule

_HEAD_PARTS: tuple[HeadRead, ...] = ("q", "k", "v")


@runtime_checkable
class StreamWatch(Protocol):
    """What is told of each writer, and says what is added to what each reader reads."""

    def wrote(self, writer: int, output: Tensor) -> None:
        """Take what a writer added, ``[texts, tokens, width]``, in the order of writers."""
        ...

    def added(self, readers: Sequence[int]) -> Tensor | None:
        """Return what some readers read beside the stream, ``[readers, texts, tokens, width]``.

        None: nothing, so that they read as the model has it, to the bit.
        """
        ...


def edge_pass(
    stream: ResidualStream, ids: Tensor, watch: StreamWatch, start: Tensor | None = None
) -> Tensor:
    """Run a model and return its logits at the last position, ``[texts, vocabulary]``.

    A reader's input is normed and projected by itself: heads that one projection serves read
    different things.

    Args:
        stream: the model's.
        ids: ``[texts, tokens]``.
        watch: sees writers, and changes what readers read.
        start: what takes the place of the embedding's output; None: it stays.
    """
    changes: dict[str, Callable[[Tensor], Tensor]] = {}

    def begin(x: Tensor) -> Tensor:
        x = x if start is None else start
        watch.wrote(0, x)
        return x

    def end(x: Tensor) -> Tensor:
        added = watch.added([len(stream.edges.readers) - 1])
        return x if added is None else x + added[0]

    changes[f"{stream.paths[0]}.input"] = begin
    for i in range(len(stream.layers)):
        changes |= _LayerPass(stream, i, watch).changes()
    changes[stream.paths[-1]] = end
    with evaluating(stream.root), splice(stream.root, changes):
        return last_logits(stream.root, ids)


class _LayerPass:
    """What becomes of one layer in a pass."""

    def __init__(self, stream: ResidualStream, number: int, watch: StreamWatch) -> None:
        self._stream, self._number, self._watch = stream, number, watch
        self._layer: Layer = stream.layers[number]
        self._read: dict[str, Tensor] = {}

    def changes(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """Return what replaces what passes each site of the layer."""
        layer = self._layer
        found: dict[str, Callable[[Tensor], Tensor]] = {}
        for norm in (layer.attention_norm, layer.mlp_norm):
            if norm is not None and norm.path is not None:
                found[norm.site] = self._keeper(norm.site)
        for path in dict.fromkeys(layer.heads.sources[part].path for part in _HEAD_PARTS):
            site = f"{layer.heads.path}.{path}"
            if layer.attention_norm.site == f"{site}.input":
                found[f"{site}.input"] = self._keeper(f"{site}.input")
            found[site] = self._projected(path)
        found[f"{layer.out}.input"] = self._heads_wrote
        if layer.mlp is not None:
            found[f"{layer.mlp}.input"] = self._mlp_reads
            found[layer.mlp] = self._mlp_wrote
        return found

    def _keeper(self, site: str) -> Callable[[Tensor], Tensor]:
        def keep(x: Tensor) -> Tensor:
            self._read[site] = x
            return x

        return keep

    def _projected(self, path: str) -> Callable[[Tensor], Tensor]:
        """Return what a projection gives where heads read different things."""
        heads = self._layer.heads
        project = submodule(self._stream.root, f"{heads.path}.{path}").forward

        def replace(output: Tensor) -> Tensor:
            for part in _HEAD_PARTS:
                source = heads.sources[part]
                if source.path != path or source.view is None:
                    continue
                added = self._watch.added(self._stream.readers(self._number, part))
                if added is None:
                    continue
                count = len(added)
                own = self._normed(self._layer.attention_norm, added).flatten(0, 1)
                each = source.view.get(cast("Tensor", project(own))).unflatten(0, (count, -1))
                diagonal = torch.stack([each[head, :, :, head] for head in range(count)], 2)
                output = source.view.put(output, diagonal)
            return output

        return replace

    def _normed(self, norm: Norm, added: Tensor) -> Tensor:
        """Return what a reader's norm gives of the stream with something added."""
        x = self._read[norm.site] + added
        if norm.path is None:
            return x
        forward = submodule(self._stream.root, norm.path).forward
        return cast("Tensor", forward(x.flatten(0, 1))).unflatten(0, x.shape[:2])

    def _heads_wrote(self, z: Tensor) -> Tensor:
        heads, project = self._layer.heads, submodule(self._stream.root, self._layer.out).forward
        apart = z.unflatten(-1, (heads.count, -1))
        bias = cast("Tensor", project(torch.zeros_like(z[:1, :1])))
        for head in range(heads.count):
            alone = torch.zeros_like(apart)
            alone[:, :, head] = apart[:, :, head]
            output = cast("Tensor", project(alone.flatten(2))) - bias
            self._watch.wrote(self._stream.writer(self._number, head), output)
        return z

    def _mlp_reads(self, given: Tensor) -> Tensor:
        added = self._watch.added(self._stream.readers(self._number, "mlp"))
        norm = self._layer.mlp_norm
        if norm is None or (norm.path is not None and added is None):
            return given
        if norm.path is None:
            self._read[norm.site] = given
        return given if added is None else self._normed(norm, added)[0]

    def _mlp_wrote(self, output: Tensor) -> Tensor:
        self._watch.wrote(self._stream.writer(self._number), output)
        return output
