"""DictionaryService: messages in, the owner of the store, messages out."""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace

import xxhash
from google.longrunning import operations_pb2 as operations

from isogloss.dictionaries import (
    SavedTensor,
    SavedWeights,
    TokenEffects,
    check_token_effects,
    read_token_effects,
    write_token_effects,
)
from isogloss.errors import AlreadyExists, InvalidInput
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.service.calls.caller import block_bytes, calling_client
from isogloss.service.control.deleting import delete_dictionary
from isogloss.service.control.entries import dictionary_info
from isogloss.service.control.needs import train_bytes
from isogloss.service.control.owner import Owner
from isogloss.service.jobs.limits import JobNeeds
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.jobs import to_job, to_operation
from isogloss.service.wire.messages import from_message, to_message
from isogloss.service.wire.names import from_name
from isogloss.service.wire.pages import page_of
from isogloss.service.wire.scalars import to_dtype
from isogloss.service.wire.training import (
    asked_beside,
    asked_config,
    asked_processes,
    asked_sources,
)

_BLOCK_BYTES = 1 << 20
_MOST_EFFECTS, _MOST_KEPT = 1024, 4096
"""Features whose effects one call brings, and a dictionary keeps, at most."""
_CHECKED = 64
"""Of so many dictionaries it is remembered that their bytes are those that were saved."""


class DictionaryHandlers:
    """Answers the calls of DictionaryService but Encode, Decode and ListKinds."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._checked: OrderedDict[tuple[object, ...], list[pb.WeightTensor]] = OrderedDict()
        self._keeping = threading.Lock()

    def train_dictionary(self, request: pb.TrainDictionaryRequest) -> operations.Operation:
        """Queue the training of a dictionary, or of several."""
        known = self._owner.recordings.site_name  # the job, and its result, say what is recorded
        sources = tuple(
            replace(source, site=known(source.recording, source.site))
            for source in asked_sources(request)
        )
        for recording in {source.recording for source in sources}:
            for config in (request.config, *(one.config for one in request.beside)):
                self._owner.recordings.check_steps(recording, config.steps)
        # QueryHandlers.check_train_dictionary had the kind look at the settings
        spec = TrainSpec(
            dictionary=from_name("dictionaries", f"dictionaries/{request.dictionary_id}"),
            sources=sources,
            config=asked_config(request.config),
            beside=asked_beside(request),
            processes=asked_processes(request),
        )
        self._refuse_taken(spec)
        needs = JobNeeds(
            client=calling_client(),
            memory_bytes=train_bytes(self._owner.store, spec),
            time_s=request.time_limit_s if request.HasField("time_limit_s") else None,
        )
        made = self._owner.jobs.submit(spec, request_id=request.request_id, needs=needs)
        return to_operation(to_job(made))

    def _refuse_taken(self, spec: TrainSpec) -> None:
        """Raise AlreadyExists where another unfinished job makes one of the dictionaries.

        The queue itself compares what jobs make first.
        """
        for job in self._owner.jobs.list():
            if job.state.is_final or job.kind != "train":
                continue
            other = TrainSpec.from_dict(job.spec)
            both = sorted({*spec.dictionaries} & {*other.dictionaries})
            if both and other.target != spec.target:
                raise AlreadyExists(
                    f"dictionary {both[0]!r} is being made by job {job.id!r}: wait for it, cancel "
                    "it, or choose another id"
                )

    def get_dictionary(self, request: pb.GetDictionaryRequest) -> pb.Dictionary:
        """Return a dictionary."""
        catalog = self._owner.store.catalog
        found = catalog.get("dictionary", from_name("dictionaries", request.name))
        return to_message(dictionary_info(found), pb.Dictionary)

    def list_dictionaries(self, request: pb.ListDictionariesRequest) -> pb.ListDictionariesResponse:
        """Return a page of all dictionaries, by id."""
        found = self._owner.store.catalog.list("dictionary")
        page, token = page_of(
            found,
            lambda entry: entry.id,
            request.page_size,
            request.page_token,
            lambda entry: to_message(dictionary_info(entry), pb.Dictionary),
        )
        return pb.ListDictionariesResponse(dictionaries=page, next_page_token=token)

    def read_dictionary(
        self, request: pb.ReadDictionaryRequest
    ) -> Iterator[Framed[pb.ReadDictionaryResponse]]:
        """Return the weights of a dictionary: first what they are, then their bytes."""
        store = self._owner.store
        entry = store.catalog.get("dictionary", from_name("dictionaries", request.name))
        with SavedWeights(store.artifact("dictionary", entry.uid)) as weights:
            told = pb.Weights(
                dictionary=to_message(dictionary_info(entry), pb.Dictionary),
                tensors=self._told(entry.uid, weights),
                passport_json=weights.passport(),
            )
            yield Framed(head=pb.ReadDictionaryResponse(weights=told), payload=())
            for tensor in weights.tensors:
                for start, block in weights.blocks(tensor, block_bytes()):
                    head = pb.ReadDictionaryResponse(tensor=tensor.name, start=start)
                    yield Framed(head=head, payload=(memoryview(block),))

    def _told(self, uid: str, weights: SavedWeights) -> list[pb.WeightTensor]:
        """Return what is told of weights, whose bytes are compared with their checksum once."""
        key = (uid, *weights.state)
        found = self._checked.get(key)
        if found is None:
            weights.check()
            found = [_tensor(weights, tensor) for tensor in weights.tensors]
            self._checked[key] = found
            while len(self._checked) > _CHECKED:
                self._checked.popitem(last=False)
        return found

    def keep_token_effects(
        self, request: pb.KeepTokenEffectsRequest
    ) -> pb.KeepTokenEffectsResponse:
        """Put effects of features beside a dictionary, in place of those of the same features."""
        store = self._owner.store
        entry = store.catalog.get("dictionary", from_name("dictionaries", request.name))
        if not 1 <= len(request.effects) <= _MOST_EFFECTS:
            raise InvalidInput(
                f"effects of {len(request.effects)} features; give those of 1 to {_MOST_EFFECTS}"
            )
        effects = [from_message(one, TokenEffects) for one in request.effects]
        check_token_effects(effects, dictionary_info(entry).features)
        directory = store.artifact("dictionary", entry.uid)
        with self._keeping:
            kept = {**read_token_effects(directory), **{one.feature: one for one in effects}}
            if len(kept) > _MOST_KEPT:
                raise InvalidInput(
                    f"{entry.id!r} would have effects of {len(kept)} features beside it; of "
                    f"{_MOST_KEPT} at most they are kept: measure fewer"
                )
            write_token_effects([kept[feature] for feature in sorted(kept)], directory)
        return pb.KeepTokenEffectsResponse(features=len(kept))

    def delete_dictionary(self, request: pb.DeleteDictionaryRequest) -> pb.DeleteDictionaryResponse:
        """Delete a dictionary, by wish with what mentions it."""
        deleted = delete_dictionary(
            self._owner.store,
            self._owner.jobs,
            from_name("dictionaries", request.name),
            request.etag,
            cascade=request.cascade,
        )
        return pb.DeleteDictionaryResponse(deleted=deleted)


def _tensor(weights: SavedWeights, tensor: SavedTensor) -> pb.WeightTensor:
    digest = xxhash.xxh3_128()
    for _, block in weights.blocks(tensor, _BLOCK_BYTES):
        digest.update(block)
    return pb.WeightTensor(
        name=tensor.name,
        dtype=to_dtype(tensor.dtype),
        shape=tensor.shape,
        xxh3=digest.digest(),
    )
