"""Tokens, certificates and keys: what is no private file is named, and never waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.service.serving import self_signed

from isogloss.errors import InvalidInput, NotAuthenticated, NotPermitted
from isogloss.service.transport.credentials import (
    check_pair,
    read_certificate,
    read_pem,
    read_token,
)

TOKEN = "0123456789abcdef"
LOCAL = "DNS:localhost"
NO_FILES: dict[str, Callable[[Path], object]] = {
    "pipe": lambda path: os.mkfifo(path, 0o600),
    "directory": lambda path: path.mkdir(0o700),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: None,
    "too large": lambda path: (path.write_bytes(b"a" * (1 << 21)), path.chmod(0o600)),
}


def kept(path: Path, token: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(token)
    path.chmod(mode)
    return path


def test_a_token_is_what_its_file_holds_without_the_blanks_around_it(tmp_path: Path) -> None:
    for held in (TOKEN, f"{TOKEN}\n", f" {TOKEN} \r\n"):
        assert read_token(kept(tmp_path / "token", held.encode()), "") == TOKEN
    (tmp_path / "link").symlink_to(tmp_path / "token")
    assert read_token(tmp_path / "link", "") == TOKEN
    assert read_token(kept(tmp_path / "token", TOKEN.encode(), 0o400), "") == TOKEN


@pytest.mark.parametrize("what", NO_FILES)
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, what: str) -> None:
    path = tmp_path / "here"
    NO_FILES[what](path)
    with pytest.raises(InvalidInput, match=r"here holds no token \(.*\): choose another"):
        read_token(path, "choose another")
    with pytest.raises(NotAuthenticated, match="give the PEM file that signs the server's"):
        read_certificate(path)
    with pytest.raises(InvalidInput, match="give --certificate and --key PEM files"):
        read_pem(path)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o620, 0o777])
def test_a_token_that_others_may_know_or_change_is_refused(tmp_path: Path, mode: int) -> None:
    path = kept(tmp_path / "token", TOKEN.encode(), mode)
    with pytest.raises(NotPermitted, match=f"mode {mode:o}, wanted 600.*; choose another") as got:
        read_token(path, "choose another")
    assert TOKEN not in str(got.value)


@pytest.mark.parametrize("held", [b"", b"short", b"\xff" * 20, b"0123456789\nabcdefgh", b"a\0" * 9])
def test_what_is_no_token_is_refused_and_not_shown(tmp_path: Path, held: bytes) -> None:
    with pytest.raises(InvalidInput, match="choose another") as got:
        read_token(kept(tmp_path / "token", held), "choose another")
    assert "0123456789" not in str(got.value)


def test_what_a_server_shows_is_read_as_it_is(tmp_path: Path) -> None:
    assert read_pem(kept(tmp_path / "pem", b"PEM", 0o644)) == b"PEM"


def test_a_certificate_is_read_as_it_is_and_what_is_none_is_refused(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "one", LOCAL)
    assert read_certificate(certificate) == certificate.read_bytes()
    two = kept(tmp_path / "two.pem", 2 * certificate.read_bytes())
    assert read_certificate(two) == two.read_bytes()
    for wrong in (key, kept(tmp_path / "empty", b""), kept(tmp_path / "junk", b"\xffPEM")):
        with pytest.raises(NotAuthenticated, match=r"holds no certificate in PEM .*; give the PEM"):
            read_certificate(wrong)


def test_a_pair_belongs_together_and_wants_no_passphrase(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "one", LOCAL)
    check_pair(certificate, key)
    _, other = self_signed(tmp_path, "other", LOCAL)
    _, locked = self_signed(tmp_path, "locked", LOCAL, passphrase="secret")
    junk = kept(tmp_path / "junk", b"no certificate")
    for wrong in (other, locked, junk, certificate):
        with pytest.raises(InvalidInput, match="are no certificate and its key in PEM"):
            check_pair(certificate, wrong)
    with pytest.raises(InvalidInput, match=r"lost cannot be read \(No such file"):
        check_pair(certificate, tmp_path / "lost")
