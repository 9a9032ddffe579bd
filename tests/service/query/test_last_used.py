"""What was longest unused is forgotten first, and the newest stays."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from isogloss.service.query.last_used import LastUsed


def test_values_are_counted_where_nothing_else_is_said() -> None:
    kept = LastUsed[str, str]()
    for name in "abc":
        kept.put(name, name.upper(), most=3)
    assert kept["a"] == "A"  # used, so that b is the longest unused
    kept.put("d", "D", most=3)
    assert kept.items() == [("c", "C"), ("a", "A"), ("d", "D")]
    assert "b" not in kept
    kept.drop("c")
    kept.drop("c")
    assert [key for key, _ in kept.items()] == ["a", "d"]


def test_the_newest_stays_however_large_and_takes_the_place_of_its_key() -> None:
    kept = LastUsed[str, int](lambda value: value)
    kept.put("a", 3, most=10)
    kept.put("b", 99, most=10)
    assert kept.items() == [("b", 99)]
    kept.put("a", 3, most=10)
    kept.put("a", 5, most=10)
    assert kept.items() == [("a", 5)]


STEPS = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=40)


@given(STEPS, st.integers(1, 20))
def test_it_is_a_list_from_whose_front_as_little_as_must_go_goes(
    steps: list[tuple[int, int]], most: int
) -> None:
    kept, known = LastUsed[int, int](lambda value: value), OrderedDict[int, int]()
    for key, value in steps:
        if key in kept:
            assert kept[key] == known[key]
            known.move_to_end(key)
        else:
            kept.put(key, value, most=most)
            known[key] = value
            while sum(known.values()) > most and len(known) > 1:
                known.popitem(last=False)
        assert kept.items() == list(known.items())
