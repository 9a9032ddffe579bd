"""The calls of direct lanes: messages in, tickets out."""

from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.calls.table import Unary, unary
from isogloss.service.control.direct import DirectAccess
from isogloss.service.wire import methods
from isogloss.service.wire.recordings import from_name


class DirectHandlers:
    """Answers what RecordingService offers for writing past the server."""

    def __init__(self, access: DirectAccess) -> None:
        self._access = access

    def unary(self) -> list[Unary]:
        """Return the calls with one answer."""
        return [
            unary(methods.GET_STORAGE, self._storage),
            unary(methods.OPEN_DIRECT_LANE, self._open),
            unary(methods.END_DIRECT_LANE, self._end),
        ]

    def _storage(self, request: pb.GetStorageRequest) -> pb.Storage:
        root, proof_file = self._access.storage()
        return pb.Storage(root=root, proof_file=proof_file)

    def _open(self, request: pb.OpenDirectLaneRequest) -> pb.DirectLane:
        recording = from_name("recordings", request.name)
        ticket = self._access.open(recording, request.producers, request.proof)
        return pb.DirectLane(lane=ticket.lane, ticket=ticket.to_bytes())

    def _end(self, request: pb.EndDirectLaneRequest) -> pb.EndDirectLaneResponse:
        state = self._access.end(from_name("recordings", request.name), request.lane)
        return pb.EndDirectLaneResponse(rows=state.rows, cursors=state.cursors)
