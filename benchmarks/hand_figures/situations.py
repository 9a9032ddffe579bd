"""Errors of users that lie not in a command's words but in what is around it.

A pipe whose reader left, a full device, another process that has the store, a server that is away,
a terminal in which Ctrl-C was pressed. Each is made with real processes.
"""

import http.server
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from service_figures.served import scratch, served

from hand_figures.planted_errors import RECORDING, SITE, make_places
from isogloss.store import Document, RowBatch, SiteSpec, Store
from isogloss.store.testing import sample_spec

_COMMAND = (sys.executable, "-m", "isogloss")
_HOLD = """
import sys
import isogloss
with isogloss.connect(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""
_ROWS = 4096


def make_place(place: Path) -> None:
    """Make the places of the planted errors, and a store on which a job runs long.

    Args:
        place: an empty directory.
    """
    make_places(place)
    with Store.open(place / "long") as store:
        site = SiteSpec(name=SITE, width=8, dtype="float32")
        recording = store.create_recording(sample_spec(RECORDING, sites=(site,)), ["a"])
        document = Document.from_text("a")
        batch = RowBatch(
            producer="planted",
            sequence=1,
            sites={SITE: np.random.default_rng(0).standard_normal((_ROWS, 8)).astype(np.float32)},
            token_id=np.zeros(_ROWS, np.uint32),
            document=np.full(_ROWS, document.id, np.uint64),
            position=np.arange(_ROWS, dtype=np.uint32),
            span=np.tile(np.array([0, 1], np.uint32), (_ROWS, 1)),
            documents=(document,),
        )
        with recording.open_lane() as lane:
            lane.append([batch])


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a command ended."""

    code: int
    """Its exit code; negative: the signal that ended it."""
    out: str = ""
    """Its standard output."""
    err: str = ""
    """Its standard error."""


@dataclass(frozen=True, kw_only=True)
class Situation:
    """Something around a command that is not as it should be."""

    name: str
    """What is wrong, in a few words."""
    make: Callable[[Path], Ended]
    """Runs the command beside stores that ``make_places`` made."""
    said: str = ""
    """A part of what the command has to say; empty: it may be silent."""
    codes: tuple[int, ...] = (1,)
    """Exit codes that are right."""


def complaint_of(situation: Situation, ended: Ended) -> str:
    """Say what is wrong with how a command ended; empty where nothing is."""
    if "Traceback (most recent call last)" in ended.out + ended.err:
        return "a raw traceback"
    if "a defect in isogloss" in ended.err or "Exception ignored" in ended.err:
        return "an error that nobody expected"
    if ended.code not in situation.codes:
        return f"exit code {ended.code}"
    if situation.said not in ended.err:
        return f"{situation.said!r} is not said"
    return ""


