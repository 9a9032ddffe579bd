"""What a client does to look after a store: lanes, verifying, rewriting, deleting."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from isogloss.errors import InternalError, InvalidInput
from isogloss.proto.v1 import dictionaries_pb2, recordings_pb2, universality_pb2
from isogloss.service.client.requests import PAGE
from isogloss.service.transport.follow import Following, follow
from isogloss.service.transport.plans import Plan, ask
from isogloss.service.values.upkeep import (
    CareProgress,
    Compression,
    Garbage,
    LaneInfo,
    Quantisation,
)
from isogloss.service.wire import methods
from isogloss.service.wire.recordings import to_name
from isogloss.service.wire.upkeep import (
    from_compaction,
    from_compression,
    from_garbage,
    from_lane,
    from_problem,
    from_progress,
    from_quantisation,
)
from isogloss.store import Compaction, Problem

T = TypeVar("T")

OnCare = Callable[[CareProgress], None]
"""Told at least once a second how far a call is; what it raises ends the call."""


class _Outcome(Generic[T]):
    """What a stream of care comes to: the result in its last answer."""

    def __init__(self, on_care: OnCare | None) -> None:
        self._on_care = on_care
        self._found: tuple[T] | None = None

    def step(self, progress: recordings_pb2.CareProgress, found: T | None) -> None:
        if self._on_care is not None:
            self._on_care(from_progress(progress))
        if found is not None:
            self._found = (found,)

    def result(self) -> T:
        if self._found is None:
            raise InternalError("the server ended in good order and gave no result: report it")
        return self._found[0]


def lanes(name: str) -> Plan[list[LaneInfo]]:
    """Return the lanes of a recording, in row order."""
    found: list[LaneInfo] = []
    token = ""
    while True:
        request = recordings_pb2.ListLanesRequest(
            name=to_name("recordings", name), page_size=PAGE, page_token=token
        )
        page = yield from ask(methods.LIST_LANES, request)
        found += [from_lane(message) for message in page.lanes]
        token = page.next_page_token
        if not token:
            return found


def verify(name: str, on_care: OnCare | None) -> Following[list[Problem]]:
    """Check every stored byte of a recording."""
    problems: list[Problem] = []

    def take(answer: recordings_pb2.VerifyRecordingResponse) -> None:
        if on_care is not None:
            on_care(from_progress(answer.progress))
        problems.extend(from_problem(message) for message in answer.problems)

    request = recordings_pb2.VerifyRecordingRequest(name=to_name("recordings", name))
    return follow(methods.VERIFY_RECORDING, request, take, lambda: problems)


def compact(name: str, max_rows: int | None, on_care: OnCare | None) -> Following[Compaction]:
    """Join the short lanes of a recording."""
    outcome = _Outcome[Compaction](on_care)

    def take(answer: recordings_pb2.CompactRecordingResponse) -> None:
        found = from_compaction(answer.result) if answer.HasField("result") else None
        outcome.step(answer.progress, found)

    request = recordings_pb2.CompactRecordingRequest(
        name=to_name("recordings", name), max_rows=max_rows
    )
    return follow(methods.COMPACT_RECORDING, request, take, outcome.result)


def compress(name: str, on_care: OnCare | None) -> Following[Compression]:
    """Compress a recording."""
    outcome = _Outcome[Compression](on_care)

    def take(answer: recordings_pb2.CompressRecordingResponse) -> None:
        found = from_compression(answer.result) if answer.HasField("result") else None
        outcome.step(answer.progress, found)

    request = recordings_pb2.CompressRecordingRequest(name=to_name("recordings", name))
    return follow(methods.COMPRESS_RECORDING, request, take, outcome.result)


def quantise(
    name: str, sites: Sequence[str] | None, *, accept_loss: bool, on_care: OnCare | None
) -> Following[Quantisation]:
    """Round the rows of a recording to 8 bits a number."""
    outcome = _Outcome[Quantisation](on_care)

    def take(answer: recordings_pb2.QuantiseRecordingResponse) -> None:
        found = from_quantisation(answer.result) if answer.HasField("result") else None
        outcome.step(answer.progress, found)

    if sites is not None and not sites:
        raise InvalidInput("0 sites to quantise: name some, or pass None for all")
    request = recordings_pb2.QuantiseRecordingRequest(
        name=to_name("recordings", name), sites=sites, accept_loss=accept_loss
    )
    return follow(methods.QUANTISE_RECORDING, request, take, outcome.result)


def collect_garbage(older_s: float, on_care: OnCare | None) -> Following[Garbage]:
    """Remove what nothing names."""
    outcome = _Outcome[Garbage](on_care)

    def take(answer: recordings_pb2.CollectGarbageResponse) -> None:
        found = from_garbage(answer.result) if answer.HasField("result") else None
        outcome.step(answer.progress, found)

    request = recordings_pb2.CollectGarbageRequest(older_s=older_s)
    return follow(methods.COLLECT_GARBAGE, request, take, outcome.result)


# Deleting.


def delete_dictionary(name: str, etag: str, *, cascade: bool) -> Plan[list[str]]:
    """Delete a dictionary in the version that ``etag`` names."""
    request = dictionaries_pb2.DeleteDictionaryRequest(
        name=to_name("dictionaries", name), etag=etag, cascade=cascade
    )
    return list((yield from ask(methods.DELETE_DICTIONARY, request)).deleted)


def delete_probe(name: str, etag: str, *, cascade: bool) -> Plan[list[str]]:
    """Delete a probe in the version that ``etag`` names."""
    request = universality_pb2.DeleteProbeRequest(
        name=to_name("probes", name), etag=etag, cascade=cascade
    )
    return list((yield from ask(methods.DELETE_PROBE, request)).deleted)


def delete_match(name: str, etag: str) -> Plan[None]:
    """Delete a match in the version that ``etag`` names."""
    request = universality_pb2.DeleteMatchRequest(name=to_name("matches", name), etag=etag)
    yield from ask(methods.DELETE_MATCH, request)
