"""What is known of lanes: their rows, cursors and end."""

from dataclasses import replace

from isogloss.store import LaneState
from isogloss.store.lanes.seal import Seal
from isogloss.store.lanes.state import all_cursors

SEAL = Seal(lane="a", epoch=1, rows=2, frames=2, log_bytes=64, reason="closed")


def test_a_lane_is_retired_when_its_seal_says_so() -> None:
    live = LaneState(name="a", rows=2, cursors={}, seal=None)
    assert not live.is_retired
    assert live.knows_cursors, "only of a lane that was given up they may be unknown"
    assert not replace(live, seal=SEAL).is_retired
    assert replace(live, seal=replace(SEAL, reason="retired")).is_retired


def test_the_cursors_of_all_lanes_are_the_highest_of_each_producer() -> None:
    states = [
        LaneState(name=name, rows=1, cursors=cursors, seal=None)
        for name, cursors in (("a", {"p": 3, "q": 9}), ("b", {"p": 5}), ("c", {"q": 2, "r": 1}))
    ]
    assert all_cursors(states) == {"p": 5, "q": 9, "r": 1}
    assert all_cursors([]) == {}
