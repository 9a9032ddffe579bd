"""A dictionary within a live model: ablate features, set them, or let it replace what it reads."""

import math
import operator
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, SupportsIndex, cast, runtime_checkable

import torch
from torch import Tensor

from isogloss.dictionaries.live.full_precision import full_precision
from isogloss.errors import InvalidInput, ShapeError
from isogloss.kernels import Codes


@runtime_checkable
class Rewriting(Protocol):
    """A dictionary, as far as a splice needs one."""

    @property
    def wiring(self) -> str:
        """Which sites it reads and which it reconstructs."""
        ...

    @property
    def width(self) -> int:
        """Numbers of an activation that it reads."""
        ...

    @property
    def target_width(self) -> int:
        """Numbers of an activation that it reconstructs."""
        ...

    def encode_rows(self, rows: Tensor) -> Codes:
        """Return the features that fire on float32 ``[rows, width]``."""
        ...

    def reconstruct_rows(self, rows: Tensor, codes: Codes) -> Tensor:
        """Return float32 ``[rows, target_width]`` of codes, and of rows where there is a map."""
        ...

    def directions(self, features: Tensor) -> Tensor:
        """Return the decoder rows of some features, float32, on the device of their numbers."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Edits:
    """Which features are held at which activation, at every token."""

    features: tuple[int, ...]
    """Numbers of the features, ascending."""
    values: tuple[float, ...]
    """What each is set to; 0 for one that is ablated."""

    @classmethod
    def of(
        cls, ablate: Sequence[SupportsIndex], steer: Mapping[int, float], features: int
    ) -> "Edits":
        """Check what the caller asks for.

        Args:
            ablate: features to set to 0.
            steer: the activation that each of some features is set to.
            features: how many the dictionary has.

        Raises:
            InvalidInput: there is no such feature, one is named twice, or a value is not finite.
        """
        wanted = _pairs(ablate, steer)
        chosen = [feature for feature, _ in wanted]
        if outside := sorted(one for one in chosen if not 0 <= one < features):
            raise InvalidInput(f"features {outside} are not in [0, {features})")
        if twice := sorted({one for one in chosen if chosen.count(one) > 1}):
            raise InvalidInput(f"features {twice} are named twice; ablate or steer each once")
        if odd := [value for _, value in wanted if not math.isfinite(value)]:
            raise InvalidInput(f"a feature is set to {odd[0]}; give a finite activation")
        wanted.sort()  # the sum over them has the same bits in whatever order they were named
        return cls(
            features=tuple(feature for feature, _ in wanted),
            values=tuple(value for _, value in wanted),
        )


def _pairs(ablate: object, steer: object) -> list[tuple[int, float]]:
    """Return features and what each is set to, or raise InvalidInput for what is neither."""
    if not isinstance(steer, Mapping):
        raise InvalidInput(f"steer is {steer!r}; give a mapping, such as {{1207: 8.0}}")
    steered = cast("Mapping[SupportsIndex, float]", steer)
    try:
        found = [(operator.index(one), 0.0) for one in cast("Sequence[SupportsIndex]", ablate)]
        return found + [(operator.index(one), float(value)) for one, value in steered.items()]
    except (TypeError, ValueError) as error:
        raise InvalidInput(
            f"features are whole numbers and what they are set to numbers ({error}): "
            "ablate=[3], steer={1207: 8.0}"
        ) from error


class Spliced:
    """What takes the place of activations: :meth:`read` where they go in, :meth:`write` where they
    come out, which is the same place unless the dictionary is a transcoder."""

    def __init__(self, dictionary: Rewriting, edits: Edits, *, keep_error: bool) -> None:
        """Choose what is changed.

        Args:
            dictionary: encodes and decodes.
            edits: features that are set.
            keep_error: whether what the dictionary does not explain stays.
        """
        self._dictionary = dictionary
        self._edits = edits
        self._keep_error = keep_error
        self._pass = threading.local()  # threads may run the model at once, each its own pass

    def read(self, activations: Tensor) -> Tensor:
        """Keep what a transcoder reads; it goes on as it is."""
        self._pass.read = activations
        return activations

    def write(self, activations: Tensor) -> Tensor:
        """Return what takes the place of activations, of the same shape and dtype.

        With the error kept, ``x + sum (value - z_f) w_f`` over the features that are set, where z_f
        is what the feature is and w_f its decoder row: where nothing is set, the activations stay
        as they are, to the bit. Without it, what the changed codes stand for.

        Raises:
            InvalidInput: what a transcoder reads did not come before.
            ShapeError: the activations are of another width than the dictionary reads or writes.
        """
        source: Tensor | None = getattr(self._pass, "read", None)
        self._pass.read = None
        if self._dictionary.wiring != "transcoder":
            source = activations
        elif source is None:
            raise InvalidInput(
                "the site that is replaced ran before the one that the transcoder reads; name "
                "first the site to read, then the one to replace"
            )
        if self._keep_error and not self._edits.features:
            return activations
        with full_precision(activations):
            return self._changed(source, activations)

    def _changed(self, source: Tensor, activations: Tensor) -> Tensor:
        dictionary, device = self._dictionary, activations.device
        rows = _as_rows(source, dictionary.width, "reads").to(torch.float32).contiguous()
        old = _as_rows(activations, dictionary.target_width, "writes").to(torch.float32)
        chosen = torch.tensor(self._edits.features, dtype=torch.int64, device=device)
        target = torch.tensor(self._edits.values, dtype=torch.float32, device=device)
        now, others = _apart(dictionary.encode_rows(rows), chosen)
        directions = dictionary.directions(chosen)
        if self._keep_error:
            new = old + (target - now) @ directions
        else:
            new = dictionary.reconstruct_rows(rows, others) + target.expand_as(now) @ directions
        return new.reshape(activations.shape).to(activations.dtype)


def _apart(codes: Codes, chosen: Tensor) -> tuple[Tensor, Codes]:
    """Return what some features are on each row, ``[rows, chosen]``, and the codes without them."""
    values, count = codes.values.reshape(-1), len(chosen)
    column = torch.full((codes.features,), -1, dtype=torch.int64, device=values.device)
    column[chosen] = torch.arange(count, device=values.device)
    columns = column[codes.indices.reshape(-1).long()]
    every = torch.arange(codes.rows, device=values.device)
    counts = codes.k if codes.offsets is None else codes.offsets.diff()
    rows = torch.repeat_interleave(every, counts)
    kept = columns >= 0
    empty = values.new_zeros(codes.rows * count)
    places = rows[kept] * count + columns[kept]
    found = empty.scatter_add(0, places, values[kept]).reshape(codes.rows, count)
    others = torch.where(kept, 0.0, values).reshape(codes.values.shape)
    return found, codes.with_values(others)


def _as_rows(activations: Tensor, width: int, verb: str) -> Tensor:
    """Return ``[rows, width]``; the width may be that of several dimensions, such as of heads."""
    sizes, size = list(activations.shape), 1
    while sizes and size < width:
        size *= sizes.pop()
    if size != width or not activations.is_floating_point():
        raise ShapeError(
            f"the site gives {activations.dtype} {list(activations.shape)}; the dictionary "
            f"{verb} floating point of width {width}"
        )
    return activations.reshape(math.prod(sizes), width)
