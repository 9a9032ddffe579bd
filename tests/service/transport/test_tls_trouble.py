"""Two ends that do not agree about TLS: each says what it found, what it wanted and what to do."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.service.serving import append_samples, self_signed, server_on
from typer.testing import CliRunner

import isogloss
from isogloss.errors import NotAuthenticated, ServerUnavailable
from isogloss.service.cli.main import app
from isogloss.service.transport.tls_trouble import tls_trouble
from isogloss.store.testing import sample_batch, sample_spec

AT_CONNECTING = "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "


@dataclass(frozen=True)
class Place:
    """A server, and how it is called."""

    address: str
    token: str
    certificate: Path | None
    """What its clients are given; None: it speaks no TLS."""


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Place]]:
    """A server with TLS, one whose certificate is for another name, and one without."""
    root, found = tmp_path_factory.mktemp("places"), dict[str, Place]()
    pairs = {
        "tls": self_signed(root, "own", "DNS:localhost", "IP:127.0.0.1"),
        "elsewhere": self_signed(root, "elsewhere", "DNS:elsewhere.example"),
    }
    with ExitStack() as held:
        for name in (*pairs, "plain"):
            certificate, key = pairs.get(name, (None, None))
            words = ("--certificate", str(certificate), "--key", str(key)) if certificate else ()
            store = root / name
            server = held.enter_context(server_on(store, "--listen", "127.0.0.1:0", *words))
            token = (store / "token").read_text().strip()
            found[name] = Place(server.addresses[0], token, certificate)
        stranger, _ = self_signed(root, "stranger", "IP:127.0.0.1")
        found["stranger"] = Place(found["tls"].address, found["tls"].token, stranger)
        found["bare"] = Place(found["tls"].address, found["tls"].token, None)
        clad = found["tls"].certificate
        found["clad"] = Place(found["plain"].address, found["plain"].token, clad)
        yield found


WRONG = {
    "stranger": r"not signed by what this client was given for it \(self.signed certificate\): "
    r"give connect\(..., certificate=...\), or ISOGLOSS_CERTIFICATE",
    "elsewhere": "is for other names than '127.0.0.1': call the server by a name",
    "bare": r"that speaks TLS, which this client does not: give connect\(..., certificate=...\)",
    "clad": "the server speaks no TLS, which this client does: leave certificate= and ISOGLOSS_",
}
"""What is said where a server is called in the wrong way."""


@pytest.mark.parametrize("wrong", WRONG)
def test_a_server_that_is_called_in_the_wrong_way_says_what_to_do(
    places: dict[str, Place], wrong: str
) -> None:
    place = places[wrong]

    async def ask() -> None:
        await isogloss.connect_async(
            place.address, token=place.token, certificate=place.certificate
        )

    with pytest.raises(ServerUnavailable, match=WRONG[wrong]) as caught:
        isogloss.connect(place.address, token=place.token, certificate=place.certificate)
    assert str(caught.value).startswith(f"{place.address}: ")
    assert place.token not in str(caught.value)
    with pytest.raises(ServerUnavailable, match=WRONG[wrong]):
        asyncio.run(ask())


@pytest.mark.parametrize("wrong", WRONG)
def test_a_command_says_the_same(
    places: dict[str, Place], wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = places[wrong]
    monkeypatch.setenv("ISOGLOSS_TOKEN", place.token)
    monkeypatch.setenv("ISOGLOSS_CERTIFICATE", str(place.certificate or ""))
    done = CliRunner().invoke(app, ["recordings", "--store", place.address])
    assert done.exit_code == 1
    assert isinstance(done.exception, ServerUnavailable)  # of which main makes one line
    assert re.search(WRONG[wrong], str(done.exception))


def test_the_token_is_asked_for_within_tls_too(places: dict[str, Place]) -> None:
    place = places["tls"]
    for token in ("", "another-token-of-somebody"):
        with pytest.raises(NotAuthenticated):
            isogloss.connect(place.address, token=token, certificate=place.certificate)


def test_both_clients_stream_and_ask_over_tls(places: dict[str, Place]) -> None:
    place, spec = places["tls"], sample_spec("streamed")

    async def go() -> None:
        async with await isogloss.connect_async(
            place.address, token=place.token, certificate=place.certificate
        ) as client:
            async with await client.appender("streamed", "awaited") as stream:
                await stream.write(sample_batch(spec, "awaited", 1))
                await stream.flush()
            assert {lane.rows > 0 for lane in await client.lanes("streamed")} == {True}

    with isogloss.connect(
        place.address, token=place.token, certificate=place.certificate
    ) as client:
        client.create_recording(spec, ["p"])
        with client.appender("streamed", "waited") as stream:
            append_samples(stream, spec, 2)
            stream.flush()
            assert stream.durable_sequence == 2
        asyncio.run(go())
        assert [found.id for found in client.recordings()] == ["streamed"]


@pytest.mark.parametrize(
    ("said", "has_tls", "wanted"),
    [
        ("SSL: CERTIFICATE_VERIFY_FAILED: certificate has expired: OK", True, "renewed"),
        ("SSL: CERTIFICATE_VERIFY_FAILED: certificate is not yet valid: OK", True, "clocks"),
        ("SSL: CERTIFICATE_VERIFY_FAILED: unable to get local issuer certificate", True, "issuer"),
        ("Peer name example.org is not in peer certificate", True, "other names"),
        ("recvmsg:Connection reset by peer", False, "speaks TLS"),
    ],
)
def test_what_grpc_says_of_tls_is_put_in_words(said: str, has_tls: bool, wanted: str) -> None:
    assert wanted in tls_trouble(AT_CONNECTING + said, "127.0.0.1:1", has_tls=has_tls)


@pytest.mark.parametrize(
    ("said", "address", "has_tls"),
    [
        (AT_CONNECTING + "Connection refused", "127.0.0.1:1", False),
        (AT_CONNECTING + "Connection refused", "127.0.0.1:1", True),
        (AT_CONNECTING + "Socket closed", "127.0.0.1:1", True),
        (AT_CONNECTING + "Socket closed", "unix:/s", False),
        ("Socket closed", "127.0.0.1:1", False),  # a call that ran
        ("", "127.0.0.1:1", True),
    ],
)
def test_where_tls_is_not_the_reason_nothing_is_said(
    said: str, address: str, has_tls: bool
) -> None:
    assert tls_trouble(said, address, has_tls=has_tls) == ""
