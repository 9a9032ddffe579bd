"""What holds for every call: of what callers give, and of what servers answer."""

import asyncio
import inspect
import math
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from tests.service.every_call import ARGUMENTS, LIFE, OVER_A_CONNECTION
from tests.service.mad_server import mad_server

import isogloss
from isogloss import AsyncClient, Client
from isogloss.errors import InternalError, InvalidInput, IsoglossError
from isogloss.service import Job
from isogloss.service.client.operations import wait
from isogloss.service.transport.over_grpc import GrpcTransport

ROUNDS = 25
CALLS = sorted(ARGUMENTS)


def test_every_public_method_is_called() -> None:
    for client in (Client, AsyncClient):
        known = {name for name in dir(client) if not name.startswith("_")}
        methods = {name for name in known if callable(getattr(client, name))}
        assert methods - LIFE == ARGUMENTS.keys()


def use(client: Client, name: str) -> object:
    """Make a call, and take what comes of it to its end."""
    made = getattr(client, name)(**ARGUMENTS[name])
    if isinstance(made, Job):
        return made.result(5.0)
    return list(made) if isinstance(made, Iterator) else made


def wrong(error: BaseException, address: str) -> bool:
    """Whether an error is not ours, or one of an unreadable answer that names no call."""
    if isinstance(error, InternalError):
        return address not in str(error) or "/" not in str(error).replace(address, "")
    return not isinstance(error, IsoglossError)


@pytest.mark.parametrize("name", [n for n in CALLS if n not in OVER_A_CONNECTION])
def test_no_answer_raises_an_error_that_is_not_ours(tmp_path: Path, name: str) -> None:
    odd: list[str] = []
    outcomes: set[bool] = set()
    with (
        mad_server(tmp_path, seed=len(name)) as address,
        Client(GrpcTransport(address), timeout_s=20.0) as client,
    ):
        for _ in range(ROUNDS):
            try:
                use(client, name)
                outcomes.add(True)
            except Exception as error:
                outcomes.add(False)
                if wrong(error, address):
                    odd.append(f"{type(error).__name__}: {error}")
    assert odd == []
    assert outcomes


def test_an_awaited_call_names_what_it_could_not_read(tmp_path: Path) -> None:
    async def ask(address: str) -> list[str]:
        odd: list[str] = []
        async with await isogloss.connect_async(address) as client:
            for name in ("recordings", "read", "tokens", "encode", "get_match", "feature"):
                for _ in range(10):
                    try:
                        await getattr(client, name)(**ARGUMENTS[name])
                    except Exception as error:
                        if wrong(error, address):
                            odd.append(f"{name}: {type(error).__name__}: {error}")
        return odd

    with mad_server(tmp_path, seed=4) as address:
        assert asyncio.run(ask(address)) == []


BAD: Mapping[str, tuple[object, ...]] = {
    "str": ("\ud800x",),
    "int": (1 << 70, -(1 << 70)),
    "float": (math.nan, math.inf),
}


def bad_values(annotation: str) -> list[object]:
    words = annotation.replace("[", " ").replace("]", " ").replace(",", " ").split()
    found = [value for word, values in BAD.items() if word in words for value in values]
    if "Sequence" in annotation:
        return [[value] for value in found]
    return [{"setting": value} for value in found] if "Mapping" in annotation else found


def begin(client: Client, name: str, arguments: Mapping[str, object]) -> None:
    made = getattr(client, name)(**arguments)
    if isinstance(made, Iterator):
        next(made)


@pytest.mark.parametrize("name", CALLS)
def test_what_no_message_can_hold_is_refused_by_every_call(client: Client, name: str) -> None:
    shown = inspect.signature(getattr(client, name))
    for parameter in shown.parameters.values():
        if parameter.name in ("directory", "root") or "Source" in str(parameter.annotation):
            continue
        for bad in bad_values(inspect.formatannotation(parameter.annotation)):
            with pytest.raises(InvalidInput) as caught:
                begin(client, name, {**ARGUMENTS[name], parameter.name: bad})
            assert str(caught.value).strip(), parameter.name
            assert str(caught.value).isascii() or "\ud800" not in str(caught.value)


def test_a_probe_of_no_recordings_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInput, match="0 recordings"):
        client.create_probe([])


def test_a_wait_that_is_no_number_is_refused(client: Client) -> None:
    with pytest.raises(InvalidInput, match="nan"):
        client.run(wait("job", math.nan))
