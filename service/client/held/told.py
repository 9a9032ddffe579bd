"""What a server tells of a dictionary's weights before it sends them."""

from collections.abc import Mapping
from dataclasses import dataclass

from isogloss.errors import CorruptData, InvalidInput
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.service.values.results import DictionaryInfo
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.scalars import from_dtype, from_json

_MOST_TENSORS = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class ToldWeights:
    """What follows in the stream."""

    info: DictionaryInfo
    """The dictionary."""
    shapes: Mapping[str, tuple[int, ...]]
    """Sizes of each tensor, in the order in which they come."""
    hashes: Mapping[str, bytes]
    """XXH3-128 of each tensor's bytes."""
    passport: Mapping[str, object]
    """What the dictionary was trained on, as JSON values; empty: not known."""


def from_weights(message: pb.ReadDictionaryResponse) -> ToldWeights:
    """Read the first message of a stream of weights.

    Args:
        message: its small fields.

    Returns:
        What was told.

    Raises:
        InvalidInput: it tells of no weights, or of ones that cannot be.
        CorruptData: a tensor is of a dtype that this release does not read.
    """
    if not message.HasField("weights"):
        raise InvalidInput("the first message tells of no weights")
    told = message.weights
    names = [tensor.name for tensor in told.tensors]
    if not 0 < len(names) <= _MOST_TENSORS or len(set(names)) < len(names):
        raise InvalidInput(
            f"{len(names)} tensors are told, {len(set(names))} names; wanted 1 to {_MOST_TENSORS}, "
            "each once"
        )
    for tensor in told.tensors:
        if (dtype := from_dtype(tensor.dtype)) != "float32":
            raise CorruptData(f"{tensor.name!r} is {dtype}; this release reads float32")
        if any(size < 1 for size in tensor.shape) or len(tensor.xxh3) != 16:
            raise InvalidInput(
                f"{tensor.name!r} has sizes {list(tensor.shape)} and a checksum of "
                f"{len(tensor.xxh3)} bytes; wanted sizes of at least 1, and 16 bytes"
            )
    return ToldWeights(
        info=from_message(told.dictionary, DictionaryInfo),
        shapes={tensor.name: tuple(tensor.shape) for tensor in told.tensors},
        hashes={tensor.name: tensor.xxh3 for tensor in told.tensors},
        passport=from_json(told.passport_json, "passport_json"),
    )
