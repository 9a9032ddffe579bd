"""What writes to a model's residual stream, what reads it, and the edges between them."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput

HeadRead = Literal["q", "k", "v"]
ReaderPart = HeadRead | Literal["mlp", "logits"]


@dataclass(frozen=True, kw_only=True)
class EdgeWriter:
    """What adds to the residual stream: the embedding, a head or an MLP."""

    layer: int
    """From 0; -1: the embedding."""
    head: int | None = None
    """Of the layer's attention; None: the MLP, or the embedding."""

    @property
    def name(self) -> str:
        """``input``, ``a3.h6`` or ``m3``, as EAP-IG names them."""
        if self.layer < 0:
            return "input"
        return f"m{self.layer}" if self.head is None else f"a{self.layer}.h{self.head}"


@dataclass(frozen=True, kw_only=True)
class StreamReader:
    """What reads the residual stream: queries, keys or values of heads, an MLP, or the logits."""

    layer: int
    """From 0; of the logits the number of layers."""
    part: ReaderPart
    """What it reads for."""
    heads: tuple[int, ...] = ()
    """The heads that it serves: several where they share keys and values."""

    @property
    def name(self) -> str:
        """``a3.h6<q>``, ``a3.h0-2<k>`` where three heads share it, ``m3`` or ``logits``."""
        if self.part == "logits":
            return "logits"
        if self.part == "mlp":
            return f"m{self.layer}"
        first, last = self.heads[0], self.heads[-1]
        heads = f"h{first}" if first == last else f"h{first}-{last}"
        return f"a{self.layer}.{heads}<{self.part}>"

    def feeds(self, writer: EdgeWriter) -> bool:
        """Return whether a writer writes what this has read."""
        if self.part == "logits" or writer.layer != self.layer:
            return False
        return writer.head in self.heads if self.heads else writer.head is None


@dataclass(frozen=True, kw_only=True, eq=False)
class Edges:
    """The edges of a model: what each reader reads is the sum of what all writers before it add."""

    writers: tuple[EdgeWriter, ...]
    """In the order in which they write."""
    readers: tuple[StreamReader, ...]
    """In the order in which they read; the logits last."""
    exist: NDArray[np.bool_]
    """Whether a writer writes before a reader reads, ``[writers, readers]``."""
    feeds: NDArray[np.bool_] = field(init=False, repr=False)
    """Whether a reader's head or MLP is the writer, ``[readers, writers]``."""
    _places: dict[str, tuple[int, int]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = (len(self.writers), len(self.readers))
        if self.exist.shape != shape:
            raise InvalidInput(f"edges are {self.exist.shape}; wanted {shape}, writers by readers")
        places = {
            f"{self.writers[i].name}->{self.readers[j].name}": (i, j)
            for i, j in np.argwhere(self.exist).tolist()
        }
        object.__setattr__(self, "_places", places)
        feeds = np.array([[r.feeds(w) for w in self.writers] for r in self.readers])
        object.__setattr__(self, "feeds", feeds)

    def __len__(self) -> int:
        return int(self.exist.sum())

    def names(self, kept: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the names of some edges, such as ``a0.h1->a2.h3<k>``.

        Args:
            kept: which, ``[writers, readers]``.
        """
        return tuple(name for name, place in self._places.items() if kept[place])

    def named(self, names: "tuple[str, ...] | list[str]") -> NDArray[np.bool_]:
        """Return which edges have these names, ``[writers, readers]``.

        Args:
            names: such as ``a0.h1->a2.h3<k>``.

        Raises:
            InvalidInput: there is no such edge.
        """
        kept = np.zeros_like(self.exist)
        for name in names:
            if name not in self._places:
                some = ", ".join(list(self._places)[:3])
                raise InvalidInput(f"no edge {name!r}; edges are written like {some}")
            kept[self._places[name]] = True
        return kept

    def live(self, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the kept edges that lie on a path from the embedding to the logits.

        The others carry nothing of the clean text to what the model says.

        Args:
            kept: which edges, ``[writers, readers]``.
        """
        kept, feeds = kept & self.exist, self.feeds
        from_start = np.array([w.layer < 0 for w in self.writers])
        to_end = np.array([r.part == "logits" for r in self.readers])
        while True:
            read = np.any(kept & from_start[:, None], axis=0)
            reached = from_start | np.any(feeds & read[:, None], axis=0)
            led = np.any(kept & to_end[None], axis=1)
            ends = to_end | np.any(feeds & led[None], axis=1)
            if (reached == from_start).all() and (ends == to_end).all():
                return kept & from_start[:, None] & to_end[None]
            from_start, to_end = reached, ends
