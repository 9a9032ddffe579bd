"""Jobs: listing and finding them, and following one until it is done."""

from collections.abc import Callable
from typing import cast

from google.longrunning import operations_pb2 as operations
from google.protobuf.message import Message

from isogloss.errors import InternalError
from isogloss.service.client.binding import (
    awaiting,
    blocking,
    starting,
    starting_async,
    yielding,
    yielding_async,
)
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.operations import Started, get_job, watch
from isogloss.service.transport.call import Call, ask, collect, then
from isogloss.service.values.job_kinds import JobKind, job_kind
from isogloss.service.values.results import DictionaryInfo, JobInfo, MatchInfo, ProbeInfo
from isogloss.service.wire.jobs import from_operation
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.methods import method_named
from isogloss.service.wire.names import to_name
from isogloss.service.wire.pages import MAX_PAGE

Made = DictionaryInfo | ProbeInfo | MatchInfo
"""What a job of any kind makes."""


def jobs() -> Call[list[JobInfo]]:
    """Return all jobs of the store, oldest first, those that have ended too."""
    return collect(
        lambda token: operations.ListOperationsRequest(page_size=MAX_PAGE, page_token=token),
        operations.ListOperationsResponse,
        lambda page: (map(from_operation, page.operations), page.next_page_token),
    )


def job(name: str) -> Call[Started[Made]]:
    """Return a handle on a job that exists.

    Args:
        name: id of the job.

    Returns:
        The handle, as the call that began the job returned it.

    Raises:
        NotFound: there is no job with that id.
    """

    def found(info: JobInfo) -> Started[Made]:
        kind = job_kind(info.kind)
        return Started(
            name=name, kind=kind.name, collection=kind.collection, fetch=_fetch_made(kind)
        )

    return then(get_job(name), found)


def _fetch_made(kind: JobKind) -> Callable[[str], Call[Made]]:
    """Return what asks for the thing of a given id that a job of a kind made."""
    method = method_named(f"get_{kind.makes}")
    if method is None:
        raise InternalError(f"job kind {kind.name!r} makes a {kind.makes}, which no call returns")
    # the request of every Get... call has the resource's name, and takes it by keyword
    make_request = cast("Callable[..., Message]", method.request)

    def fetch(made: str) -> Call[Made]:
        request = make_request(name=to_name(kind.collection, made))
        # the row says which class the answer is
        return then(
            ask(request, method.response),
            lambda found: cast("Made", from_message(found, kind.info)),
        )

    return fetch


class JobsClient(Connection):
    """The methods of :class:`isogloss.Client` about jobs."""

    jobs = blocking(jobs)
    job = starting(job)
    watch = yielding(watch)


class AsyncJobsClient(AsyncConnection):
    """The methods of :class:`isogloss.AsyncClient` about jobs."""

    jobs = awaiting(jobs)
    job = starting_async(job)
    watch = yielding_async(watch)
