"""Instructions times the turns of their loops."""

import pytest

pytest.importorskip("triton")

from kernels_figures.work import executed


def test_an_instruction_counts_as_often_as_all_loops_around_it_turn() -> None:
    loops = [(2, 3, True), (5, 6, False), (1, 8, True)]  # two within a third
    turns = {(True, True): 10, (False, True): 100, (True, False): 3}
    # 0 and 9 once, 1, 4, 7, 8 three times, 2 and 3 thirty times, 5 and 6 three hundred
    wanted = 2 + 4 * 3 + 2 * 30 + 2 * 300
    assert executed(10, loops, lambda dots, innermost: turns[dots, innermost]) == wanted
    assert executed(10, [], lambda *_: 7) == 10
    assert executed(10, loops, lambda *_: 0) == 2
