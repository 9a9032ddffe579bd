"""The calls of upkeep: messages in, steps of work out."""

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import Message

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.calls.table import Streaming, Unary, streaming, unary
from isogloss.service.control.owner import Owner
from isogloss.service.values.upkeep import DAY_S
from isogloss.service.wire import methods
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.recordings import from_name, page_of
from isogloss.service.wire.upkeep import (
    to_compaction,
    to_compression,
    to_lane,
    to_problem,
    to_progress,
    to_quantisation,
)
from isogloss.store import describe_lane

HeadT = TypeVar("HeadT", bound=Message)

_PROBLEMS = 1000
"""Problems in one message, which has a largest size."""


class UpkeepHandlers:
    """Answers what RecordingService offers for looking after a store."""

    def __init__(self, engine: Owner) -> None:
        self._engine = engine

    def unary(self) -> list[Unary]:
        """Return the calls with one answer."""
        return [unary(methods.LIST_LANES, self._lanes)]

    def streaming(self) -> list[Streaming]:
        """Return the calls with a stream of answers."""
        return [
            streaming(methods.VERIFY_RECORDING, self._verify),
            streaming(methods.COMPACT_RECORDING, self._compact),
            streaming(methods.COMPRESS_RECORDING, self._compress),
            streaming(methods.QUANTISE_RECORDING, self._quantise),
            streaming(methods.COLLECT_GARBAGE, self._collect_garbage),
        ]

    def _lanes(self, request: pb.ListLanesRequest) -> pb.ListLanesResponse:
        recording = self._engine.store.recording(from_name("recordings", request.name))
        page, token = page_of(
            recording.lanes(), lambda lane: lane.name, request.page_size, request.page_token
        )
        lanes = [to_lane(describe_lane(recording, state)) for state in page]
        return pb.ListLanesResponse(lanes=lanes, next_page_token=token)

    def _verify(
        self, request: pb.VerifyRecordingRequest
    ) -> Iterator[Framed[pb.VerifyRecordingResponse]]:
        for step in self._engine.upkeep.verify(from_name("recordings", request.name)):
            problems = [to_problem(problem) for problem in step.result or ()]
            progress = to_progress(step.progress)
            for start in range(0, len(problems), _PROBLEMS) or (0,):
                some = problems[start : start + _PROBLEMS]
                yield _framed(pb.VerifyRecordingResponse(progress=progress, problems=some))

    def _compact(
        self, request: pb.CompactRecordingRequest
    ) -> Iterator[Framed[pb.CompactRecordingResponse]]:
        name = from_name("recordings", request.name)
        max_rows = request.max_rows if request.HasField("max_rows") else None
        for step in self._engine.upkeep.compact(name, max_rows):
            result = None if step.result is None else to_compaction(step.result)
            progress = to_progress(step.progress)
            yield _framed(pb.CompactRecordingResponse(progress=progress, result=result))

    def _compress(
        self, request: pb.CompressRecordingRequest
    ) -> Iterator[Framed[pb.CompressRecordingResponse]]:
        for step in self._engine.upkeep.compress(from_name("recordings", request.name)):
            result = None if step.result is None else to_compression(step.result)
            progress = to_progress(step.progress)
            yield _framed(pb.CompressRecordingResponse(progress=progress, result=result))

    def _quantise(
        self, request: pb.QuantiseRecordingRequest
    ) -> Iterator[Framed[pb.QuantiseRecordingResponse]]:
        name, sites = from_name("recordings", request.name), list(request.sites)
        accepted = request.accept_loss
        for step in self._engine.upkeep.quantise(name, sites or None, accept_loss=accepted):
            result = None if step.result is None else to_quantisation(step.result)
            progress = to_progress(step.progress)
            yield _framed(pb.QuantiseRecordingResponse(progress=progress, result=result))

    def _collect_garbage(
        self, request: pb.CollectGarbageRequest
    ) -> Iterator[Framed[pb.CollectGarbageResponse]]:
        older_s = request.older_s if request.HasField("older_s") else DAY_S
        for step in self._engine.upkeep.collect_garbage(older_s):
            result = None
            if step.result is not None:
                result = pb.Garbage(files=step.result.files, logs=step.result.logs)
            progress = to_progress(step.progress)
            yield _framed(pb.CollectGarbageResponse(progress=progress, result=result))


def _framed(head: HeadT) -> Framed[HeadT]:
    return Framed(head=head, payload=())
