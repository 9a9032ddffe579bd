"""Jobs: listing and finding them, and following one until it is done."""

from collections.abc import Callable, Mapping

from google.longrunning import operations_pb2 as operations

from isogloss.service.client.binding import (
    awaiting,
    blocking,
    starting,
    starting_async,
    yielding,
    yielding_async,
)
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.dictionaries import get_dictionary
from isogloss.service.client.operations import Started, get_job, watch
from isogloss.service.client.universality import get_match, get_probe
from isogloss.service.transport.call import Call, collect, then
from isogloss.service.values.job_kinds import job_kind
from isogloss.service.values.results import DictionaryInfo, JobInfo, MatchInfo, ProbeInfo
from isogloss.service.wire.jobs import from_operation
from isogloss.service.wire.pages import MAX_PAGE

Made = DictionaryInfo | ProbeInfo | MatchInfo
"""What a job of any kind makes."""

_GET: Mapping[str, Callable[[str], Call[Made]]] = {
    "dictionaries": get_dictionary,
    "probes": get_probe,
    "matches": get_match,
}
"""How what jobs make is got, by its collection."""


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
        collection = job_kind(info.kind).collection
        return Started(name=name, kind=info.kind, collection=collection, fetch=_GET[collection])

    return then(get_job(name), found)


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
