"""Which way a stream's batches go, and why not another."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import InvalidInput, NotPermitted
from isogloss.service.calls.all import LocalHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.recording.appender import Appender
from isogloss.service.recording.direct_appender import DirectAppender
from isogloss.service.recording.route import Direct, open_stream
from isogloss.service.transport.in_process import LocalTransport
from isogloss.store import Store
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec("docs")


@pytest.fixture(scope="module")
def transport(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalTransport]:
    root = tmp_path_factory.mktemp("route") / "store"
    owner = Owner(Store.open(root), run_workers=False)
    owner.store.create_recording(SPEC, [])
    transport = LocalTransport(LocalHandlers(owner), "here")
    yield transport
    transport.close()


@pytest.mark.parametrize("direct", [True, "auto"])
def test_a_stream_goes_past_the_owner_where_it_sees_the_storage(
    transport: LocalTransport, direct: Direct
) -> None:
    with open_stream(transport, SPEC, f"past-{direct}".lower(), direct=direct) as stream:
        assert isinstance(stream, DirectAppender)
        stream.write(sample_batch(SPEC, stream.producer, 1))


def test_a_stream_goes_through_the_owner_unless_told_otherwise(transport: LocalTransport) -> None:
    with open_stream(transport, SPEC, "through") as stream:
        assert isinstance(stream, Appender)
        assert (stream.producer, stream.route) == ("through", "through here")


def test_without_the_storage_it_goes_through_the_owner_and_says_why_or_is_refused(
    transport: LocalTransport, tmp_path: Path
) -> None:
    with open_stream(transport, SPEC, "auto", direct="auto", root=tmp_path) as stream:
        assert isinstance(stream, Appender)
        assert stream.route.startswith("through here; not direct: ")
        assert str(tmp_path) in stream.route
    with pytest.raises(NotPermitted, match=str(tmp_path)):
        open_stream(transport, SPEC, "must", direct=True, root=tmp_path)


def test_another_word_is_refused(transport: LocalTransport) -> None:
    with pytest.raises(InvalidInput, match="direct is 'maybe', wanted True, False or 'auto'"):
        open_stream(transport, SPEC, "p", direct="maybe")  # pyright: ignore[reportArgumentType] - the point
