"""Jobs as rows of the queue's table: how a spec is written, compared and read back."""

import json
import sqlite3

from isogloss.errors import InvalidInput
from isogloss.service.values import job_kinds
from isogloss.service.values.job_kinds import JobKind
from isogloss.service.values.job_specs import JobSpec
from isogloss.service.values.jobs import JobRecord, JobState


def spec_text(kind: JobKind, spec: JobSpec) -> str:
    """Return a spec as it is queued; InvalidInput where JSON does not hold its values."""
    try:
        return json.dumps(spec.to_dict(), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"the spec of a {kind.name} job must be plain JSON: {error}") from error


def asks_for(row: sqlite3.Row, kind: JobKind, text: str) -> bool:
    """Whether a queued job asks for the same; an earlier release may have left out defaults."""
    if row["kind"] != kind.name:
        return False
    try:
        found, wanted = (kind.spec.from_dict(json.loads(given)) for given in (row["spec"], text))
    except InvalidInput:
        return False
    return found == wanted


def changes_of(kind: str) -> str:
    """Return what jobs of a kind change that others change too; empty: nothing."""
    found = job_kinds.JOB_KINDS.get(kind)
    return "" if found is None else found.changes


def record_of(row: sqlite3.Row) -> JobRecord:
    """Return the job that a row holds."""
    return JobRecord(
        id=row["id"],
        kind=row["kind"],
        state=JobState(row["state"]),
        spec=json.loads(row["spec"]),
        result=None if row["result"] is None else json.loads(row["result"]),
        error=None if row["reason"] is None else (row["reason"], row["message"]),
        step=row["step"],
        total_steps=row["total_steps"],
        metrics=json.loads(row["metrics"]),
        attempt=row["attempt"],
        created=row["created"],
        updated=row["updated"],
    )
