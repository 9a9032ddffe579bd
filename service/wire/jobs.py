"""Between jobs and long-running operations, whose metadata and response are packed messages."""

from collections.abc import Mapping

from google.longrunning import operations_pb2 as operations
from google.rpc import status_pb2

from isogloss import errors
from isogloss.proto.v1 import jobs_pb2
from isogloss.service.values.job_kinds import job_kind
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.results import JobInfo
from isogloss.service.wire import errors as status
from isogloss.service.wire.names import to_name
from isogloss.service.wire.scalars import from_time, to_time

_STATES: Mapping[str, jobs_pb2.JobState.ValueType] = {
    name.removeprefix("JOB_STATE_"): number for name, number in jobs_pb2.JobState.items() if number
}
_STATE_NAMES = {number: name for name, number in _STATES.items()}


def to_operation(job: JobInfo) -> operations.Operation:
    """Return a job as a long-running operation."""
    operation = operations.Operation(name=f"operations/{job.name}", done=job.is_done)
    operation.metadata.Pack(
        jobs_pb2.JobMetadata(
            kind=job.kind,
            state=_STATES[job.state],
            step=job.step,
            total_steps=job.total_steps,
            metrics=dict(job.metrics),
            attempt=job.attempt,
            create_time=to_time(job.created),
            update_time=to_time(job.updated),
        )
    )
    if job.state == "SUCCEEDED":
        operation.response.Pack(jobs_pb2.JobResult(name=job.made))
    elif job.is_done:
        reason, message = job.error or ("JOB_CANCELLED", f"job {job.name!r} was cancelled")
        operation.error.CopyFrom(status.to_status(errors.from_reason(reason)(message)))
    return operation


def from_operation(operation: operations.Operation) -> JobInfo:
    """Read a job from a long-running operation."""
    metadata, result = jobs_pb2.JobMetadata(), jobs_pb2.JobResult()
    operation.metadata.Unpack(metadata)
    operation.response.Unpack(result)
    failed = operation.HasField("error") and metadata.state == jobs_pb2.JOB_STATE_FAILED
    return JobInfo(
        name=operation.name.removeprefix("operations/"),
        kind=metadata.kind,
        state=_STATE_NAMES.get(metadata.state, "QUEUED"),
        step=metadata.step,
        total_steps=metadata.total_steps,
        metrics=dict(metadata.metrics),
        attempt=metadata.attempt,
        created=from_time(metadata.create_time),
        updated=from_time(metadata.update_time),
        made=result.name,
        error=_reason_and_message(operation.error) if failed else None,
    )


def to_job(record: JobRecord) -> JobInfo:
    """Return what the queue knows of a job as a client sees it."""
    kind = job_kind(record.kind)
    made = record.result.get(kind.makes) if record.result else None
    return JobInfo(
        name=record.id,
        kind=record.kind,
        state=str(record.state),
        step=record.step,
        total_steps=record.total_steps,
        metrics=record.metrics,
        attempt=record.attempt,
        created=record.created,
        updated=record.updated,
        made=to_name(kind.collection, str(made)) if made else "",
        error=record.error,
    )


def _reason_and_message(error: status_pb2.Status) -> tuple[str, str]:
    found = status.from_status(error)
    return found.reason, str(found)
