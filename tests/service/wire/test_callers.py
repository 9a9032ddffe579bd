"""Clients by place and process, and who makes room for whom."""

import os

import pytest

from isogloss.service.wire.callers import (
    CALLER_KEY,
    client_of,
    own_name,
    place_of,
    who_makes_room,
)


@pytest.mark.parametrize(
    ("peer", "place"),
    [
        ("unix:", "unix"),
        ("unix:/run/a", "unix"),
        ("ipv4:10.0.0.7:4711", "ipv4:10.0.0.7"),
        ("ipv6:%5B::1%5D:4711", "ipv6:%5B::1%5D"),
    ],
)
def test_the_place_is_what_the_server_sees(peer: str, place: str) -> None:
    assert client_of(peer, None) == client_of(peer, [("other", "x")]) == place
    named = client_of(peer, [(CALLER_KEY, "12-ab")])
    assert named not in {place, client_of(peer, [(CALLER_KEY, "12-ac")])}
    assert place_of(named) == place_of(place) == place


@pytest.mark.parametrize(
    "said",
    [
        [(CALLER_KEY, "")],
        [(CALLER_KEY, "x" * 33)],
        [(CALLER_KEY, "a b")],
        [(CALLER_KEY, "ipv4:10.0.0.8")],
        [(CALLER_KEY, b"a")],
        [(CALLER_KEY, "a"), (CALLER_KEY, "b")],
    ],
)
def test_a_name_that_is_none_is_not_taken(said: list[tuple[str, str | bytes]]) -> None:
    assert client_of("unix:", said) == "unix"


def test_each_process_has_its_name() -> None:
    assert own_name() == own_name()
    reads, writes = os.pipe()
    child = os.fork()
    if not child:
        os.write(writes, own_name().encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writes)
    other = os.read(reads, 100).decode()
    os.close(reads)
    assert other
    assert other != own_name()
    assert client_of("unix:", [(CALLER_KEY, own_name())]) != "unix"


def test_places_have_equal_shares_and_processes_have_equal_shares_of_their_place() -> None:
    assert who_makes_room(["unix a"] * 8, "unix a", 8) is None
    assert who_makes_room(["unix a"] * 8, "unix b", 8) == "unix a"
    assert who_makes_room(["unix a"] * 8, "tcp c", 8) == "unix a"
    taken = ["unix a"] * 3 + ["unix b"] * 1 + ["tcp c"] * 4
    assert who_makes_room(taken, "unix b", 8) == "unix a"
    assert who_makes_room(["unix a"] * 2 + ["unix b"] * 2 + ["tcp c"] * 4, "unix b", 8) is None
    assert who_makes_room([f"unix {n}" for n in range(5)] + ["tcp c"] * 3, "tcp c", 8) in {
        f"unix {n}" for n in range(5)
    }


def test_many_names_take_nothing_from_another_place() -> None:
    names = [f"unix {number}" for number in range(100)]
    taken = names[:4] + ["tcp c"] * 4
    for name in names[4:]:
        assert who_makes_room(taken, name, 8) in {None, *names}
    assert who_makes_room(names[:8], "tcp c", 8) in names
