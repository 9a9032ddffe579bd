"""What a server says of itself."""

import platform
import time
from collections.abc import Iterator

import pytest
from tests.service.calls.filled import owner_of

from isogloss.proto.v1 import server_pb2 as pb
from isogloss.service.calls.server import ServerHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.values.addresses import Listening
from isogloss.service.values.server import ServerInfo, ServerProcess
from isogloss.service.wire.convert import from_message
from isogloss.service.wire.framing import MESSAGE_BYTES
from isogloss.service.wire.pages import MAX_PAGE
from isogloss.version import __version__


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    with owner_of(tmp_path_factory.mktemp("server") / "store") as owner:
        yield owner


def info_of(owner: Owner, listening: Listening) -> ServerInfo:
    handlers = ServerHandlers(owner, lambda: listening)
    return from_message(handlers.get_server_info(pb.GetServerInfoRequest()), ServerInfo)


def test_a_process_says_what_it_is_and_takes(owner: Owner) -> None:
    before = time.time()
    info = info_of(owner, Listening())
    assert before - 1e-3 <= info.start_time <= time.time() + 1e-3
    assert (info.version, info.python) == (__version__, platform.python_version())
    assert info.platform.split(" ")[0] == platform.system()
    assert (info.runs_workers, info.job_kinds) == (
        False,
        ("train", "probe", "match", "import", "rotate"),
    )
    limits = info.limits
    assert (limits.message_bytes, limits.page_size) == (MESSAGE_BYTES, MAX_PAGE)
    taken = owner.ingest.limits
    assert (limits.batch_bytes, limits.held_bytes) == (taken.batch_bytes, taken.held_bytes)
    assert (limits.calls, limits.streams) == (0, 0)


@pytest.mark.parametrize(
    ("addresses", "token_wanted"),
    [
        ((), False),
        (("unix:/run/a", "unix:/run/b"), False),
        (("unix:/run/a", "127.0.0.1:1"), True),
        (("127.0.0.1:1",), True),
    ],
)
def test_a_token_is_wanted_where_it_can_be_reached_over_tcp(
    owner: Owner, addresses: tuple[str, ...], token_wanted: bool
) -> None:
    info = info_of(owner, Listening(addresses=addresses, tls=True, calls=7, streams=3))
    assert (info.addresses, info.token_wanted) == (addresses, token_wanted)
    assert (info.tls, info.limits.calls, info.limits.streams) == (True, 7, 3)


def test_its_processes_are_told_as_they_are_at_each_call(owner: Owner) -> None:
    dead = ServerProcess(name="query", pid=0, restarts=2, last_end="killed by SIGSEGV")
    now: list[tuple[ServerProcess, ...]] = [(), (dead,)]
    handlers = ServerHandlers(owner, Listening, lambda: now.pop(0))
    for wanted in ((), (dead,)):
        found = handlers.get_server_info(pb.GetServerInfoRequest())
        assert from_message(found, ServerInfo).processes == wanted


def test_how_it_is_reached_is_asked_for_at_each_call(owner: Owner) -> None:
    now = [Listening(), Listening(addresses=("unix:/late",))]
    handlers = ServerHandlers(owner, lambda: now.pop(0))
    answers = [handlers.get_server_info(pb.GetServerInfoRequest()) for _ in range(2)]
    assert [list(answer.addresses) for answer in answers] == [[], ["unix:/late"]]
    assert answers[0].start_time == answers[1].start_time
