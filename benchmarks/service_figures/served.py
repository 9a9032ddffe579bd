"""Real servers, what a process has used, and batches of known size."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np

import isogloss
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.service.transport.outgoing import encoded, parts_of
from isogloss.service.wire.framing import Framed
from isogloss.store import Document, ModelInfo, RecordingSpec, RowBatch, SiteSpec

SITE = "layer.1"
WIDTH = 1024
HEADER_BYTES = 4096
"""At most what a batch has beside its rows: token columns and the header."""
_WAIT_S = 60.0
_SERVE = (
    "import sys; from isogloss.service.jobs.processes import watch_parent; "
    "from isogloss.service.cli.main import main; watch_parent(int(sys.argv.pop(1))); main()"
)


@dataclass(frozen=True)
class Served:
    """A running server."""

    store: Path
    """Directory of its store."""
    unix: str
    """Address of its unix socket."""
    tcp: str
    """Address of its TCP port."""
    keeper: int
    """Process that was started: the server's keeper, or the server itself."""

    @property
    def token(self) -> str:
        """What TCP callers send."""
        return (self.store / "token").read_text().strip()

    def pids(self) -> dict[str, int]:
        """Return the server's processes that run now, by name."""
        with isogloss.connect(self.unix) as client:
            return {found.name: found.pid for found in client.server_info().processes if found.pid}


@contextmanager
def scratch(parent: Path | None = None) -> Generator[Path]:
    """Yield a new directory, with a short path, since unix sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="iso-", dir=parent) as found:
        yield Path(found)


def memory_directory() -> Path | None:
    """Return the directory whose files lie in memory, where there is one."""
    found = Path("/dev/shm")
    return found if os.access(found, os.W_OK) else None


@contextmanager
def served(
    root: Path,
    *options: str,
    command: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Generator[Served]:
    """Run ``isogloss serve`` on the store ``root/store`` for the length of a block.

    Args:
        root: a directory with a short path.
        options: further options of the command.
        command: another command that says its addresses in the same form; it gets the store.
        environment: the process's environment; None: this one's.

    Yields:
        The server, which answers.

    Raises:
        RuntimeError: it ended before it answered.
    """
    store, places = root / "store", (f"unix:{root}/run/s", "127.0.0.1:0")
    listen = [word for place in places for word in ("--listen", place)]
    if command:
        line = [*command, str(store)]
    else:
        line = [sys.executable, "-c", _SERVE, str(os.getpid()), "serve", "--store", str(store)]
    line += [*listen, "--json", *options]
    log = root / "server.log"
    with log.open("ab") as errors:
        process = subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=inside(environment),
            cwd=root,
        )
    try:
        said = ""
        while not said.endswith("}\n"):
            if not (more := pipe(process.stdout).readline()):
                raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")
            said += more
        unix, tcp = json.loads(said)["addresses"]
        yield Served(store, unix, tcp, process.pid)
    finally:
        end(process)


def inside(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return an environment, by default this one, in which benchmarks are found from anywhere."""
    own = dict(os.environ if environment is None else environment)
    given = filter(None, own.get("PYTHONPATH", "").split(os.pathsep))
    paths = [Path(__file__).parent.parent, *map(Path, given)]
    return {**own, "PYTHONPATH": os.pathsep.join(str(path.resolve()) for path in paths)}


def pipe(found: IO[str] | None) -> IO[str]:
    """Return a pipe of a process that was started with it."""
    if found is None:
        raise RuntimeError("the process was started without this pipe")
    return found


def end(process: "subprocess.Popen[str]") -> None:
    """End a process that this one started, in good order where it still can."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_WAIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


@contextmanager
def child(
    module: str, *words: str, nice: int = 0, lines: int = 1
) -> Generator[tuple["subprocess.Popen[str]", list[str]]]:
    """Run a module of this folder as a process for the length of a block.

    Args:
        module: name within this folder.
        words: its arguments.
        nice: how much other processes come first.
        lines: how many lines to wait for.

    Yields:
        The process, and the first lines that it said.

    Raises:
        RuntimeError: it ended before it had said them.
    """
    polite = ("nice", "-n", str(nice)) if nice else ()
    process = subprocess.Popen(
        [*polite, sys.executable, "-m", f"service_figures.{module}", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=inside(),
    )
    try:
        said = [pipe(process.stdout).readline() for _ in range(lines)]
        if not all(said):
            raise RuntimeError(f"{module} {words} ended before it was ready")
        yield process, [line.strip() for line in said]
    finally:
        with contextlib.suppress(OSError):
            pipe(process.stdin).close()
        end(process)


class Cpu:
    """CPU time of a process's threads since this was made."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ticks, self._threads = _ticks(pid), _threads(pid)

    def used_s(self) -> float:
        """Return the seconds; to the nanosecond, unless threads ended meanwhile.

        The kernel counts a whole process in ticks of 10 ms and each thread that lives in
        nanoseconds. A thread that ended counts in the former alone.
        """
        tick_s = 1.0 / os.sysconf("SC_CLK_TCK")
        ticks = _ticks(self._pid) - self._ticks
        now = _threads(self._pid)
        fine = sum(ns - self._threads.get(thread, 0) for thread, ns in now.items()) / 1e9
        return fine if ticks <= fine + 2 * tick_s else ticks


def _ticks(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _threads(pid: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for path in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # it ended
            found[path.name] = int((path / "schedstat").read_text().split()[0])
    return found


def memory_bytes(pid: int, field: str = "VmRSS") -> int:
    """Return what a process has in memory now; with ``VmHWM`` the most it ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) << 10
    raise RuntimeError(f"/proc/{pid}/status has no {field}")


def spec(recording: str) -> RecordingSpec:
    """Return a recording of one site, 4 KiB a row."""
    return RecordingSpec(
        recording=recording,
        model=ModelInfo(name="made/up"),
        tokenizer="made-up",
        corpus="made-up",
        sites=(SiteSpec(name=SITE, width=WIDTH, dtype="float32"),),
        has_spans=False,
    )


@cache
def _batch(size: int) -> RowBatch:
    rows = max(1, (size - HEADER_BYTES) // (4 * WIDTH + 16))
    document = Document.from_text("made up")
    values = np.random.default_rng(0).standard_normal((rows, WIDTH)).astype(np.float32)
    return RowBatch(
        producer="p",
        sequence=1,
        sites={SITE: values},
        token_id=np.zeros(rows, np.uint32),
        document=np.full(rows, document.id, np.uint64),
        position=np.arange(rows, dtype=np.uint32),
        documents=(document,),
    )


def batch(size: int, producer: str, sequence: int) -> RowBatch:
    """Return a batch whose encoding is one row or less below a size; arrays are shared."""
    return replace(_batch(size), producer=producer, sequence=sequence)


def parts(
    size: int, producer: str, sequence: int, part_bytes: int
) -> Iterator[Framed[pb.AppendRequest]]:
    """Yield a batch as the messages that carry it."""
    return parts_of(encoded(batch(size, producer, sequence)), part_bytes)
