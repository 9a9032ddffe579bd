"""The one table between our errors and gRPC, and conversion of errors to a status and back."""

import logging
from collections.abc import Mapping, Sequence

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from isogloss import errors
from isogloss.errors import IsoglossError

DOMAIN = "isogloss"
DETAILS_KEY = "grpc-status-details-bin"
MESSAGE_BYTES = 1500
"""What of an error's text is sent, as UTF-8.

Clients of grpc refuse metadata beyond 8 KB. A text is sent twice: with up to 3 bytes for each of
its own in the status, and up to 4/3 in the details.
"""

_log = logging.getLogger(__name__)

CODES: Mapping[type[IsoglossError], grpc.StatusCode] = {
    IsoglossError: grpc.StatusCode.UNKNOWN,
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.SequenceGap: grpc.StatusCode.OUT_OF_RANGE,
    errors.NoSharedDocuments: grpc.StatusCode.FAILED_PRECONDITION,
    errors.EmptyProbe: grpc.StatusCode.FAILED_PRECONDITION,
    errors.DeadFeature: grpc.StatusCode.FAILED_PRECONDITION,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.StoreOwned: grpc.StatusCode.FAILED_PRECONDITION,
    errors.StorageError: grpc.StatusCode.FAILED_PRECONDITION,
    errors.CorruptData: grpc.StatusCode.DATA_LOSS,
    errors.StorageFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.LaneEnded: grpc.StatusCode.ABORTED,
    errors.ServerError: grpc.StatusCode.UNKNOWN,
    errors.ServerUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.NotAuthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    errors.InternalError: grpc.StatusCode.INTERNAL,
    errors.JobFailed: grpc.StatusCode.FAILED_PRECONDITION,
    errors.JobCancelled: grpc.StatusCode.CANCELLED,
    errors.RankLost: grpc.StatusCode.ABORTED,
    errors.MissingExtra: grpc.StatusCode.FAILED_PRECONDITION,
}
"""Status of each error class; a class that is not here has that of its nearest base."""

_UNDETAILED: Mapping[grpc.StatusCode, tuple[type[IsoglossError], str]] = {
    grpc.StatusCode.UNAVAILABLE: (
        errors.ServerUnavailable,
        "check that `isogloss serve` runs there, the address, and TLS on both ends",
    ),
    grpc.StatusCode.DEADLINE_EXCEEDED: (errors.DeadlineExceeded, "give a longer timeout_s"),
    grpc.StatusCode.CANCELLED: (errors.ServerUnavailable, "the call was cut off; call again"),
    grpc.StatusCode.UNAUTHENTICATED: (errors.NotAuthenticated, "give connect(..., token=...)"),
    grpc.StatusCode.PERMISSION_DENIED: (errors.NotPermitted, "use a token that allows this"),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        errors.ResourceExhausted,
        "send less at once, or raise the server's limit",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (errors.InvalidInput, "see the server's message"),
    grpc.StatusCode.UNIMPLEMENTED: (
        errors.UnsupportedVersion,
        "server and client must be of one release, or the address is not an isogloss server",
    ),
}
"""Class and remedy for a status that carries no detail of ours: grpc or a proxy made it."""

_BY_NUMBER: Mapping[int, grpc.StatusCode] = {code.value[0]: code for code in grpc.StatusCode}


def code_of(error: IsoglossError) -> grpc.StatusCode:
    """Return the gRPC status code of an error."""
    return next(CODES[base] for base in type(error).__mro__ if base in CODES)


def to_status(error: BaseException) -> status_pb2.Status:
    """Describe an error as a ``google.rpc.Status`` with an ErrorInfo (reason, domain).

    An error of the operating system is logged with its trace, and the caller learns what happened
    and no path. Another error that is not ours is a defect: it is logged too, and the caller only
    learns its class, since its text may hold anything. A long text is cut.
    """
    if isinstance(error, IsoglossError):
        known = error
    elif isinstance(error, OSError):
        _log.error("the operating system refused what a call wanted", exc_info=error)
        known = errors.from_os_error(error)
    elif isinstance(error, MemoryError):
        _log.error("no memory while serving a call", exc_info=error)
        known = errors.ResourceExhausted(
            "the server has no memory left for this call: ask for less at once, or try again later"
        )
    else:
        _log.error("unexpected error while serving a call", exc_info=error)
        known = errors.InternalError(
            f"{type(error).__name__} in the server; its log has the trace: please report it"
        )
    info = error_details_pb2.ErrorInfo(reason=known.reason, domain=DOMAIN)
    status = status_pb2.Status(code=code_of(known).value[0], message=_cut(str(known)))
    status.details.add().Pack(info)
    return status


def ending_of(
    error: BaseException,
) -> tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]]:
    """Return with which code, text and trailers a call ends for an error; see :func:`to_status`."""
    status = to_status(error)
    return _BY_NUMBER[status.code], status.message, ((DETAILS_KEY, status.SerializeToString()),)


def _cut(text: str) -> str:
    """Return as much of a text as metadata holds; what UTF-8 cannot hold is escaped."""
    whole = text.encode("utf-8", "backslashreplace")
    if len(whole) <= MESSAGE_BYTES:
        return whole.decode()
    return whole[: MESSAGE_BYTES - 3].decode("utf-8", "ignore") + "…"


def from_status(status: status_pb2.Status) -> IsoglossError:
    """Return the error that a status describes; the inverse of :func:`to_status`."""
    info = error_details_pb2.ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN:
            return errors.from_reason(info.reason)(status.message)
    return _without_details(_BY_NUMBER.get(status.code), status.message)


def from_call(
    code: grpc.StatusCode | None,
    message: str | None,
    trailers: Sequence[tuple[str, str | bytes]] | None,
    address: str,
) -> IsoglossError:
    """Return the error of a call that failed.

    Args:
        code: the status code that grpc reports.
        message: the text that grpc reports.
        trailers: the trailing metadata, which carry our details where our server answered.
        address: where the call went, named when nobody answered there.

    Returns:
        The error to raise in its place.
    """
    for key, value in trailers or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                break
    return _without_details(code, f"{address}: {message or 'no message'}")


def _without_details(code: grpc.StatusCode | None, message: str) -> IsoglossError:
    fallback = (errors.InternalError, "please report it, with the server's log")
    kind, remedy = _UNDETAILED.get(code, fallback) if code is not None else fallback
    name = code.name if code is not None else "no status"
    return kind(f"{message} ({name}); {remedy}")
