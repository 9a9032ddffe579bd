"""Between our values and messages: dictionaries, probes, features, matches, jobs."""

from collections.abc import Mapping

from google.longrunning import operations_pb2 as operations
from google.rpc import status_pb2

from isogloss import errors
from isogloss.errors import InvalidName
from isogloss.proto.v1 import dictionaries_pb2, jobs_pb2
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.values.job_kinds import job_kind
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureContext,
    FeatureInfo,
    FeatureRef,
    Hit,
    JobInfo,
    MatchInfo,
    PairInfo,
    ProbeInfo,
)
from isogloss.service.wire import errors as status
from isogloss.service.wire.recordings import (
    from_json,
    from_name,
    from_revision,
    from_time,
    to_json,
    to_name,
    to_revision,
    to_time,
)

_STATES: Mapping[str, jobs_pb2.JobState.ValueType] = {
    "QUEUED": jobs_pb2.JOB_STATE_QUEUED,
    "STARTING": jobs_pb2.JOB_STATE_STARTING,
    "RUNNING": jobs_pb2.JOB_STATE_RUNNING,
    "CANCELLING": jobs_pb2.JOB_STATE_CANCELLING,
    "SUCCEEDED": jobs_pb2.JOB_STATE_SUCCEEDED,
    "FAILED": jobs_pb2.JOB_STATE_FAILED,
    "CANCELLED": jobs_pb2.JOB_STATE_CANCELLED,
}
_STATE_NAMES = {number: name for name, number in _STATES.items()}


def to_feature_name(feature: FeatureRef) -> str:
    """Return the resource name of a feature."""
    return f"{to_name('dictionaries', feature.dictionary)}/features/{feature.feature}"


def from_feature_name(name: str) -> FeatureRef:
    """Read the resource name of a feature; InvalidName when it is none."""
    parent, _, index = name.partition("/features/")
    if not (index.isascii() and index.isdecimal() and len(index) < 19):
        raise InvalidName(
            f"name {name!r} is not of the form dictionaries/ID/features/NUMBER, such as "
            "dictionaries/a/features/7"
        )
    return FeatureRef(dictionary=from_name("dictionaries", parent), feature=int(index))


def to_dictionary(info: DictionaryInfo) -> dictionaries_pb2.Dictionary:
    """Return a dictionary as a message."""
    return dictionaries_pb2.Dictionary(
        name=to_name("dictionaries", info.id),
        uid=info.uid,
        etag=info.etag,
        kind=info.kind,
        features=info.features,
        width=info.width,
        k=info.k,
        recording=to_name("recordings", info.recording),
        recording_uid=info.recording_uid,
        site=info.site,
        revision=to_revision(info.revision),
        provenance_json=to_json(info.provenance),
        metrics=dict(info.metrics),
        create_time=to_time(info.created),
    )


def from_dictionary(message: dictionaries_pb2.Dictionary) -> DictionaryInfo:
    """Read a dictionary from a message."""
    return DictionaryInfo(
        id=from_name("dictionaries", message.name),
        uid=message.uid,
        etag=message.etag,
        kind=message.kind,
        features=message.features,
        width=message.width,
        k=message.k,
        recording=from_name("recordings", message.recording),
        recording_uid=message.recording_uid,
        site=message.site,
        revision=from_revision(message.revision),
        metrics=dict(message.metrics),
        provenance=from_json(message.provenance_json, "provenance_json"),
        created=from_time(message.create_time),
    )


def to_probe(info: ProbeInfo) -> pb.Probe:
    """Return a probe as a message."""
    return pb.Probe(
        name=to_name("probes", info.id),
        uid=info.uid,
        etag=info.etag,
        recordings=[to_name("recordings", r) for r in info.recordings],
        dictionaries=[to_name("dictionaries", d) for d in info.dictionaries],
        grid=info.grid,
        documents=info.documents,
        segments=info.segments,
        create_time=to_time(info.created),
    )


def from_probe(message: pb.Probe) -> ProbeInfo:
    """Read a probe from a message."""
    return ProbeInfo(
        id=from_name("probes", message.name),
        uid=message.uid,
        etag=message.etag,
        recordings=tuple(from_name("recordings", r) for r in message.recordings),
        dictionaries=tuple(from_name("dictionaries", d) for d in message.dictionaries),
        grid=message.grid,
        documents=message.documents,
        segments=message.segments,
        created=from_time(message.create_time),
    )


