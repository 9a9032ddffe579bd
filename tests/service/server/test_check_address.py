"""Where a server may listen: behind TLS, on this machine, or in a private directory."""

import socket
from pathlib import Path

import pytest

from isogloss.errors import NotPermitted, ServerUnavailable
from isogloss.service.server.check_address import check_address, check_free
from isogloss.service.values.addresses import Address, parse_address


@pytest.mark.parametrize(
    ("address", "has_tls"),
    [
        ("127.0.0.1:1", False),
        ("localhost:1", False),
        ("[::1]:1", True),
        ("0.0.0.0:1", True),
        ("box.example:1", True),
    ],
)
def test_a_port_is_this_machines_or_speaks_tls(address: str, has_tls: bool) -> None:
    check_address(parse_address(address), has_tls=has_tls)


@pytest.mark.parametrize("address", ["0.0.0.0:1", "[::]:1", "box.example:1"])
def test_other_machines_are_refused_without_tls(address: str) -> None:
    with pytest.raises(NotPermitted, match="give a certificate and key, or listen on 127") as got:
        check_address(parse_address(address), has_tls=False)
    assert str(got.value).startswith(f"{address} can be reached from other machines")


def test_the_directory_of_a_socket_is_made_for_its_user_alone(tmp_path: Path) -> None:
    address = Address(socket=tmp_path / "a" / "run" / "socket")
    for _ in range(2):
        check_address(address, has_tls=False)
    assert (tmp_path / "a" / "run").stat().st_mode & 0o777 == 0o700
    assert not (tmp_path / "a" / "run" / "socket").exists()


@pytest.mark.parametrize("mode", [0o710, 0o704, 0o755, 0o701])
def test_a_directory_that_is_open_to_others_is_refused_and_stays(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(NotPermitted, match=f"has mode {mode:o} and owner") as got:
        check_address(Address(socket=directory / "socket"), has_tls=True)
    assert f"chmod 700 {directory}" in str(got.value)
    assert directory.stat().st_mode & 0o777 == mode


def test_a_link_to_a_private_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "private").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "private")
    with pytest.raises(NotPermitted, match="another directory"):
        check_address(Address(socket=tmp_path / "run" / "socket"), has_tls=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_a_port_that_is_taken_is_told_and_one_that_is_free_stays_so(host: str) -> None:
    family = socket.AF_INET6 if host == "[::1]" else socket.AF_INET
    with socket.socket(family) as taken:
        try:
            taken.bind((host.strip("[]"), 0))
        except OSError:
            pytest.skip("this machine has no such address")
        taken.listen()
        address = parse_address(f"{host}:{taken.getsockname()[1]}")
        # of a name with several addresses another one may be free
        if host != "localhost" or len(socket.getaddrinfo(host, 1, type=socket.SOCK_STREAM)) == 1:
            with pytest.raises(ServerUnavailable, match="already in use; give --listen another"):
                check_free(address, has_tls=False)
    for _ in range(2):
        check_free(address, has_tls=False)
    check_free(parse_address(f"{host}:0"), has_tls=False)


def test_a_host_that_is_none_of_this_machines_is_refused() -> None:
    for address in ("192.0.2.1:0", "no-such-host.invalid:1"):
        with pytest.raises(ServerUnavailable, match=f"cannot listen on {address}: "):
            check_free(parse_address(address), has_tls=True)
    with pytest.raises(NotPermitted, match="give a certificate and key"):
        check_free(parse_address("0.0.0.0:1"), has_tls=False)


def test_looking_at_a_socket_makes_nothing(tmp_path: Path) -> None:
    check_free(Address(socket=tmp_path / "store" / "run" / "socket"), has_tls=False)
    assert list(tmp_path.iterdir()) == []
    tmp_path.chmod(0o755)
    with pytest.raises(NotPermitted, match="chmod 700"):
        check_free(Address(socket=tmp_path / "socket"), has_tls=False)
