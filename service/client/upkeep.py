"""Upkeep of a store: list lanes, verify, compact, compress, quantise, give up, remove garbage.

Calls with ``on_progress`` take as long as it takes to read or rewrite what is stored, and have no
deadline. If the caller disconnects or ``on_progress`` raises, the work stops before its next step;
steps already done stay done. Only one such call at a time works on a recording.
"""

from collections.abc import Callable, Sequence
from typing import TypeVar

from google.protobuf.message import Message

from isogloss.errors import InternalError, InvalidInput
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.client.binding import awaiting, blocking
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.transport.call import Call, ask, collect, receive, tell, then
from isogloss.service.values.upkeep import (
    DAY_S,
    Compression,
    Garbage,
    LaneInfo,
    Quantisation,
    UpkeepProgress,
)
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.names import to_name
from isogloss.service.wire.pages import MAX_PAGE
from isogloss.store import Compaction, MissingLane, Problem

ResponseT = TypeVar("ResponseT", bound=Message)
T = TypeVar("T")

OnUpkeep = Callable[[UpkeepProgress], None]
"""Called at least once a second with how far a call is. If it raises, the call ends."""


def lanes(recording: str) -> Call[list[LaneInfo]]:
    """Return the lanes of a recording, in the order in which their rows are numbered.

    A lane holds what one writer wrote between its start and its end; a writer that restarts begins
    another lane.

    Args:
        recording: id of the recording.

    Returns:
        One entry for each lane.

    Raises:
        NotFound: there is no recording with that id.
    """
    name = to_name("recordings", recording)
    return collect(
        lambda token: pb.ListLanesRequest(name=name, page_size=MAX_PAGE, page_token=token),
        pb.ListLanesResponse,
        lambda page: (
            [from_message(message, LaneInfo) for message in page.lanes],
            page.next_page_token,
        ),
    )


def end_direct_lane(recording: str, lane: str) -> Call[dict[str, int]]:
    """End a lane whose writer hangs, so that its producers can write elsewhere.

    A direct lane belongs to a process that writes to the storage itself. When it is ended, that
    process can commit nothing more to it.

    Args:
        recording: id of the recording.
        lane: name of the lane.

    Returns:
        For each producer of the lane, the sequence number of its last durable batch.

    Raises:
        NotFound: there is no such direct lane.
    """
    request = pb.EndDirectLaneRequest(name=to_name("recordings", recording), lane=lane)
    return then(ask(request, pb.EndDirectLaneResponse), lambda found: dict(found.cursors))


def verify(recording: str, *, on_progress: OnUpkeep | None = None) -> Call[list[Problem]]:
    """Compare every stored byte of a recording with its checksum; changes nothing.

    Args:
        recording: id of the recording.
        on_progress: called with how many bytes of how many are checked. If it raises, the check
            ends.

    Returns:
        The problems found; empty when there is none.

    Raises:
        NotFound: there is no recording with that id.
        Conflict: another upkeep call works on the recording.
    """
    problems: list[Problem] = []

    def take(answer: Framed[pb.VerifyRecordingResponse]) -> None:
        if on_progress is not None:
            tell(on_progress, from_message(answer.head.progress, UpkeepProgress))
        problems.extend(from_message(message, Problem) for message in answer.head.problems)

    request = pb.VerifyRecordingRequest(name=to_name("recordings", recording))
    return then(receive(request, pb.VerifyRecordingResponse, take), lambda _: problems)


def compact(
    recording: str, *, max_rows: int | None = None, on_progress: OnUpkeep | None = None
) -> Call[Compaction]:
    """Join the short sealed lanes of a recording into longer ones.

    Args:
        recording: id of the recording.
        max_rows: join lanes up to this number of rows; None: as many as take about 1 GiB at the
            widest site.
        on_progress: called with how far the work is. If it raises, the work ends.

    Returns:
        How many lanes were joined into how many, and how many rows were written again.

    Raises:
        NotFound: there is no recording with that id.
        Conflict: another upkeep call works on the recording.
        CorruptData: rows do not match the checksums of their commits; their lanes were not joined.
        InvalidInput: ``max_rows`` is not positive.
    """
    request = pb.CompactRecordingRequest(name=to_name("recordings", recording), max_rows=max_rows)
    return _outcome(request, pb.CompactRecordingResponse, Compaction, on_progress)


def compress(recording: str, *, on_progress: OnUpkeep | None = None) -> Call[Compression]:
    """Compress the sealed lanes of a recording without loss: reading gives the same rows.

    Args:
        recording: id of the recording.
        on_progress: called with how far the work is. If it raises, the work ends.

    Returns:
        How much was compressed, and the bytes before and after.

    Raises:
        NotFound: there is no recording with that id.
        Conflict: another upkeep call works on the recording.
        CorruptData: rows do not match the checksums of their commits; their lanes were not
            compressed.
    """
    request = pb.CompressRecordingRequest(name=to_name("recordings", recording))
    return _outcome(request, pb.CompressRecordingResponse, Compression, on_progress)


