"""The command that serves a store; each of its limits is an option."""

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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


_Listen = Annotated[
    list[str] | None, _other("unix:/PATH or HOST:PORT; else the store's socket.", _WHERE)
]
_Certificate = Annotated[Path | None, _other("PEM certificate chain, for TLS.", _WHERE)]
_Key = Annotated[Path | None, _other("PEM private key of the certificate.", _WHERE)]
_TokenFile = Annotated[
    Path | None,
    _other("File of the token that TCP callers give, which only you may read.", _WHERE),
]
_Group = Annotated[
    str | None, _other("Group of this machine that may read the store's files.", _WHERE)
]
_Reflection = Annotated[bool, _other("Whether callers may list the services.", _WHERE)]
_HeldBytes = Annotated[
    int, _number("Memory for all that passes through; half for batches.", _BATCHES)
]
_WindowBytes = Annotated[int, _number("Sent and not durable yet, of one producer.", _BATCHES)]
_GroupBytes = Annotated[int, _number("Of one commit.", _BATCHES)]
_BatchBytes = Annotated[int, _number("Of the largest batch.", _BATCHES)]
_PartBytes = Annotated[int, _number("Of the parts that clients send.", _BATCHES)]
_PartIdleS = Annotated[
    float, _seconds("Within which the next part of a batch must come.", _BATCHES)
]
_PartBytesPerS = Annotated[int, _number("Slowest pace of a batch, after that time.", _BATCHES)]
_Sessions = Annotated[int, _number("Producers at a time.", _CALLS)]
_IdleSessionS = Annotated[
    float, _seconds("Of silence after which a producer may have to make room.", _CALLS)
]
_IdleLaneS = Annotated[float, _seconds("For which a lane outlives its last producer.", _CALLS)]
_MaxCalls = Annotated[int, _number("Calls of all kinds at a time.", _CALLS)]
_Streams = Annotated[
    int, _number("Calls at a time that read rows or follow upkeep; a thread each.", _CALLS)
]
_ReadIdleS = Annotated[
    float, _seconds("Within which who reads a stream must take a message.", _CALLS)
]
_ReadTotalS = Annotated[float, _seconds("For which a stream may be read.", _CALLS)]
_Threads = Annotated[int, _number("Threads that answer other calls.", _CALLS)]
_QueryThreads = Annotated[int, _number("Threads of the query process.", _CALLS)]
_JobWorkers = Annotated[
    int | None, _number("Jobs that run at a time; one for each four processors.", _JOBS)
]
_JobMemory = Annotated[
    float | None, _other("GiB that jobs may need together; by default all there is.", _JOBS)
]
_JobTime = Annotated[float, _other("Hours that a job may run.", _JOBS)]
_JobsWaiting = Annotated[int, _number("Jobs of one client that have not ended.", _JOBS)]
_KeepDays = Annotated[float, _other("Days that a job that ended is known, with its log.", _JOBS)]
_KeepJobs = Annotated[int, _number("Jobs that ended that are known at most.", _JOBS)]
_Workers = Annotated[bool, _other("Whether jobs are run here.", _LIFE)]
_DrainS = Annotated[float, _seconds("That running calls have after SIGTERM.", _LIFE)]
_Restart = Annotated[bool, _other("Whether the server is started again when it dies.", _LIFE)]


