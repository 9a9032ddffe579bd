"""The command that serves a store; each of its limits is an option."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption

if TYPE_CHECKING:
    from isogloss.service.processes.config import ServerConfig

app = typer.Typer()

_WHERE = "Where it listens, and for whom"
_BATCHES = "Limits of batches on their way to the disk"
_CALLS = "Limits of calls"
_JOBS = "Limits of jobs"
_LIFE = "Its processes"
_NEEDED = ("grpc", "grpc_health", "grpc_reflection", "zarr")
"""Packages that a server needs and a client does not."""


def _number(text: str, panel: str) -> object:
    """Return an option that is a positive number."""
    return typer.Option(help=text, rich_help_panel=panel, min=1)


def _seconds(text: str, panel: str) -> object:
    """Return an option that is a time."""
    return typer.Option(help=text, rich_help_panel=panel, min=0, metavar="SECONDS")


def _other(text: str, panel: str) -> object:
    return typer.Option(help=text, rich_help_panel=panel)


@app.command()
def serve(
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    listen: Annotated[
        list[str] | None, _other("unix:/PATH or HOST:PORT; else the store's socket.", _WHERE)
    ] = None,
    certificate: Annotated[Path | None, _other("PEM certificate chain, for TLS.", _WHERE)] = None,
    key: Annotated[Path | None, _other("PEM private key of the certificate.", _WHERE)] = None,
    group: Annotated[
        str | None, _other("Group of this machine that may read the store's files.", _WHERE)
    ] = None,
    reflection: Annotated[bool, _other("Whether callers may list the services.", _WHERE)] = True,
    held_bytes: Annotated[int, _number("In memory, of all producers.", _BATCHES)] = 256 << 20,
    window_bytes: Annotated[
        int, _number("Sent and not durable yet, of one producer.", _BATCHES)
    ] = 32 << 20,
    group_bytes: Annotated[int, _number("Of one commit.", _BATCHES)] = 64 << 20,
    batch_bytes: Annotated[int, _number("Of the largest batch.", _BATCHES)] = 64 << 20,
    part_bytes: Annotated[int, _number("Of the parts that clients send.", _BATCHES)] = 1 << 20,
    part_idle_s: Annotated[
        float, _seconds("Within which the next part of a batch must come.", _BATCHES)
    ] = 60.0,
    part_bytes_per_s: Annotated[
        int, _number("Slowest pace of a batch, after that time.", _BATCHES)
    ] = 256 << 10,
    sessions: Annotated[int, _number("Producers at a time.", _CALLS)] = 512,
    idle_session_s: Annotated[
        float, _seconds("Of silence after which a producer may have to make room.", _CALLS)
    ] = 60.0,
    idle_lane_s: Annotated[
        float, _seconds("For which a lane outlives its last producer.", _CALLS)
    ] = 5.0,
    max_calls: Annotated[int, _number("Calls of all kinds at a time.", _CALLS)] = 1024,
    streams: Annotated[
        int, _number("Calls at a time that read rows or follow upkeep; a thread each.", _CALLS)
    ] = 64,
    read_idle_s: Annotated[
        float, _seconds("Within which who reads a stream must take a message.", _CALLS)
    ] = 300.0,
    read_total_s: Annotated[float, _seconds("For which a stream may be read.", _CALLS)] = 86_400.0,
    threads: Annotated[int, _number("Threads that answer other calls.", _CALLS)] = 16,
    query_threads: Annotated[int, _number("Threads of the query process.", _CALLS)] = 4,
    job_workers: Annotated[
        int | None, _number("Jobs that run at a time; one for each four processors.", _JOBS)
    ] = None,
    job_memory: Annotated[
        float | None, _other("GiB that jobs may need together; by default all there is.", _JOBS)
    ] = None,
    job_time: Annotated[float, _other("Hours that a job may run.", _JOBS)] = 720.0,
    jobs_waiting: Annotated[int, _number("Jobs of one client that have not ended.", _JOBS)] = 1000,
    keep_days: Annotated[
        float, _other("Days that a job that ended is known, with its log.", _JOBS)
    ] = 30.0,
    keep_jobs: Annotated[int, _number("Jobs that ended that are known at most.", _JOBS)] = 1000,
    workers: Annotated[bool, _other("Whether jobs are run here.", _LIFE)] = True,
    drain_s: Annotated[float, _seconds("That running calls have after SIGTERM.", _LIFE)] = 10.0,
    restart: Annotated[
        bool, _other("Whether the server is started again when it dies.", _LIFE)
    ] = True,
) -> None:
    """Own a store and answer for it, until Ctrl-C or SIGTERM; a second one ends it at once."""
    from isogloss.service.ingest.limits import IngestLimits
    from isogloss.service.jobs.limits import JobLimits
    from isogloss.service.processes.config import ServerConfig
    from isogloss.service.values.upkeep import DAY_S

    _check_installed()
    if store.startswith("unix:"):
        raise InvalidInput(f"{store} is a server's address: give the path of a store to serve")
    limits = IngestLimits(
        part_bytes=part_bytes,
        batch_bytes=batch_bytes,
        window_bytes=window_bytes,
        held_bytes=held_bytes,
        group_bytes=group_bytes,
        sessions=sessions,
        idle_session_s=idle_session_s,
        idle_lane_s=idle_lane_s,
    )
    jobs = JobLimits(
        workers=job_workers,
        memory_bytes=None if job_memory is None else int(job_memory * 2**30),
        time_s=3600 * job_time,
        waiting=jobs_waiting,
        keep_s=DAY_S * keep_days,
        keep=keep_jobs,
    )
    config = ServerConfig(
        listen=tuple(listen or ()),
        certificate=certificate,
        key=key,
        group=group,
        reflection=reflection,
        drain_s=drain_s,
        max_calls=max_calls,
        streams=streams,
        threads=threads,
        query_threads=query_threads,
        read_idle_s=read_idle_s,
        read_total_s=read_total_s,
        part_idle_s=part_idle_s,
        part_bytes_per_s=part_bytes_per_s,
        run_workers=workers,
        limits=limits,
        jobs=jobs,
    )
    _run(store, config, is_json=is_json, restart=restart)


def _run(store: str, config: "ServerConfig", *, is_json: bool, restart: bool) -> None:
    """Serve until told to end; then end with the server's exit code."""
    import logging

    from isogloss.service.cli.output import say, write_json

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def ready(addresses: Sequence[str]) -> None:
        if is_json:
            write_json({"store": store, "addresses": list(addresses)})
        else:
            say(f"serving {store} on {', '.join(addresses)}")
        sys.stdout.flush()

    if restart:
        from isogloss.service.processes.keeping import keep_serving

        raise typer.Exit(keep_serving(store, config, on_ready=ready))
    from isogloss.service.processes.control import serve as run

    run(store, config, on_ready=ready)


def _check_installed() -> None:
    """Raise ModuleNotFoundError where a package of the server is missing, without loading it."""
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
