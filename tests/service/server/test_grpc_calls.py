"""What a server answers itself, what it forwards, and what it has checked first."""

import asyncio
from pathlib import Path

import grpc.aio
import pytest

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import dictionaries_pb2, recordings_pb2
from isogloss.service.calls.all import QUERIES, ControlHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.server.grpc_calls import Calls
from isogloss.service.transport.over_grpc import AsyncGrpcTransport
from isogloss.service.wire.methods import Method, method_of
from isogloss.store import Store
from isogloss.store.testing import sample_spec

GET = method_of(recordings_pb2.GetRecordingRequest, recordings_pb2.Recording)
ENCODE = method_of(dictionaries_pb2.EncodeRequest, dictionaries_pb2.EncodeResponse)


class OtherProcess:
    """Answers Encode, and checks GetRecording: refuses one name, and changes another."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, bytes]] = []

    async def forward(self, path: str, raw: bytes, timeout_s: float | None) -> bytes:
        assert timeout_s is None or timeout_s > 0
        self.asked.append((path, raw))
        if path == ENCODE.path:
            return dictionaries_pb2.EncodeResponse(k=7).SerializeToString()
        request = recordings_pb2.GetRecordingRequest.FromString(raw)
        if request.name == "recordings/bad":
            raise InvalidInput("checked and refused")
        return recordings_pb2.GetRecordingRequest(name="recordings/sample").SerializeToString()


def test_a_request_is_checked_by_the_other_process_before_it_is_answered_here(
    tmp_path: Path,
) -> None:
    other = OtherProcess()

    async def go() -> None:
        with Owner(Store.open(tmp_path / "store"), run_workers=False) as owner:
            owner.store.create_recording(sample_spec("sample"), ["a"])
            calls = Calls(
                ControlHandlers(owner), other.forward, forwarded=QUERIES, checked=[GET.path]
            )
            server = grpc.aio.server()
            server.add_generic_rpc_handlers(calls.generic_handlers())
            address = f"unix:{tmp_path}/s"
            server.add_insecure_port(address)
            await server.start()
            transport = AsyncGrpcTransport(address)
            try:
                await use(transport)
            finally:
                await transport.close()
                await server.stop(None)
                calls.close()

    async def use(transport: AsyncGrpcTransport) -> None:
        async def ask(method: Method, **fields: str) -> object:
            return await transport.unary(method, method.request(**fields), 20)

        found = await ask(GET, name="recordings/changed")
        assert isinstance(found, recordings_pb2.Recording)
        assert found.name == "recordings/sample"
        with pytest.raises(InvalidInput, match="checked and refused"):
            await ask(GET, name="recordings/bad")
        assert await ask(ENCODE, name="a") == dictionaries_pb2.EncodeResponse(k=7)

    asyncio.run(go())
    assert [path for path, _ in other.asked] == [GET.path, GET.path, ENCODE.path]
    assert other.asked[-1][1] == dictionaries_pb2.EncodeRequest(name="a").SerializeToString()
