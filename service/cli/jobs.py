"""The command that shows jobs, and what waits for the job that a command began."""

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from isogloss.service.cli.info import limits_of
from isogloss.service.cli.options import (
    DEFAULT_STORE,
    CsvOption,
    JsonOption,
    ParquetOption,
    StoreOption,
    connect,
)

if TYPE_CHECKING:
    from isogloss.service.client.client import Client
    from isogloss.service.client.job import Job
    from isogloss.service.values.results import JobInfo

T = TypeVar("T")

app = typer.Typer()

DetachOption = Annotated[
    bool, typer.Option("--detach", help="Do not wait; print the job, which a server goes on with.")
]


@app.command()
def jobs(
    job: Annotated[
        str | None, typer.Argument(help="Id of a job; by default all are listed.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for the job.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Ask the job to end.")] = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List jobs, or show, wait for or cancel one."""
    from isogloss.service.cli.output import TableForm, say, write_json, write_list
    from isogloss.service.values.upkeep import DAY_S

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    limits = None
    if job is None and (wait or cancel):
        raise typer.BadParameter("say which job: isogloss jobs JOB --wait")
    with connect(store, run_workers=wait or cancel, read_only=not (wait or cancel)) as client:
        if job is None:
            found = client.jobs()
            limits = limits_of(client)
        else:
            handle = client.job(job)
            if cancel:
                handle.cancel()
            if wait or cancel:
                watch(client, handle, is_json=is_json)
            found = [handle.info()]
    if is_json and job is not None:
        write_json(found[0])
        return
    titles = ("job", "kind", "state", "step", "of", "attempt", "made")
    rows = [
        (j.name, j.kind, j.state, j.step, j.total_steps, j.attempt, j.made or _why(j))
        for j in found
    ]
    write_list(form, found, titles, rows, "no jobs yet")
    if limits is not None and limits.jobs_kept and not form.is_for_programs:
        say(
            f"jobs that ended are known for {limits.job_keep_s / DAY_S:,.0f} days, the last "
            f"{limits.jobs_kept:,} of them"
        )


def outcome(client: "Client", job: "Job[T]", *, detach: bool, is_json: bool) -> "T | None":
    """Wait for a job and return what it made; with ``detach`` write the job and return None."""
    from isogloss.service.cli.output import say, write_json

    if not detach:
        watch(client, job, is_json=is_json)
        return job.result()
    if is_json:
        write_json(job.info())
    elif client.is_local:
        say(
            f"job {job.name} waits in the queue: nobody serves this store, so it runs while "
            f"`isogloss jobs {job.name} --wait` does, or with `isogloss serve`"
        )
    else:
        say(f"job {job.name}; `isogloss jobs {job.name} --wait` waits for it")
    return None


def watch(client: "Client", job: "Job[T]", *, is_json: bool) -> None:
    """Show a job's progress until it is done; on Ctrl-C say what becomes of it.

    The worker of a job that this process runs is ended first, so that the job is in the state that
    is told. A second Ctrl-C does not wait for that.
    """
    from isogloss.service.cli.output import hint, progress

    try:
        with progress(is_quiet=is_json) as show:
            for info in job.progress():
                fvu = info.metrics.get("fvu")
                figures = "" if fvu is None else f", fvu {fvu:.3f}"
                show(f"{info.kind} {info.state.lower()}{figures}", info.step, info.total_steps)
    except KeyboardInterrupt:
        if client.is_local:
            hint(f"ending the worker of job {job.name}")
        try:
            if client.is_local:
                client.close()
        finally:
            hint(_left(job.name, is_local=client.is_local))
        raise


def _left(job: str, *, is_local: bool) -> str:
    """Say what becomes of a job that nobody waits for any more."""
    wait, cancel = f"`isogloss jobs {job} --wait`", f"`isogloss jobs {job} --cancel`"
    if not is_local:
        return f"job {job} goes on at the server: {wait} follows it, {cancel} ends it"
    return (
        f"job {job} is queued, and nobody runs it: {wait} goes on from its last checkpoint, "
        f"{cancel} ends it; else it goes on when the store is opened next to train or serve"
    )


def _why(job: "JobInfo") -> str:
    return "" if job.error is None else f"{job.error[0]}: {job.error[1]}"
