"""Trains in child processes that are killed with SIGKILL, for test_resume.py.

Usage: ``killed_run.py STORE RECORDING DIRECTORY CONFIG KILL...`` where each KILL is ``step:N``
(before the N-th step of that life) or ``disk:N`` (in place of the N-th sync or rename of that
life). One child a KILL, each resuming what the last one left; prints how each ended. Without a
KILL, trains in this process. The environment may name another SITE.
"""

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from isogloss.dictionaries import Source, TrainConfig, train
from isogloss.store import Store

SITE = os.environ.get("SITE", "encoder.layer.3")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _count_down(calls: int) -> Callable[[], bool]:
    left = [calls]

    def step() -> bool:
        left[0] -= 1
        if left[0] == 0:
            _die()
        return False

    return step


def _kill_in_place_of_disk_call(number: int) -> None:
    tick = _count_down(number)
    for name in ("fsync", "fdatasync", "replace", "rename"):
        real = getattr(os, name)

        def call(*args: object, _real: Callable[..., object] = real) -> object:
            tick()
            return _real(*args)

        setattr(os, name, call)


def _life(store: str, recording: str, directory: str, config: str, kill: str) -> None:
    how, _, number = kill.partition(":")
    reader = Store.attach(Path(store)).recording(recording).reader()
    if how == "disk":
        _kill_in_place_of_disk_call(int(number))
    should_stop = _count_down(int(number)) if how == "step" else None
    settings = TrainConfig.from_dict(json.loads(config))
    sources = [Source(reader=reader, site=SITE)]
    train(settings, sources, Path(directory), should_stop=should_stop)


def main() -> None:
    store, recording, directory, config, *kills = sys.argv[1:]
    if not kills:
        _life(store, recording, directory, config, "never")
    for kill in kills:
        child = os.fork()
        if child == 0:
            try:
                _life(store, recording, directory, config, kill)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ended = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        sys.stdout.write(f"{kill} {ended}\n")


if __name__ == "__main__":
    main()
