"""Both clients come from one definition of each call."""

import asyncio
import inspect
import subprocess
import sys
from pathlib import Path

from isogloss import AsyncClient, Client
from isogloss.service import AsyncJob, DictionaryInfo, Job
from isogloss.service.client import dictionaries, universality
from isogloss.service.client.binding import in_thread, wrapping
from isogloss.service.client.connect import connect_async
from isogloss.service.client.connection import Connection
from isogloss.service.client.writing import AsyncAppender
from isogloss.service.recording.appender import BatchStream
from isogloss.store import Store

SAMPLE = Path(__file__).with_name("typed_sample.py")
ROOT = Path(__file__).parents[3]


def public(kind: type) -> dict[str, object]:
    return {
        name: getattr(kind, name)
        for name in dir(kind)
        if not name.startswith("_") and callable(getattr(kind, name))
    }


def parameters(method: object) -> list[inspect.Parameter]:
    assert callable(method)
    return list(inspect.signature(method).parameters.values())[1:]


LIFE = {"run", "iterate", "close"}
"""What is no call: how a client makes calls, and ends."""


def test_every_method_of_the_client_is_on_the_asynchronous_one_too() -> None:
    ours, theirs = public(Client), public(AsyncClient)
    assert ours.keys() - LIFE == theirs.keys() - LIFE
    assert {"train", "read", "appender", "export", "verify", "watch", "server_info"} <= ours.keys()
    for name in ours.keys() - LIFE:
        assert parameters(ours[name]) == parameters(theirs[name]), name
        assert inspect.getdoc(ours[name]) == inspect.getdoc(theirs[name]), name
        assert inspect.getdoc(ours[name]), name


def test_a_method_has_the_name_the_docstring_and_the_parameters_of_its_call() -> None:
    assert Client.train.__doc__ == dictionaries.train.__doc__
    assert Client.train.__name__ == "train"
    wanted = inspect.signature(dictionaries.train).parameters
    shown = inspect.signature(Client.train)
    assert list(shown.parameters) == ["self", *wanted]
    assert shown.return_annotation == Job[DictionaryInfo]
    assert inspect.signature(AsyncClient.train).return_annotation == AsyncJob[DictionaryInfo]
    assert list(inspect.signature(Client.nearest).parameters)[1:] == list(
        inspect.signature(universality.nearest).parameters
    )
    assert inspect.iscoroutinefunction(AsyncClient.train)
    assert inspect.iscoroutinefunction(AsyncClient.record)
    assert not inspect.iscoroutinefunction(AsyncClient.watch)


def test_a_checker_of_types_sees_every_signature() -> None:
    """The sample asserts types, and holds mistakes that the checker must report."""
    checked = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, str(SAMPLE)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert checked.returncode == 0, checked.stdout


def test_no_method_shows_the_connection_that_it_works_over() -> None:
    for client in (Client, AsyncClient):
        for name, method in public(client).items():
            assert callable(method)
            shown = inspect.signature(method)
            assert next(iter(shown.parameters)) == "self", name
            assert "connection" not in shown.parameters, name
            documented = inspect.getdoc(method) or ""
            assert "connection: the connection" not in documented, name
            for parameter in list(shown.parameters)[1:]:
                if "Args:" in documented:
                    assert f"    {parameter}: " in documented, f"{name} {parameter}"


def test_methods_of_many_calls_say_what_they_return() -> None:
    for name in ("appender", "stream", "record", "record_documents", "export", "import_rows"):
        theirs = inspect.signature(getattr(AsyncClient, name))
        ours = inspect.signature(getattr(Client, name))
        assert list(ours.parameters) == list(theirs.parameters), name
        assert getattr(Client, name).__name__ == name
    assert inspect.signature(AsyncClient.stream).return_annotation is AsyncAppender
    assert inspect.signature(AsyncClient.export).return_annotation is None
    assert inspect.signature(Client.stream).return_annotation is BatchStream


def test_a_method_in_a_thread_returns_what_its_function_found_and_another_may_wrap_it(
    tmp_path: Path,
) -> None:
    def repeat(connection: Connection, text: str, *, times: int) -> str:
        return f"{connection.timeout_s:g} " + text * times

    async def use() -> None:
        Store.open(tmp_path / "store").close()
        async with await connect_async(
            tmp_path / "store", run_workers=False, timeout_s=7
        ) as client:
            assert await in_thread(repeat)(client, "ab", times=2) == "7 abab"
            assert await wrapping(repeat, len)(client, "ab", times=2) == len("7 abab")

    asyncio.run(use())
