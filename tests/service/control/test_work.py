"""Work in a thread, followed as steps: its result, its error, and how it is ended."""

import threading
import time
from collections.abc import Generator

import pytest

from isogloss.errors import Conflict
from isogloss.service.control.work import ReportProgress, Work, WorkStep
from isogloss.service.values.upkeep import UpkeepProgress

WAIT_S = 60


def started(work: Work[int]) -> Work[int]:
    work.start()
    return work


def test_the_last_step_has_the_result_and_what_was_reported_last() -> None:
    ended: list[bool] = []

    def do(report: ReportProgress) -> int:
        report("first", 1, 3)
        report("second", 2, 3)
        return 7

    work = Work(do, lambda: ended.append(work.ended))
    assert not work.ended
    steps = list(started(work).steps())
    progress = UpkeepProgress(step="second", done=2, total=3)
    assert steps[-1] == WorkStep(progress=progress, result=7)
    assert [step.result for step in steps[:-1]] == [None] * (len(steps) - 1)
    assert ended == [False], "what follows the work comes before it is over, and once"
    assert work.ended


def test_who_follows_is_told_where_it_is_until_it_is_over() -> None:
    go_on = threading.Event()

    def do(report: ReportProgress) -> int:
        report("waiting", 0, 5)
        assert go_on.wait(WAIT_S)
        return 0

    steps = started(Work(do, lambda: None)).steps()
    for _ in range(2):
        assert next(steps) == WorkStep(progress=UpkeepProgress(step="waiting", done=0, total=5))
    go_on.set()
    assert [step.result for step in steps][-1] == 0


def test_an_error_comes_out_where_the_work_is_followed() -> None:
    ended = threading.Event()

    def do(report: ReportProgress) -> int:
        raise ZeroDivisionError("a defect")

    work = started(Work(do, ended.set))
    with pytest.raises(ZeroDivisionError, match="a defect"):
        list(work.steps())
    assert ended.is_set()
    assert work.ended


def endless(begun: threading.Event, steps: list[int]) -> Work[int]:
    def do(report: ReportProgress) -> int:
        while True:
            report("step", len(steps), 0)
            steps.append(len(steps))
            begun.set()
            time.sleep(0.001)

    return Work(do, lambda: None)


def test_leaving_ends_the_work_before_its_next_step() -> None:
    begun, done = threading.Event(), list[int]()
    work = started(endless(begun, done))
    steps = work.steps()
    assert isinstance(steps, Generator)
    assert next(steps).result is None
    steps.close()
    work.join()
    assert work.ended
    count = len(done)
    time.sleep(0.01)
    assert len(done) == count > 0


def test_what_stopped_the_work_first_is_raised_and_nothing_later() -> None:
    begun = threading.Event()
    work = started(endless(begun, []))
    assert begun.wait(WAIT_S)
    work.stop(Conflict("the first reason"))
    work.stop(Conflict("the second reason"))
    work.join()
    with pytest.raises(Conflict, match="the first reason"):
        list(work.steps())
