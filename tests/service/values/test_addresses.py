"""Addresses: how they are read and written, what only this machine reaches, and the default."""

import os
import tempfile
from pathlib import Path

import pytest

from isogloss.errors import InvalidInput
from isogloss.service.values.addresses import Address, Listening, default_address, parse_address


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("unix:/run/store", Address(socket=Path("/run/store"))),
        ("127.0.0.1:7447", Address(host="127.0.0.1", port=7447)),
        ("box.example:0", Address(host="box.example", port=0)),
        ("[::1]:65535", Address(host="::1", port=65535)),
    ],
)
def test_an_address_is_read_and_written_alike(text: str, wanted: Address) -> None:
    assert parse_address(text) == wanted
    assert str(wanted) == text


@pytest.mark.parametrize(
    "text",
    ["", "7447", ":7447", "host:", "host:65536", "host:-1", "host:8x", "host:\u0661"],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"neither unix:/PATH nor HOST:PORT, such as") as caught:
        parse_address(text)
    assert repr(text) in str(caught.value)


def test_a_socket_has_an_absolute_path_that_the_system_can_hold() -> None:
    longest = "/" + "s" * 99
    assert parse_address(f"unix:{longest}").socket == Path(longest)
    for path in (longest + "s", "run/store", "/" + "\u00e4" * 50):
        with pytest.raises(InvalidInput, match="absolute path of at most 100 bytes"):
            parse_address(f"unix:{path}")


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("192.168.0.1", False),
        ("box.example", False),
        ("", False),
    ],
)
def test_only_this_machine_reaches_a_loopback_address(host: str, is_loopback: bool) -> None:
    assert Address(host=host, port=1).is_loopback is is_loopback


def test_the_default_lies_in_the_state_directory_up_to_the_longest_path() -> None:
    end = len("/run/socket")
    fits = Path("/" + "d" * (100 - end - 1))
    assert default_address(fits).socket == fits / "run" / "socket"
    too_long = Path("/" + "d" * (100 - end))
    elsewhere = default_address(too_long).socket
    assert elsewhere is not None
    assert elsewhere.parent == Path(tempfile.gettempdir()) / f"isogloss-{os.getuid()}"
    assert len(elsewhere.name) == 16
    assert default_address(too_long).socket == elsewhere
    assert default_address(Path(f"{too_long}e")).socket != elsewhere


def test_a_process_that_listens_nowhere_has_no_limits() -> None:
    assert Listening() == Listening(addresses=(), tls=False, calls=0, streams=0)
