"""``isogloss serve``: keeps the process that owns a store running.

This process does nothing else, so that little can end it: it loads neither grpc nor numpy. It
starts the server (:mod:`.control`), starts it again when it died, at the same addresses, and tells
it to end.
"""

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType

from isogloss.errors import ServerUnavailable, from_reason
from isogloss.service.jobs.processes import describe_end
from isogloss.service.processes.config import Lives, ServerConfig, to_line

COMMAND = (sys.executable, "-m", "isogloss.service.processes.control")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 30.0
_WELL_S = 60.0
"""A server that answered for so long is started again at once when it dies."""

_log = logging.getLogger(__name__)


def keep_serving(
    store: Path | str,
    config: ServerConfig | None = None,
    *,
    on_ready: Callable[[Sequence[str]], None] | None = None,
    command: Sequence[str] = COMMAND,
) -> int:
    """Serve a store in a process of its own until SIGTERM or SIGINT; start it again when it dies.

    Call this in the main thread. The first signal has the server finish what runs; a second one
    ends it at once. Pauses between starts double up to half a minute while it dies young. Where
    this process dies, the server ends as on SIGTERM.

    Args:
        store: directory of the store, or address of an object store.
        config: settings of the server.
        on_ready: called once with the addresses, with real port numbers, when calls are answered.
        command: starts the server; the location of the store is appended.

    Returns:
        The exit code of the server that was told to end; 143, as of SIGTERM, where it was killed.

    Raises:
        IsoglossError: the first server did not start; its own error.
    """
    keeper = _Keeper(store, config or ServerConfig(), command)
    before = {
        number: signal.signal(number, keeper.signalled)
        for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        return keeper.run(on_ready)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Keeper:
    """One store's server, over all its lives."""

    def __init__(self, store: Path | str, config: ServerConfig, command: Sequence[str]) -> None:
        self._store = store
        self._config = config
        self._command = command
        self._lives = Lives()
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._pause_s = _FIRST_PAUSE_S

    def signalled(self, number: int, frame: FrameType | None) -> None:
        """Have the server end; at once, where it was told so before."""
        is_first = not self._stopping.is_set()
        self._stopping.set()
        if self._child is not None and is_first:
            self._tell_to_end(self._child)
        elif self._child is not None and self._child.poll() is None:
            self._child.kill()

    def _tell_to_end(self, child: "subprocess.Popen[bytes]") -> None:
        """End the child's standard input, after which it ends in good order.

        Not by a signal: systemd, as it is set by default, sends SIGTERM to the child too, and two
        would end it at once.
        """
        if child.stdin is not None:
            child.stdin.close()

    def run(self, on_ready: Callable[[Sequence[str]], None] | None) -> int:
        """Start the server, and again whenever it ended without being told to."""
        has_answered = False
        while True:
            with self._started() as child:
                began_s = time.monotonic()
                said = _first_line(child)
                addresses = said.get("addresses")
                if isinstance(addresses, list):
                    self._config = replace(self._config, listen=tuple(map(str, addresses)))
                    if on_ready is not None and not has_answered:
                        on_ready(self._config.listen)
                    has_answered = True
                code = child.wait()
            self._child = None
            if self._stopping.is_set():
                return code if code >= 0 else 128 + signal.SIGTERM
            if not has_answered:
                raise _error(said, code)
            if isinstance(addresses, list) and time.monotonic() - began_s >= _WELL_S:
                self._pause_s = _FIRST_PAUSE_S
            why = said.get("message")
            self._lives = Lives(
                restarts=self._lives.restarts + 1,
                last_end=describe_end(code) + (f" ({why})" if why else ""),
            )
            _log.error(
                "the server is gone: %s; starting it again in %g s",
                self._lives.last_end,
                self._pause_s,
            )
            if self._stopping.wait(self._pause_s):
                return 0
            self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _started(self) -> "subprocess.Popen[bytes]":
        child = subprocess.Popen(
            [*self._command, str(self._store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # signals of the terminal come to this process alone, which hands them on
            start_new_session=True,
            env={**os.environ, "PYTHONSAFEPATH": "1"},
        )
        if child.stdin is not None:
            with contextlib.suppress(BrokenPipeError):  # it died already, which is found out below
                child.stdin.write(to_line(self._config, self._lives))
                child.stdin.flush()  # and stays open: its end tells the child that this one died
        self._child = child
        if self._stopping.is_set():  # a signal came before there was a child to tell
            self._tell_to_end(child)
        return child


def _first_line(child: "subprocess.Popen[bytes]") -> Mapping[str, object]:
    """Return what a server said when it was ready, or why it is not; empty where it died."""
    line = b"" if child.stdout is None else child.stdout.readline()
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _error(said: Mapping[str, object], code: int) -> Exception:
    """Return the error for a server that never answered."""
    message = said.get("message")
    if message:
        return from_reason(str(said.get("reason", "")))(str(message))
    return ServerUnavailable(f"the server {describe_end(code)} before it answered: see its log")
