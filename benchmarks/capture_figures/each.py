"""Run a script over many names in processes of their own, each name with a deadline."""

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, cast

Found = Mapping[str, object]
"""What the script said of a name: any JSON object."""


def tell(name: str, found: Found) -> None:
    """Say what came of a name; called by the script, once for each name that it was given."""
    print(json.dumps([name, found]), flush=True)


def each(
    command: Sequence[str],
    names: Sequence[str],
    *,
    environment: Mapping[str, str],
    deadline_s: float,
) -> Iterator[tuple[str, Found | str]]:
    """Yield what a script says of each name, in order; or why it says nothing of one.

    A name that takes too long, or with which the script's process ends, costs itself only: the
    script is started again with those behind it. The first name of a process has twice the time,
    since what the script imports takes some.

    Args:
        command: to which the names are added.
        names: what to go through; the script calls :func:`tell` for each, in this order.
        environment: of the script.
        deadline_s: most seconds of one name.

    Yields:
        The name, and what was found or why nothing was.
    """
    left = list(names)
    while left:
        with subprocess.Popen(
            [*command, *left], env=dict(environment), stdout=subprocess.PIPE, text=True
        ) as process:
            said = _lines(cast("IO[str]", process.stdout))
            time_s = 2 * deadline_s
            while left:
                line = said(time_s)
                if not line:
                    process.kill()
                    late = f"no end within {time_s:g} s"
                    why = late if line is None else f"its process ended with {process.wait()}"
                    yield left.pop(0), why
                    break
                name, found = cast("tuple[str, Found]", json.loads(line))
                if name != left[0]:
                    raise RuntimeError(f"the script told of {name!r}, wanted {left[0]!r}")
                yield left.pop(0), found
                time_s = deadline_s


def _lines(stream: IO[str]) -> Callable[[float], str | None]:
    """Return a function that waits for the next line: None after the time, empty at the end."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in stream:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()

    def take(timeout_s: float) -> str | None:
        try:
            return lines.get(timeout=timeout_s)
        except queue.Empty:
            return None

    return take
