"""The order of an epoch depends on seed, epoch and step alone."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.store.reading.shuffle_order import ShuffleOrder


def test_the_order_is_the_same_in_every_release() -> None:
    order = ShuffleOrder(
        rows=None, count=100, seed=7, epoch=2, batch_rows=10, block_rows=4, window_rows=16
    )
    place, rows = next(order.windows(0))
    assert place == 0
    assert rows.tolist() == FIRST_WINDOW


FIRST_WINDOW = [39, 1, 38, 12, 13, 22, 21, 37, 36, 2, 20, 15, 0, 23, 3, 14]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 400),
    st.integers(1, 9),
    st.integers(1, 60),
    st.integers(0, 3),
)
def test_windows_tile_the_epoch_for_any_sizes(
    count: int, block: int, window: int, seed: int
) -> None:
    order = ShuffleOrder(
        rows=None,
        count=count,
        seed=seed,
        epoch=0,
        batch_rows=1,
        block_rows=block,
        window_rows=window,
    )
    following, seen = 0, []
    for place, rows in order.windows(0):
        assert place == following
        following += len(rows)
        seen.append(rows)
    assert np.array_equal(np.sort(np.concatenate([np.empty(0, np.int64), *seen])), np.arange(count))
    for first in (1, count // 2, count - 1):
        if 0 <= first < count:
            place, rows = next(order.windows(first))
            assert place <= first < place + len(rows)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 300),
    st.integers(1, 7),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(0, 4),
)
def test_each_step_gives_every_rank_a_batch_of_rows_and_no_row_twice(
    count: int, batch: int, window: int, world: int, start: int
) -> None:
    orders = [
        ShuffleOrder(
            rows=None, count=count, seed=5, epoch=1, batch_rows=batch, block_rows=3,
            window_rows=window, rank=rank, world=world,
        )
        for rank in range(world)
    ]  # fmt: skip
    steps = [list(order.step_rows(start)) for order in orders]
    wanted = max(0, orders[0].steps - start)
    assert [len(found) for found in steps] == [wanted] * world
    assert all(len(rows) == batch for found in steps for rows in found)
    in_order = [row for _, rows in orders[0].windows(0) for row in rows.tolist()]
    taken = [row for step in zip(*steps, strict=True) for rows in step for row in rows.tolist()]
    assert taken == in_order[start * batch * world :][: len(taken)]
