"""Which certificate a client speaks with."""

from pathlib import Path

import pytest
from tests.service.serving import self_signed

from isogloss.errors import IsoglossError
from isogloss.service.client.connect import _pem


def test_the_variable_names_a_certificate_for_addresses_and_not_for_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ISOGLOSS_CERTIFICATE", raising=False)
    assert _pem(None, "127.0.0.1:1") is None
    missing = tmp_path / "none.pem"
    monkeypatch.setenv("ISOGLOSS_CERTIFICATE", str(missing))
    assert _pem(None, f"unix:{tmp_path}/socket") is None
    with pytest.raises(IsoglossError, match=r"none\.pem"):
        _pem(None, "127.0.0.1:1")


def test_a_certificate_that_is_given_counts_before_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOGLOSS_CERTIFICATE", str(tmp_path / "of-the-variable.pem"))
    for server in ("127.0.0.1:1", "unix:/somewhere"):
        with pytest.raises(IsoglossError, match=r"given\.pem"):
            _pem(tmp_path / "given.pem", server)


def test_on_a_socket_a_certificate_is_looked_at_and_not_used(tmp_path: Path) -> None:
    certificate, _ = self_signed(tmp_path, "own", "DNS:localhost")
    assert _pem(certificate, f"unix:{tmp_path}/socket") is None
    assert _pem(certificate, "127.0.0.1:1") == certificate.read_bytes()
