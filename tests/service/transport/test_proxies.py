"""A proxy in the environment keeps nobody from this machine, and is named if it is in the way."""

from collections.abc import Iterator

import pytest
from tests.service.serving import server_on

import isogloss
from isogloss.errors import IsoglossError
from isogloss.service.transport.over_grpc import channel_options
from isogloss.service.transport.proxies import is_local, proxy_in_the_way

DEAD = "http://user:secret@127.0.0.1:9"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "no_proxy", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server on TCP: its address and its token."""
    store = tmp_path_factory.mktemp("served") / "store"
    with server_on(store, "--listen", "127.0.0.1:0") as server:
        yield server.addresses[0], (store / "token").read_text().strip()


def test_addresses_of_this_machine_are_known_as_such() -> None:
    local = ["unix:/run/s", "127.0.0.1:1", "127.8.8.8:1", "[::1]:1", "localhost:1", "a.localhost:1"]
    other = ["10.0.0.1:1", "[fe80::1]:1", "example.org:1", "localhost.example.org:1"]
    assert [is_local(address) for address in (*local, *other)] == [True] * 6 + [False] * 4
    for address in (*local, *other):
        asks = dict(channel_options(address))["grpc.enable_http_proxy"]
        assert asks == (0 if address in local else 1)


@pytest.mark.parametrize("variable", ["grpc_proxy", "https_proxy", "http_proxy"])
@pytest.mark.parametrize("past", ["", "example.org"])
def test_a_server_on_this_machine_is_reached_past_any_proxy(
    monkeypatch: pytest.MonkeyPatch, served: tuple[str, str], variable: str, past: str
) -> None:
    monkeypatch.setenv(variable, DEAD)
    monkeypatch.setenv("no_proxy", past)
    address, token = served
    with isogloss.connect(address, token=token, timeout_s=20) as client:
        assert client.recordings() == []


def test_where_a_proxy_is_in_the_way_the_error_names_it_and_not_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert proxy_in_the_way("example.org:1") == ""
    monkeypatch.setenv("http_proxy", DEAD)
    assert proxy_in_the_way("127.0.0.1:1") == ""
    with (
        pytest.raises(IsoglossError, match="environment variable http_proxy") as caught,
        isogloss.connect("isogloss.invalid:9999", token="t" * 16, timeout_s=3) as client,
    ):
        client.recordings()
    assert "127.0.0.1:9" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert "no_proxy" in str(caught.value)
