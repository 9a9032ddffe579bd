"""The order in which an operation leaves rows, told by the same operation on their numbers."""

import torch

from isogloss.models.passes.axes.order import order_after

IDS = torch.arange(10, 22).reshape(3, 4)
BATCH_FIRST = [[(0, 3)], [(1, 4)], [(None, 5)]]
FREE = [False, False, True]


def test_the_order_is_that_of_the_operation_on_batch_first_and_time_first_rows() -> None:
    given = (torch.empty(0), [1])
    assert _equal(order_after("flip", torch.flip, given, {}, BATCH_FIRST, FREE, IDS), IDS.flip(1))
    time_first = [[(1, 4)], [(0, 3)], [(None, 5)]]
    assert _equal(order_after("flip", torch.flip, given, {}, time_first, FREE, IDS), IDS.flip(0))


def test_joined_axes_are_taken_apart_again() -> None:
    order = torch.tensor([11, *range(11)])
    found = order_after(
        "index_select", torch.index_select, (torch.empty(0), 0, order), {},
        [[(0, 3), (1, 4)], [(None, 5)]], [False, True], IDS,
    )  # fmt: skip
    assert _equal(found, IDS.reshape(-1)[order].reshape(3, 4))


def test_ids_that_are_the_same_for_all_texts_are_followed_along_their_own_axis() -> None:
    places = IDS[:1]
    axes = [[(None, 3)], [(1, 4)], [(None, 5)]]
    given = torch.empty(0), (1, 1), (0, 1)
    found = order_after("roll", torch.roll, given, {}, axes, FREE, places)
    assert _equal(found, places.roll(1, 1))


def test_what_is_not_the_same_for_all_numbers_of_a_row_has_no_order() -> None:
    each = torch.arange(60).reshape(3, 4, 5) % 4
    gather = (torch.empty(0), 1, each)
    axes = BATCH_FIRST
    whole = (torch.empty(0), 1)
    assert order_after("gather", torch.gather, gather, {}, axes, FREE, IDS) is None
    assert order_after("roll", torch.roll, whole, {}, axes, FREE, IDS) is None
    scores = [[(0, 3)], [(1, 4)], [(1, 4)]]
    flip = (torch.empty(0), [1])
    assert order_after("flip", torch.flip, flip, {}, scores, [False] * 3, IDS) is None


def _equal(found: torch.Tensor | None, wanted: torch.Tensor) -> bool:
    return found is not None and torch.equal(found, wanted)
