"""Which tokens of a pass are rows, of which documents, and at which positions."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.passes.inputs import Arguments

_PACKING = ("cu_seq_lens_q", "cu_seqlens", "cu_seqlens_q")


@dataclass(frozen=True, kw_only=True, eq=False)
class Tokens:
    """The tokens of one pass, or of the passes that make up one generation."""

    ids: Tensor
    """``[sequences, tokens]``, int64, on the CPU."""
    keep: Tensor
    """False at padding, ``[sequences, tokens]``."""
    content: Tensor
    """False at padding and at special tokens, ``[sequences, tokens]``: those that have rows."""

    @property
    def token_id(self) -> NDArray[np.uint32]:
        """Id of each row's token, ``[rows]``."""
        return self.ids[self.content].numpy().astype(np.uint32)

    @property
    def position(self) -> NDArray[np.uint32]:
        """Place of each row among the rows of its document, from 0, ``[rows]``."""
        return (self.content.cumsum(1) - 1)[self.content].numpy().astype(np.uint32)

    @property
    def documents(self) -> tuple[NDArray[np.int64], ...]:
        """Token ids of each document that has a row, special tokens kept and padding left out."""
        has_rows = self.content.any(1).tolist()
        rows = zip(self.ids, self.keep, has_rows, strict=True)
        return tuple(ids[keep].numpy().astype(np.int64) for ids, keep, has in rows if has)

    @property
    def document_index(self) -> NDArray[np.int64]:
        """For each row the index of its document in ``documents``, ``[rows]``, ascending."""
        counts = self.content.sum(1)
        counts = counts[counts > 0]
        return np.repeat(np.arange(len(counts)), counts.numpy())


class SpecialTokens:
    """The rule of both ways of recording: what is special is told by the token's id alone."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._ids = torch.tensor(sorted(set(ids)), dtype=torch.int64)

    def __bool__(self) -> bool:
        return bool(len(self._ids))

    def tokens(self, ids: Tensor, keep: Tensor) -> Tokens:
        """Return the tokens of a pass.

        Args:
            ids: token ids, ``[sequences, tokens]``, on the CPU.
            keep: False at padding, ``[sequences, tokens]``.

        Raises:
            InvalidInput: an id is negative or does not fit 32 bits.
        """
        content = keep & ~torch.isin(ids, self._ids)
        found = ids[content]
        if len(found) and (int(found.min()) < 0 or int(found.max()) > np.iinfo(np.uint32).max):
            raise InvalidInput(
                f"token ids go from {int(found.min())} to {int(found.max())}, wanted [0, 2**32); "
                "mask what is no token"
            )
        return Tokens(ids=ids, keep=keep, content=content)


def refuse_packed(arguments: Arguments, keep: Tensor) -> None:
    """Refuse a sequence that holds several documents one behind the other.

    Args:
        arguments: of the call.
        keep: False at padding, ``[sequences, tokens]``.

    Raises:
        InvalidInput: positions begin anew inside of a sequence, or lengths of parts are given.
    """
    told = next((name for name in _PACKING if arguments.named.get(name) is not None), None)
    positions = arguments.tensor("position_ids")
    if told is None and positions is not None and positions.ndim == 2:
        places = positions.detach().cpu().expand(keep.shape[0], -1)
        if places.shape == keep.shape and _begins_anew(places, keep):
            told = "position_ids"
    if told is not None:
        raise InvalidInput(
            f"{told} says that texts are packed one behind the other: which document a token "
            "belongs to is not known; give each text a sequence of its own, padded"
        )


def _begins_anew(places: Tensor, keep: Tensor) -> bool:
    return any(bool((row[kept].diff() <= 0).any()) for row, kept in zip(places, keep, strict=True))
