"""Weights that come in parts from elsewhere: checked before memory is taken, and part by part."""

from collections.abc import Mapping
from math import prod

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.sparse_dictionary import check_shapes, sizes_of
from isogloss.errors import CorruptData, InvalidInput, ResourceExhausted

_ITEM_BYTES = 4


class ArrivingWeights:
    """The tensors of one dictionary, filled with bytes in the order in which they were told.

    Parts go straight to their place: beside the weights no more than one part is held.
    """

    def __init__(
        self, settings: Kind, shapes: Mapping[str, tuple[int, ...]], *, features: int, width: int
    ) -> None:
        """Check what was told, then take the memory.

        Args:
            settings: the kind with its settings.
            shapes: sizes of each float32 tensor, in the order in which they will come.
            features: what the dictionary is said to have.
            width: what it is said to read.

        Raises:
            ShapeError: a tensor is missing, too many, or its sizes do not fit.
            InvalidInput: the tensors are of another dictionary than they are said to be.
            ResourceExhausted: there is not so much memory.
        """
        check_shapes(settings, shapes)
        sizes = sizes_of(settings, shapes)
        if min(sizes.values()) < 1 or (features, width) != (sizes["features"], sizes["width"]):
            raise InvalidInput(
                f"the weights are of {sizes['features']} features and width {sizes['width']}, the "
                f"dictionary has {features} and {width}"
            )
        total = sum(map(prod, shapes.values())) * _ITEM_BYTES
        try:
            # numpy asks for huge pages: 550 page faults for 75 MB, where torch has 18,400
            blank = {name: np.empty(shape, np.float32) for name, shape in shapes.items()}
            self._tensors = {name: torch.from_numpy(array) for name, array in blank.items()}
        except (RuntimeError, MemoryError) as error:
            raise ResourceExhausted(
                f"the weights are said to be {total:,} bytes, which this process cannot have: "
                f"{error}"
            ) from error
        self._names = list(shapes)
        self._at = 0
        self._place = 0

    def take(self, name: str, start: int, part: memoryview) -> None:
        """Put a part in its place.

        Args:
            name: of its tensor.
            start: place of its first byte in the tensor.
            part: little-endian float32 numbers.

        Raises:
            CorruptData: the part is not the next one, or holds NaN or infinity.
        """
        if self._at == len(self._names):
            raise CorruptData(f"{part.nbytes} bytes of {name!r} came after the last tensor")
        wanted = self._names[self._at]
        flat = self._tensors[wanted].view(-1)
        left = flat.nbytes - self._place
        if (name, start) != (wanted, self._place) or not 0 < part.nbytes <= left:
            raise CorruptData(
                f"bytes [{start}, {start + part.nbytes}) of {name!r} came, wanted at most {left} "
                f"of {wanted!r} from {self._place} on"
            )
        if part.nbytes % _ITEM_BYTES:
            raise CorruptData(f"{part.nbytes} bytes of {name!r} are no whole float32 numbers")
        first = start // _ITEM_BYTES
        kept = flat[first : first + part.nbytes // _ITEM_BYTES]
        kept.numpy().view(np.uint8)[:] = np.frombuffer(part, np.uint8)
        if not torch.isfinite(kept.sum()) and not torch.isfinite(kept).all():
            raise CorruptData(f"{name!r} holds NaN or infinity; train the dictionary again")
        self._place += part.nbytes
        if self._place == flat.nbytes:
            self._at, self._place = self._at + 1, 0

    def finished(self) -> dict[str, Tensor]:
        """Return the tensors.

        Raises:
            CorruptData: bytes are missing.
        """
        if self._at < len(self._names):
            name = self._names[self._at]
            raise CorruptData(
                f"the weights ended at byte {self._place} of {name!r}, of "
                f"{self._tensors[name].nbytes}; read the dictionary again"
            )
        return self._tensors
