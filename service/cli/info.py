"""The command that shows what answers for a store."""

from typing import TYPE_CHECKING

import typer

from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption, connect

if TYPE_CHECKING:
    from isogloss.service.client.client import Client
    from isogloss.service.values.server import ServerLimits, ServerProcess

app = typer.Typer()


def limits_of(client: "Client") -> "ServerLimits":
    """Return the limits of what answers."""
    return client.server_info().limits


def _of_jobs(limits: "ServerLimits") -> list[tuple[str, str]]:
    """Return what is said of jobs; nothing where the server does not say."""
    from isogloss.service.cli.describe import size
    from isogloss.service.values.upkeep import DAY_S

    if not limits.jobs_at_a_time:
        return []
    memory, hours = size(limits.job_memory_bytes), limits.job_time_s / 3600
    return [
        ("jobs", f"{limits.jobs_at_a_time:,} at a time, in {memory}, each for {hours:,.1f} h"),
        ("jobs that wait", f"at most {limits.jobs_waiting:,} of a client"),
        (
            "jobs that ended",
            f"known for {limits.job_keep_s / DAY_S:,.0f} days, the last {limits.jobs_kept:,}",
        ),
    ]


@app.command()
def info(store: StoreOption = DEFAULT_STORE, is_json: JsonOption = False) -> None:
    """Show what answers for a store: version, addresses, limits."""
    from isogloss.service.cli.describe import size
    from isogloss.service.cli.output import say, when, write_json, write_table

    with connect(store, read_only=True) as client:
        found = client.server_info()
    if is_json:
        write_json(found)
        return
    limits = found.limits
    rows = [
        ("version", f"{found.version}, Python {found.python}, {found.platform}"),
        ("answers", ", ".join(found.addresses) or "in this process"),
        ("since", when(found.start_time)),
        *(("process", _process(process)) for process in found.processes),
        ("TLS", "on" if found.tls else "off"),
        ("token", "wanted on TCP" if found.token_wanted else "not wanted"),
        ("workers", "run jobs" if found.runs_workers else "run no jobs here"),
        ("kinds of job", ", ".join(found.job_kinds)),
        ("a message", f"at most {size(limits.message_bytes)}"),
        ("a batch", f"at most {size(limits.batch_bytes)}"),
        ("passing through", f"at most {size(limits.held_bytes)}"),
        ("a page", f"at most {limits.page_size:,} items"),
        ("calls", f"at most {limits.calls:,} at a time" if limits.calls else "any number"),
        ("streams", f"at most {limits.streams:,} at a time" if limits.streams else "any number"),
        *_of_jobs(limits),
    ]
    say(f"{store}")
    write_table(("", ""), rows, "")


def _process(found: "ServerProcess") -> str:
    """Describe a process of a server in a line."""
    now = f"process {found.pid}" if found.pid else "does not run now"
    if not found.restarts:
        return f"{found.name}: {now}"
    times = "once" if found.restarts == 1 else f"{found.restarts} times"
    return f"{found.name}: {now}, started again {times}, last {found.last_end}"