def _environment(place: Path, store: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    found = store if ":" in store else str(place / store)
    return {**os.environ, "ISOGLOSS_STORE": found, "COLUMNS": "160", **(more or {})}


def run(
    place: Path,
    *words: str,
    store: str = "good",
    more: Mapping[str, str] | None = None,
    shell: str = "",
) -> Ended:
    """Run a command, or a line of a shell in which ``$ISOGLOSS`` is the command."""
    line = ["bash", "-c", shell] if shell else [*_COMMAND, *words]
    done = subprocess.run(
        line,
        env={**_environment(place, store, more), "ISOGLOSS": " ".join(_COMMAND)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=300,
        check=False,
    )
    return Ended(code=done.returncode, out=done.stdout, err=done.stderr)


def _held(place: Path) -> Ended:
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(place / "good")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if holder.stdout is not None:
            holder.stdout.readline()
        return run(place, "delete", RECORDING, "--yes")
    finally:
        holder.communicate("")


def _wrong_token(_: Path) -> Ended:
    with scratch() as root, served(root) as server:
        return run(root, "recordings", store=server.tcp, more={"ISOGLOSS_TOKEN": "w" * 43})


def _server_gone(_: Path) -> Ended:
    with scratch() as root:
        with served(root) as server:
            address, token = server.tcp, server.token
        return run(root, "recordings", store=address, more={"ISOGLOSS_TOKEN": token})


class _Pages(http.server.BaseHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 (its base's name)
        """Say nothing."""


@contextmanager
def _another_server() -> Generator[str]:
    """Serve web pages on a port, for the length of a block."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Pages) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def _web_server(place: Path) -> Ended:
    with _another_server() as address:
        return run(place, "info", store=address, more={"ISOGLOSS_TOKEN": "t" * 43})


def _hangs_up(place: Path) -> Ended:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def hang_up() -> None:
            while True:
                try:
                    listening.accept()[0].close()
                except OSError:
                    return

        threading.Thread(target=hang_up, daemon=True).start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        return run(place, "info", store=address, more={"ISOGLOSS_TOKEN": "t" * 43})


def _wait(process: "subprocess.Popen[str]", holds: Callable[[], bool]) -> None:
    """Wait until something holds, or a process has ended."""
    until = time.monotonic() + 200
    while process.poll() is None and not holds() and time.monotonic() < until:
        time.sleep(0.005)


def _catches(pid: int) -> bool:
    """Return whether a process has a handler of its own for Ctrl-C."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (signal.SIGINT - 1) & 1)
    return False


def _interrupted(place: Path, *, while_waiting: bool) -> Ended:
    """Press Ctrl-C while the command is imported, or once a worker of its job writes a log."""
    words = ("train", RECORDING, "--site", SITE, "--features", "8", "--k", "2", "--holdout", "0")
    process = subprocess.Popen(
        # who runs this in the background has it ignore Ctrl-C, and all that it starts
        [
            "env",
            "--default-signal=INT",
            *_COMMAND,
            *words,
            "--batch-rows",
            "16",
            "--epochs",
            "1000000",
        ],
        env=_environment(place, "long"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    if while_waiting:
        _wait(process, lambda: bool(list((place / "long" / "jobs").glob("*.log"))))
    else:
        _wait(process, lambda: _catches(process.pid))  # Python has begun
        _wait(process, lambda: not _catches(process.pid))  # and so has our import
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=300)
    return Ended(code=process.returncode, out=out, err=err)


def _read_only(place: Path, *words: str) -> Ended:
    """Run a command in a mount of its own on which the place cannot be written."""
    line = f"mount --bind {place} {place} && mount -o remount,ro,bind {place} && exec $ISOGLOSS "
    return run(place, shell="exec unshare --mount bash -c " + repr(line + " ".join(words)))


_FULL = "exec $ISOGLOSS {} > /dev/full"

SITUATIONS = (
    Situation(name="a full device for a table", said="ENOSPC",
              make=lambda place: run(place, shell=_FULL.format("recordings"))),
    Situation(name="a full device for JSON", said="ENOSPC",
              make=lambda place: run(place, shell=_FULL.format("recordings --json"))),
    Situation(name="a full device for help", said="ENOSPC",
              make=lambda place: run(place, shell=_FULL.format("--help"))),
    Situation(name="a full device for errors", codes=(1,),
              make=lambda place: run(place, shell="exec $ISOGLOSS describe lost 2> /dev/full")),
    Situation(name="no standard output", codes=(0, 1),
              make=lambda place: run(place, shell="exec $ISOGLOSS recordings >&-")),
    Situation(name="no standard error", codes=(1,),
              make=lambda place: run(place, shell="exec $ISOGLOSS describe lost 2>&-")),
    Situation(name="a reader that reads one line", codes=(0,),
              make=lambda place: run(place, shell="$ISOGLOSS kinds --json | head -1")),
    Situation(name="a reader that left", codes=(0,),
              make=lambda place: run(place, shell="$ISOGLOSS --help | true")),
    Situation(name="an encoding without its letters", codes=(0, 1),
              make=lambda place: run(place, "nearest", "ü", "1",
                                     more={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})),
    Situation(name="a terminal of one column", codes=(0,),
              make=lambda place: run(place, "recordings", more={"COLUMNS": "1"})),
    Situation(name="a terminal of no width", codes=(0,),
              make=lambda place: run(place, "recordings", more={"COLUMNS": "wide"})),
    Situation(name="no home", codes=(0,),
              make=lambda place: run(place, "recordings", more={"HOME": "/nowhere/home"})),
    Situation(name="a store that another process has", make=_held, said="good"),
    Situation(name="a store that cannot be written", said="ead-only",
              make=lambda place: _read_only(place, "delete", RECORDING, "--yes")),
    Situation(name="files into a place that cannot be written", said="ead-only",
              make=lambda place: _read_only(place, "export", RECORDING, str(place / "out"))),
    Situation(name="another token", make=_wrong_token, said="token"),
    Situation(name="a server that is gone", make=_server_gone, said="127.0.0.1"),
    Situation(name="a server of web pages", make=_web_server, said="127.0.0.1"),
    Situation(name="a port that hangs up", make=_hangs_up, said="127.0.0.1"),
    Situation(name="Ctrl-C at once", codes=(130, -2),
              make=lambda place: _interrupted(place, while_waiting=False)),
    Situation(name="Ctrl-C while a job runs", codes=(130,), said="is queued",
              make=lambda place: _interrupted(place, while_waiting=True)),
)  # fmt: skip