def to_match(info: MatchInfo) -> pb.Match:
    """Return a match as a message."""
    return pb.Match(
        name=to_name("matches", info.id),
        uid=info.uid,
        etag=info.etag,
        a=to_name("dictionaries", info.a),
        b=to_name("dictionaries", info.b),
        probe=to_name("probes", info.probe),
        pairs=info.pairs,
        summary=info.text,
        result_json=to_json(info.details),
        create_time=to_time(info.created),
    )


def from_match(message: pb.Match) -> MatchInfo:
    """Read a match from a message."""
    return MatchInfo(
        id=from_name("matches", message.name),
        uid=message.uid,
        etag=message.etag,
        a=from_name("dictionaries", message.a),
        b=from_name("dictionaries", message.b),
        probe=from_name("probes", message.probe),
        pairs=message.pairs,
        created=from_time(message.create_time),
        text=message.summary,
        details=from_json(message.result_json, "result_json"),
    )


def to_hit(hit: Hit) -> pb.Hit:
    """Return a hit as a message."""
    return pb.Hit(
        feature=to_feature_name(hit.ref),
        r=hit.r,
        excess=hit.excess,
        margin=hit.margin,
        mutual=hit.mutual,
        cofires=hit.cofires,
        fires=hit.fires,
        partial_token=hit.partial_token,
    )


def from_hit(message: pb.Hit) -> Hit:
    """Read a hit from a message."""
    ref = from_feature_name(message.feature)
    return Hit(
        dictionary=ref.dictionary,
        feature=ref.feature,
        r=message.r,
        excess=message.excess,
        margin=message.margin,
        mutual=message.mutual,
        cofires=message.cofires,
        fires=message.fires,
        partial_token=message.partial_token,
    )


def to_feature(info: FeatureInfo) -> pb.Feature:
    """Return what a feature does as a message."""
    return pb.Feature(
        name=to_feature_name(FeatureRef(dictionary=info.dictionary, feature=info.feature)),
        probe=to_name("probes", info.probe),
        fires=info.fires,
        density=info.density,
        max_activation=info.max_activation,
        contexts=[
            pb.Context(
                document=c.document,
                before=c.before,
                peak=c.peak,
                after=c.after,
                activation=c.value,
            )
            for c in info.contexts
        ],
    )


def from_feature(message: pb.Feature) -> FeatureInfo:
    """Read what a feature does from a message."""
    ref = from_feature_name(message.name)
    return FeatureInfo(
        dictionary=ref.dictionary,
        feature=ref.feature,
        probe=from_name("probes", message.probe),
        fires=message.fires,
        density=message.density,
        max_activation=message.max_activation,
        contexts=tuple(
            FeatureContext(
                document=c.document,
                before=c.before,
                peak=c.peak,
                after=c.after,
                value=c.activation,
            )
            for c in message.contexts
        ),
    )


def to_pair(info: PairInfo) -> pb.Pair:
    """Return a pair as a message."""
    return pb.Pair(
        feature_a=info.feature_a,
        feature_b=info.feature_b,
        r_choose=info.r_choose,
        margin=info.margin,
        r=info.r,
        ci_low=info.ci_low,
        ci_high=info.ci_high,
        fires_a=info.fires_a,
        fires_b=info.fires_b,
        cofires=info.cofires,
        jaccard=info.jaccard,
        token_null=info.token_null,
        position_null=info.position_null,
        document_null=info.document_null,
        partial_token=info.partial_token,
        replicated=info.replicated,
        explained_by=info.explained_by,
    )


def from_pair(message: pb.Pair) -> PairInfo:
    """Read a pair from a message."""
    return PairInfo(
        feature_a=message.feature_a,
        feature_b=message.feature_b,
        r_choose=message.r_choose,
        margin=message.margin,
        r=message.r,
        ci_low=message.ci_low,
        ci_high=message.ci_high,
        fires_a=message.fires_a,
        fires_b=message.fires_b,
        cofires=message.cofires,
        jaccard=message.jaccard,
        token_null=message.token_null,
        position_null=message.position_null,
        document_null=message.document_null,
        partial_token=message.partial_token,
        replicated=message.replicated,
        explained_by=message.explained_by,
    )


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
