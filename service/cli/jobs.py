"""The command that shows jobs, and what waits for the job that a command began."""

from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption, connect

if TYPE_CHECKING:
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
) -> None:
    """List jobs, or show, wait for or cancel one."""
    from isogloss.service.cli.output import say, write_json, write_table
    from isogloss.service.values.upkeep import DAY_S

    limits = None
    if job is None and (wait or cancel):
        raise typer.BadParameter("say which job: isogloss jobs JOB --wait")
    with connect(store, run_workers=wait or cancel) as client:
        if job is None:
            found = client.jobs()
            limits = client.server_info().limits
        else:
            handle = client.job(job)
            if cancel:
                handle.cancel()
            if wait or cancel:
                watch(handle, is_json=is_json)
            found = [handle.info()]
    if is_json:
        write_json(found if job is None else found[0])
        return
    titles = ("job", "kind", "state", "step", "of", "attempt", "made")
    rows = [
        (j.name, j.kind, j.state, j.step, j.total_steps, j.attempt, j.made or _why(j))
        for j in found
    ]
    write_table(titles, rows, "no jobs yet")
    if limits is not None and limits.jobs_kept:
        say(
            f"jobs that ended are known for {limits.job_keep_s / DAY_S:,.0f} days, the last "
            f"{limits.jobs_kept:,} of them"
        )


def outcome(job: "Job[T]", *, detach: bool, is_json: bool) -> "T | None":
    """Wait for a job and return what it made; with ``detach`` write the job and return None."""
    from isogloss.service.cli.output import say, write_json

    if not detach:
        watch(job, is_json=is_json)
        return job.result()
    if is_json:
        write_json(job.info())
    else:
        say(f"job {job.name}; `isogloss jobs {job.name} --wait` waits for it")
    return None


def watch(job: "Job[T]", *, is_json: bool) -> None:
    """Show a job's progress until it is done."""
    from isogloss.service.cli.output import progress

    with progress(is_quiet=is_json) as show:
        for info in job.progress():
            fvu = info.metrics.get("fvu")
            figures = "" if fvu is None else f", fvu {fvu:.3f}"
            show(f"{info.kind} {info.state.lower()}{figures}", info.step, info.total_steps)


def _why(job: "JobInfo") -> str:
    return "" if job.error is None else f"{job.error[0]}: {job.error[1]}"