@app.command()
def serve(
    context: typer.Context,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    listen: _Listen = None,
    certificate: _Certificate = None,
    key: _Key = None,
    token_file: _TokenFile = None,
    group: _Group = None,
    reflection: _Reflection = True,
    held_bytes: _HeldBytes = 256 << 20,
    window_bytes: _WindowBytes = 32 << 20,
    group_bytes: _GroupBytes = 64 << 20,
    batch_bytes: _BatchBytes = 64 << 20,
    part_bytes: _PartBytes = 1 << 20,
    part_idle_s: _PartIdleS = 60.0,
    part_bytes_per_s: _PartBytesPerS = 256 << 10,
    sessions: _Sessions = 512,
    idle_session_s: _IdleSessionS = 60.0,
    idle_lane_s: _IdleLaneS = 5.0,
    max_calls: _MaxCalls = 1024,
    streams: _Streams = 64,
    read_idle_s: _ReadIdleS = 300.0,
    read_total_s: _ReadTotalS = 24 * 3600.0,
    threads: _Threads = 16,
    query_threads: _QueryThreads = 4,
    job_workers: _JobWorkers = None,
    job_memory: _JobMemory = None,
    job_time: _JobTime = 720.0,
    jobs_waiting: _JobsWaiting = 1000,
    keep_days: _KeepDays = 30.0,
    keep_jobs: _KeepJobs = 1000,
    workers: _Workers = True,
    drain_s: _DrainS = 10.0,
    restart: _Restart = True,
) -> None:
    """Own a store and answer for it, until Ctrl-C or SIGTERM.

    A second signal ends it at once.
    """
    _check_installed()
    if store.startswith("unix:"):
        raise InvalidInput(f"{store} is a server's address: give the path of a store to serve")
    before = context.parent.params.get("token_file") if context.parent is not None else None
    given = {**context.params, "token_file": token_file or before}
    _run(store, _config(given), is_json=is_json, restart=restart)


def _config(given: dict[str, Any]) -> "ServerConfig":
    """Return the settings that options give: those of one name with them, and those of jobs."""
    from isogloss.service.ingest.limits import IngestLimits
    from isogloss.service.jobs.limits import JobLimits
    from isogloss.service.processes.config import ServerConfig
    from isogloss.service.server.call_limits import CallLimits
    from isogloss.service.transport.credentials import read_token
    from isogloss.service.values.upkeep import DAY_S

    memory_gib: float | None = given["job_memory"]
    jobs = JobLimits(
        workers=given["job_workers"],
        memory_bytes=None if memory_gib is None else int(memory_gib * 2**30),
        time_s=3600 * given["job_time"],
        waiting=given["jobs_waiting"],
        keep_s=DAY_S * given["keep_days"],
        keep=given["keep_jobs"],
    )
    own = _of(ServerConfig, given)
    if given["token_file"] is not None:
        own["token"] = read_token(given["token_file"], "give --token-file another one")
    own["listen"] = tuple(given["listen"] or ())
    return ServerConfig(
        **own,
        run_workers=given["workers"],
        limits=IngestLimits(**_of(IngestLimits, given)),
        calls=CallLimits(**_of(CallLimits, given)),
        jobs=jobs,
    )


def _of(kind: type, given: dict[str, Any]) -> dict[str, Any]:
    """Return the options that have the names of a dataclass's fields."""
    return {field.name: given[field.name] for field in fields(kind) if field.name in given}


def _run(store: str, config: "ServerConfig", *, is_json: bool, restart: bool) -> None:
    """Serve until told to end; then end with the server's exit code."""
    import logging

    from isogloss.service.cli.output import say, write_json

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    def ready(addresses: Sequence[str]) -> None:
        wants_token = any(not address.startswith("unix:") for address in addresses)
        token = _token_file(store) if wants_token else None
        if is_json:
            found = {"store": store, "addresses": list(addresses)}
            write_json(found if token is None else {**found, "token_file": str(token)})
        else:
            say(f"serving {store} on {', '.join(addresses)}")
            if token is not None:
                say(
                    f"who calls over TCP gives the token in {token}: connect(..., token=...) or "
                    "ISOGLOSS_TOKEN; a client that is given the store's path finds it there"
                )
        sys.stdout.flush()

    if restart:
        from isogloss.service.processes.keeping import keep_serving

        raise typer.Exit(keep_serving(store, config, on_ready=ready))
    from isogloss.service.processes.control import serve as run

    run(store, config, on_ready=ready)


def _token_file(store: str) -> Path:
    """Return where the token of a store's TCP ports lies."""
    from isogloss.service.values.addresses import TOKEN_NAME

    if "://" not in store:
        return Path(store).absolute() / TOKEN_NAME
    from isogloss.service.values.state_directory import state_directory  # loads numpy

    return state_directory(store) / TOKEN_NAME


def _check_installed() -> None:
    """Raise ModuleNotFoundError where a package of the server is missing, without loading it."""
    for name in _NEEDED:
        if importlib.util.find_spec(name) is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
