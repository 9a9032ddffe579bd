"""The calls of direct lanes: messages in, tickets out."""

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.control.direct import DirectAccess
from isogloss.service.wire.names import from_name


class DirectHandlers:
    """Answers what RecordingService offers for writing past the server."""

    def __init__(self, access: DirectAccess) -> None:
        self._access = access

    def get_storage(self, request: pb.GetStorageRequest) -> pb.Storage:
        """Return where the store lies, and the file that proves to see it."""
        return pb.Storage(root=self._access.storage())

    def open_direct_lane(self, request: pb.OpenDirectLaneRequest) -> pb.DirectLane:
        """Give a lane to a caller that read the proof."""
        recording = from_name("recordings", request.name)
        ticket = self._access.open(recording, request.producers, request.proof)
        return pb.DirectLane(lane=ticket.lane, ticket=ticket.to_bytes())

    def end_direct_lane(self, request: pb.EndDirectLaneRequest) -> pb.EndDirectLaneResponse:
        """End a direct lane whose writer hangs."""
        state = self._access.end(from_name("recordings", request.name), request.lane)
        return pb.EndDirectLaneResponse(rows=state.rows, cursors=state.cursors)
