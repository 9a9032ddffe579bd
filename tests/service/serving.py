"""Starting and ending real servers, and the two kinds of client that must agree."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from isogloss.service.recording.appender import BatchStream
from isogloss.store import RecordingSpec
from isogloss.store.testing import sample_batch

SCRIPT = Path(__file__).with_name("serve_store.py")
_COMMAND = (
    "import sys; from isogloss.service.jobs.processes import watch_parent; "
    "from isogloss.service.cli.main import main; watch_parent(int(sys.argv.pop(1))); main()"
)


@dataclass
class Server:
    """A server process."""

    process: subprocess.Popen[str]
    addresses: list[str]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)
        if self.process.stdout is not None:
            self.process.stdout.close()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)


def start_server(store: Path | str, *options: str) -> Server:
    """Start a server that runs no jobs and ends with this process; returns once it answers."""
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), str(store), "--parent", str(os.getpid()), *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.stdout.close()
        raise AssertionError(f"the server ended with {process.wait(60)}")
    return Server(process, json.loads(line))


def start_kept(store: Path, *options: str, log: Path | None = None) -> Server:
    """Run ``isogloss serve``, which starts its server again; returns once it answers.

    Its log goes to a file where one is given.
    """
    with contextlib.nullcontext() if log is None else log.open("ab") as written:
        return _start_kept(store, options, written)


def _start_kept(store: Path, options: Sequence[str], log: IO[bytes] | None) -> Server:
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", _COMMAND, str(os.getpid())),
            *("serve", "--store", str(store), "--json", *options),
        ],
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    assert process.stdout is not None
    said = ""
    while not said.endswith("}\n"):
        line = process.stdout.readline()
        if not line:
            process.stdout.close()
            raise AssertionError(f"isogloss serve ended with {process.wait(60)}")
        said += line
    return Server(process, json.loads(said)["addresses"])


@contextmanager
def server_on(store: Path | str, *options: str) -> Generator[Server]:
    """Run a server for the length of a block."""
    server = start_server(store, *options)
    try:
        yield server
    finally:
        server.kill()


def self_signed(
    directory: Path, name: str, *alternatives: str, passphrase: str | None = None
) -> tuple[Path, Path]:
    """Make a certificate that signs itself and its key.

    Args:
        directory: where they are written.
        name: of their files.
        alternatives: whom it is for, such as ``DNS:localhost``.
        passphrase: of the key; None: it has none.
    """
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2")
    locked = ("-nodes",) if passphrase is None else ("-passout", f"pass:{passphrase}")
    whom = ("-subj", f"/CN={name}", "-addext", f"subjectAltName={','.join(alternatives)}")
    kept = ("-keyout", str(key), "-out", str(certificate))
    made = ("openssl", "req", "-x509", *kind, *locked, *whom, *kept)
    subprocess.run(made, check=True, capture_output=True)
    return certificate, key


def append_samples(appender: BatchStream, spec: RecordingSpec, count: int) -> None:
    """Append the next ``count`` sample batches."""
    for _ in range(count):
        appender.write(sample_batch(spec, appender.producer, appender.next_sequence))
