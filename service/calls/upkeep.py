"""The calls of upkeep: messages in, steps of work out."""

from collections.abc import Iterator
from typing import TypeVar

from google.protobuf.message import Message

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.control.owner import Owner
from isogloss.service.control.work import WorkStep
from isogloss.service.values.upkeep import DAY_S
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.messages import to_message
from isogloss.service.wire.names import from_name
from isogloss.service.wire.pages import page_of
from isogloss.service.wire.upkeep import to_lane
from isogloss.store import describe_lane

HeadT = TypeVar("HeadT", bound=Message)

_PROBLEMS = 1000
"""Problems in one message, which has a largest size."""


class UpkeepHandlers:
    """Answers what RecordingService offers for looking after a store."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def list_lanes(self, request: pb.ListLanesRequest) -> pb.ListLanesResponse:
        """Return a page of a recording's lanes, in row order."""
        recording = self._owner.store.recording(from_name("recordings", request.name))
        page, token = page_of(
            recording.present_lanes(),
            lambda lane: lane.name,
            request.page_size,
            request.page_token,
            lambda lane: to_lane(describe_lane(recording, lane)),
        )
        return pb.ListLanesResponse(lanes=page, next_page_token=token)

    def verify_recording(
        self, request: pb.VerifyRecordingRequest
    ) -> Iterator[Framed[pb.VerifyRecordingResponse]]:
        """Check every stored byte of a recording; problems come once it is through."""
        for step in self._owner.upkeep.verify(from_name("recordings", request.name)):
            problems = [to_message(problem, pb.Problem) for problem in step.result or ()]
            progress = to_message(step.progress, pb.CareProgress)
            starts = range(0, len(problems), _PROBLEMS)
            for start in starts or (0,):
                some = problems[start : start + _PROBLEMS]
                head = pb.VerifyRecordingResponse(progress=progress, problems=some)
                yield Framed(head=head, payload=())

    def compact_recording(
        self, request: pb.CompactRecordingRequest
    ) -> Iterator[Framed[pb.CompactRecordingResponse]]:
        """Join the short lanes of a recording."""
        name = from_name("recordings", request.name)
        max_rows = request.max_rows if request.HasField("max_rows") else None
        steps = self._owner.upkeep.compact(name, max_rows)
        yield from _answers(steps, pb.CompactRecordingResponse, pb.Compaction)

    def compress_recording(
        self, request: pb.CompressRecordingRequest
    ) -> Iterator[Framed[pb.CompressRecordingResponse]]:
        """Compress the sealed lanes of a recording."""
        steps = self._owner.upkeep.compress(from_name("recordings", request.name))
        yield from _answers(steps, pb.CompressRecordingResponse, pb.Compression)

    def quantise_recording(
        self, request: pb.QuantiseRecordingRequest
    ) -> Iterator[Framed[pb.QuantiseRecordingResponse]]:
        """Round the rows of a recording's sealed lanes."""
        name, sites = from_name("recordings", request.name), list(request.sites)
        accepted = request.accept_loss
        steps = self._owner.upkeep.quantise(name, sites or None, accept_loss=accepted)
        yield from _answers(steps, pb.QuantiseRecordingResponse, pb.Quantisation)

    def give_up_lanes(self, request: pb.GiveUpLanesRequest) -> pb.GiveUpLanesResponse:
        """Go on without the lanes that are missing."""
        name = from_name("recordings", request.name)
        lanes = self._owner.upkeep.give_up(name, accept_loss=request.accept_loss)
        return pb.GiveUpLanesResponse(lanes=[to_message(lane, pb.MissingLane) for lane in lanes])

    def collect_garbage(
        self, request: pb.CollectGarbageRequest
    ) -> Iterator[Framed[pb.CollectGarbageResponse]]:
        """Remove what nothing in the store names."""
        older_s = request.older_s if request.HasField("older_s") else DAY_S
        steps = self._owner.upkeep.collect_garbage(older_s)
        yield from _answers(steps, pb.CollectGarbageResponse, pb.Garbage)


def _answers(
    steps: Iterator[WorkStep[object]], response: type[HeadT], result: type[Message]
) -> Iterator[Framed[HeadT]]:
    """Yield a message for each step of some work: its progress, and in the last one the result."""
    for step in steps:
        found = None if step.result is None else to_message(step.result, result)
        progress = to_message(step.progress, pb.CareProgress)
        yield Framed(head=response(progress=progress, result=found), payload=())
