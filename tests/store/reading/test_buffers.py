"""Memory of batches is used again, and never while anybody looks at it."""

import gc

import numpy as np

from isogloss.store.reading.buffers import RecycledMemory

ROW = np.dtype("V12")


def address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


def test_memory_comes_back_only_when_the_last_view_is_gone() -> None:
    memory = RecycledMemory()
    memory.keep(1 << 20)
    first = memory.empty(100, ROW)
    view = first.view(np.uint8).reshape(100, 12)[5:, :4]
    view[:] = 7
    place = address(first)
    del first
    other = memory.empty(100, ROW)
    assert address(other) != place
    other.view(np.uint8)[:] = 9
    assert np.all(view == 7)
    del view
    again = memory.empty(100, ROW)
    assert address(again) == place
    assert (again.shape, again.dtype) == ((100,), ROW)


def test_each_length_has_its_own_memory_and_no_more_is_kept_than_asked_for() -> None:
    memory = RecycledMemory()
    memory.keep(2500)
    memory.keep(100)
    held = [memory.empty(count, ROW) for count in (100, 50, 100)]
    place = address(held[1])
    held.clear()
    gc.collect()
    idle = {length: len(found) for length, found in memory._idle.items()}
    assert idle == {1200: 1, 600: 1}  # a third would pass 2,500 bytes
    assert address(memory.empty(50, ROW)) == place


def test_nothing_is_kept_unless_asked_for() -> None:
    memory = RecycledMemory()
    array = memory.empty(1000, ROW)
    del array
    assert memory._idle == {}
