"""Weights of a dictionary from the store's owner into this process."""

from importlib import import_module
from typing import TYPE_CHECKING

import xxhash

from isogloss.errors import CorruptData, missing_extra
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.service.client.held.told import ToldWeights, from_weights
from isogloss.service.transport.call import Call, Open, next_message, reading
from isogloss.service.values.ids import id_of
from isogloss.service.values.results import DictionaryInfo
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.methods import method_of
from isogloss.service.wire.names import to_name

if TYPE_CHECKING:
    from isogloss.service.client.held.dictionary import HeldDictionary


def dictionary(dictionary: DictionaryInfo | str) -> Call["HeldDictionary"]:
    """Return a dictionary ready to use: a module of torch with its weights.

    Whether the store is in this process or behind a server, the weights are read in parts of about
    1 MiB, each checked; beside them no more than a part is held. See
    :meth:`Client.dictionary_info` for what describes it alone, which needs no torch.

    Args:
        dictionary: id of the dictionary, or what describes it.

    Returns:
        A :class:`torch.nn.Module` on the CPU, in evaluation mode.

    Raises:
        NotFound: there is no dictionary with that id.
        MissingExtra: torch is not installed, as where only a client is.
        UnsupportedVersion: its kind or wiring is not installed here.
        CorruptData: the weights are not those that were told.
        ResourceExhausted: they do not fit into the memory.
    """
    _require_torch()
    request = pb.ReadDictionaryRequest(name=to_name("dictionaries", id_of(dictionary)))
    return _read(request)


def _read(request: pb.ReadDictionaryRequest) -> Call["HeldDictionary"]:
    yield Open(method_of(type(request), pb.ReadDictionaryResponse), request)
    first = yield from next_message(pb.ReadDictionaryResponse)
    if first is None:
        raise CorruptData("the weights ended before anything was told of them; read again")
    told = reading(from_weights, first.head)
    if to_name("dictionaries", told.info.id) != request.name:
        raise CorruptData(f"{request.name} was asked for, weights of {told.info.id!r} were told")
    receiver = reading(_Receiver, told)
    while (part := (yield from next_message(pb.ReadDictionaryResponse))) is not None:
        receiver.take(part)
    return receiver.finished()


class _Receiver:
    """Puts parts in their place and compares each tensor with its checksum."""

    def __init__(self, told: ToldWeights) -> None:
        from isogloss.service.client.held.dictionary import arriving, held

        self._told, self._held = told, held
        self._weights = arriving(told.info, told.shapes)
        self._digests = {name: xxhash.xxh3_128() for name in told.shapes}

    def take(self, part: Framed[pb.ReadDictionaryResponse]) -> None:
        for piece in part.payload:
            self._weights.take(part.head.tensor, part.head.start, piece)
            self._digests[part.head.tensor].update(piece)

    def finished(self) -> "HeldDictionary":
        tensors = self._weights.finished()
        for name, digest in self._digests.items():
            if digest.digest() != self._told.hashes[name]:
                raise CorruptData(
                    f"{name!r} of {self._told.info.id!r} has XXH3-128 {digest.hexdigest()}, "
                    f"{self._told.hashes[name].hex()} was told: read the dictionary again"
                )
        return self._held(self._told.info, tensors, self._told.passport)


def _require_torch() -> None:
    """Raise MissingExtra where torch is missing, before anything is asked."""
    try:
        import_module("isogloss.service.client.held.dictionary")
    except ModuleNotFoundError as error:
        missing = missing_extra("client.dictionary", error)
        if missing is None:
            raise
        raise type(missing)(f"{missing}; client.dictionary_info needs none") from error
