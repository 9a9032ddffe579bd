"""Pauses between tries: they grow, differ, end at the limit, and start over after an answer."""

import pytest

from isogloss.errors import ServerUnavailable
from isogloss.service.transport import patience
from isogloss.service.transport.patience import Patience


class Clock:
    """Time that passes only while somebody pauses."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(patience, "time", clock)
    return clock


def pauses(waiting: Patience, clock: Clock, most: int = 1000) -> list[float]:
    """Pause until the patience is at its end; a patience without an end is cut off."""
    found: list[float] = []
    for number in range(most):
        try:
            found.append(waiting.pause_s(ServerUnavailable(f"try {number}")))
        except ServerUnavailable:
            break
        clock.now += found[-1]
    return found


def test_the_last_error_is_raised_once_the_limit_has_passed(clock: Clock) -> None:
    waiting = Patience(10.0)
    for number in range(10):
        waiting.pause_s(ServerUnavailable(f"try {number}"))
        clock.now += 1.0
    last = ServerUnavailable("try 10")
    with pytest.raises(ServerUnavailable) as raised:
        waiting.pause_s(last)
    assert raised.value is last


def test_tries_end_when_time_passes_only_in_their_pauses(clock: Clock) -> None:
    found = pauses(Patience(10.0), clock)
    assert 10.0 <= sum(found) < 10.5
    assert len(found) < 1000


def test_pauses_double_up_to_half_a_second_and_are_jittered(clock: Clock) -> None:
    longest = [0.05, 0.1, 0.2, 0.4, *[0.5] * 16]
    runs = [pauses(Patience(1e9), clock, most=20) for _ in range(20)]
    for run in runs:
        assert all(0.5 * most <= pause <= most for pause, most in zip(run, longest, strict=True))
    assert len({run[0] for run in runs}) > 1, "all would come back at the same time"


def test_an_answer_starts_the_pauses_and_the_limit_over(clock: Clock) -> None:
    waiting = Patience(10.0)
    pauses(waiting, clock)
    clock.now += 100.0
    waiting.reset()
    assert waiting.pause_s(ServerUnavailable("again")) <= 0.05
    assert sum(pauses(waiting, clock)) >= 10.0


def test_without_patience_the_first_failure_is_raised(clock: Clock) -> None:
    with pytest.raises(ServerUnavailable, match="first"):
        Patience(0.0).pause_s(ServerUnavailable("first"))
