"""The kinds of job: one table, a row a kind, from which everything else about kinds follows.

To add a kind, write its spec (a dataclass, see
:class:`isogloss.service.values.job_specs.JobSpec`), a file with its task, and its row here. The
queue, the worker, the messages and the client's job handles all read this table. The task is named
by text and imported only by the worker, since it may need torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from isogloss.errors import InvalidInput
from isogloss.service.values.job_specs import (
    ImportSpec,
    JobSpec,
    MatchSpec,
    ProbeSpec,
    RotateSpec,
    TrainSpec,
)
from isogloss.service.values.results import DictionaryInfo, MatchInfo, ProbeInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class JobKind:
    """One kind of job."""

    name: str
    """Name of the kind in the queue and on the wire."""
    makes: str
    """Kind, in the catalog, of what the job makes; its result has the id under this name."""
    collection: str
    """Kind of resource that the job makes, as in resource names, such as ``dictionaries``."""
    info: type[object]
    """What clients get of it, from the call ``Get...`` that ``makes`` names."""
    spec: type[JobSpec]
    """Class of the kind's specs."""
    task: str
    """Function that the worker runs, as ``module:function``; see
    :data:`isogloss.service.tasks.heart.Task`.
    """
    changes: str = ""
    """Name of what its jobs change beside what they make; jobs that change the same run one after
    the other. Empty: nothing."""


JOB_KINDS: Mapping[str, JobKind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            JobKind(
                name="train",
                makes="dictionary",
                collection="dictionaries",
                info=DictionaryInfo,
                spec=TrainSpec,
                task="isogloss.service.tasks.train:train_task",
            ),
            JobKind(
                name="probe",
                makes="probe",
                collection="probes",
                info=ProbeInfo,
                spec=ProbeSpec,
                task="isogloss.service.tasks.probe:probe_task",
                changes="probes",
            ),
            JobKind(
                name="match",
                makes="match",
                collection="matches",
                info=MatchInfo,
                spec=MatchSpec,
                task="isogloss.service.tasks.match:match_task",
                changes="probes",
            ),
            JobKind(
                name="import",
                makes="dictionary",
                collection="dictionaries",
                info=DictionaryInfo,
                spec=ImportSpec,
                task="isogloss.service.tasks.import_codes:import_codes_task",
                changes="probes",
            ),
            JobKind(
                name="rotate",
                makes="dictionary",
                collection="dictionaries",
                info=DictionaryInfo,
                spec=RotateSpec,
                task="isogloss.service.tasks.rotate:rotate_task",
            ),
        )
    }
)
"""Every kind of job by name."""


def job_kind(name: str) -> JobKind:
    """Return a kind by its name.

    Raises:
        InvalidInput: there is no such kind.
    """
    found = JOB_KINDS.get(name)
    if found is None:
        raise InvalidInput(f"job kind {name!r} is unknown: use one of {', '.join(JOB_KINDS)}")
    return found


def kind_of(spec: JobSpec) -> JobKind:
    """Return the kind that a spec belongs to.

    Raises:
        InvalidInput: no kind has this class of spec.
    """
    for kind in JOB_KINDS.values():
        if type(spec) is kind.spec:
            return kind
    known = ", ".join(kind.spec.__name__ for kind in JOB_KINDS.values())
    raise InvalidInput(f"{type(spec).__name__} is no spec of a job: use one of {known}")


def read_spec(kind: str, values: Mapping[str, object]) -> JobSpec:
    """Return the spec of a job from its JSON.

    Raises:
        InvalidInput: the kind is unknown, or a field is missing or of the wrong type.
        InvalidName: the name of the thing to make is not an id.
    """
    return job_kind(kind).spec.from_dict(values)