def quantise(
    recording: str,
    sites: Sequence[str] | None = None,
    *,
    accept_loss: bool,
    on_progress: OnUpkeep | None = None,
) -> Call[Quantisation]:
    """Round the rows of a recording's sealed lanes to 8 bits a number. This cannot be undone.

    Reading still gives rows in the site's dtype. Statistics stay those of the rows as recorded.

    Args:
        recording: id of the recording.
        sites: names of the sites to round; None: all.
        accept_loss: must be True, to say that you know that the exact rows will be gone.
        on_progress: called with how far the work is. If it raises, the work ends.

    Returns:
        The measured error of each site, and the bytes before and after.

    Raises:
        NotFound: there is no recording with that id.
        InvalidInput: ``accept_loss`` is False, or ``sites`` is empty.
        UnknownSite: the recording has no such site; the message lists the nearest names.
        Conflict: another upkeep call works on the recording.
    """
    if sites is not None and not sites:
        raise InvalidInput("0 sites to quantise: name some, or pass None for all")
    request = pb.QuantiseRecordingRequest(
        name=to_name("recordings", recording), sites=sites, accept_loss=accept_loss
    )
    return _outcome(request, pb.QuantiseRecordingResponse, Quantisation, on_progress)


def give_up_lanes(recording: str, *, accept_loss: bool) -> Call[list[MissingLane]]:
    """Go on without the lanes that a recording lacks, as :meth:`verify` names them.

    Nothing of a recording is read or written while a lane is missing from the disk that its
    manifest names. The remedy is to restore the lane from a copy. This is for when there is none.

    Args:
        recording: id of the recording.
        accept_loss: must be True, to say that you know that the rows will be gone: they do not
            count should the files come back later.

    Returns:
        The lanes that were given up; none where none is missing.

    Raises:
        NotFound: there is no recording with that id.
        InvalidInput: ``accept_loss`` is False.
        Conflict: an upkeep call works on the recording.
    """
    request = pb.GiveUpLanesRequest(name=to_name("recordings", recording), accept_loss=accept_loss)
    return then(
        ask(request, pb.GiveUpLanesResponse),
        lambda found: [from_message(lane, MissingLane) for lane in found.lanes],
    )


def collect_garbage(
    older_s: float = DAY_S, *, on_progress: OnUpkeep | None = None
) -> Call[Garbage]:
    """Remove files that crashes and deletions left in the store, and the logs of ended jobs.

    Args:
        older_s: leave what was changed less than so many seconds ago. Only lanes of the owner that
            were not complete when it crashed are removed at any age.
        on_progress: called with how far the work is. If it raises, the work ends.

    Returns:
        How many files and logs were removed.

    Raises:
        InvalidInput: ``older_s`` is negative.
        Conflict: another upkeep call works on a recording.
    """
    request = pb.CollectGarbageRequest(older_s=older_s)
    return _outcome(request, pb.CollectGarbageResponse, Garbage, on_progress)


def _outcome(
    request: Message, response: type[ResponseT], kind: type[T], on_progress: OnUpkeep | None
) -> Call[T]:
    """Follow a stream of progress messages and return the result that the last one holds."""
    found: list[T] = []

    def take(answer: Framed[ResponseT]) -> None:
        head = answer.head
        if on_progress is not None:
            tell(on_progress, from_message(_part(head, "progress"), UpkeepProgress))
        if head.HasField("result"):
            found.append(from_message(_part(head, "result"), kind))

    yield from receive(request, response, take)
    if not found:
        raise InternalError("the server ended in good order and gave no result: report it")
    return found[-1]


def _part(message: Message, field: str) -> Message:
    return getattr(message, field)


class UpkeepClient(Connection):
    """The methods of :class:`isogloss.Client` that look after a store."""

    lanes = blocking(lanes)
    end_direct_lane = blocking(end_direct_lane)
    verify = blocking(verify)
    compact = blocking(compact)
    compress = blocking(compress)
    quantise = blocking(quantise)
    give_up_lanes = blocking(give_up_lanes)
    collect_garbage = blocking(collect_garbage)


class AsyncUpkeepClient(AsyncConnection):
    """The methods of :class:`isogloss.AsyncClient` that look after a store."""

    lanes = awaiting(lanes)
    end_direct_lane = awaiting(end_direct_lane)
    verify = awaiting(verify)
    compact = awaiting(compact)
    compress = awaiting(compress)
    quantise = awaiting(quantise)
    give_up_lanes = awaiting(give_up_lanes)
    collect_garbage = awaiting(collect_garbage)
