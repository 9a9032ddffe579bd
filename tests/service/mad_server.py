"""A server that answers each call in good order, with fields that hold anything."""

import random
from collections.abc import Callable, Generator, Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import grpc
from google.longrunning import operations_pb2 as operations
from google.protobuf.any_pb2 import Any as PackedAny
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from isogloss.proto.v1 import jobs_pb2
from isogloss.service.wire.methods import METHODS, Method

_TEXTS = (
    *("", "a", "recordings/a", "dictionaries/d", "dictionaries/d/features/3", "probes/p"),
    *("matches/m", "operations/j", "{", '{"a": 1}', "[1]", "train", "x/y/z", "\x00", "é" * 40),
)
_WHOLE = (0, 1, 2, 3, 7, 1 << 20, (1 << 31) - 1)
_FLOATS = (0.0, 1.5, -1.0, float("nan"), float("inf"), 1e308)
_ENDS = ("SUCCEEDED", "FAILED", "CANCELLED")


class Mad:
    """Fills messages at random; the same seed gives the same messages."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def fill(self, kind: type[Message], depth: int = 0) -> Message:
        """Return a message with some of its fields set."""
        message = kind()
        for field in kind.DESCRIPTOR.fields:
            if self._random.random() < 0.75 and depth < 5:
                self._set(message, cast("Field", field), depth)
        if isinstance(message, PackedAny) and self._random.random() < 0.7:
            made = self._random.choice((jobs_pb2.JobMetadata, jobs_pb2.JobResult))
            message.Pack(self.fill(made, depth + 1))
        return message

    def _set(self, message: Message, field: Field, depth: int) -> None:
        if field.is_repeated:
            entry = field.message_type
            held = getattr(message, field.name)
            if entry is not None and entry.GetOptions().map_entry:
                return
            for _ in range(self._random.randrange(3)):
                if entry is not None:
                    held.add().CopyFrom(self.fill(GetMessageClass(entry), depth + 1))
                else:
                    held.append(self._scalar(field))
        elif field.message_type is not None:
            made = self.fill(GetMessageClass(field.message_type), depth + 1)
            getattr(message, field.name).CopyFrom(made)
        else:
            setattr(message, field.name, self._scalar(field))

    def _scalar(self, field: Field) -> object:
        choose = self._random.choice
        match field.cpp_type:
            case Field.CPPTYPE_STRING if field.type == Field.TYPE_BYTES:
                return self._random.randbytes(choose((0, 1, 3, 4, 8, 12, 24, 32)))
            case Field.CPPTYPE_STRING:
                return choose(_TEXTS)
            case Field.CPPTYPE_BOOL:
                return choose((True, False))
            case Field.CPPTYPE_DOUBLE | Field.CPPTYPE_FLOAT:
                return choose(_FLOATS)
            case Field.CPPTYPE_ENUM:
                return choose((0, 1, 2, 3, 99))
            case Field.CPPTYPE_UINT64:
                return choose((*_WHOLE, (1 << 64) - 1))
            case Field.CPPTYPE_INT64:
                return choose((*_WHOLE, (1 << 63) - 1, -(1 << 63), -1))
            case Field.CPPTYPE_INT32:
                return choose((*_WHOLE, -1))
            case _:
                return choose(_WHOLE)

    def answers(self, method: Method) -> list[Message]:
        """Return the messages that answer a call; a job has ended in the last of them."""
        count = self._random.randrange(4) if method.gives_stream else 1
        found = [self.fill(method.response) for _ in range(count)]
        if method.response is operations.Operation:
            last = self.fill(operations.Operation)
            assert isinstance(last, operations.Operation)
            ended = jobs_pb2.JobState.Value(f"JOB_STATE_{self._random.choice(_ENDS)}")
            metadata = jobs_pb2.JobMetadata(kind="train", state=ended)
            last.metadata.Pack(metadata)
            found = [*found[:-1], last]
        return found


class _Handlers(grpc.GenericRpcHandler):
    def __init__(self, answer: Callable[[Method], list[Message]]) -> None:
        self._answer = answer

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[object, Message] | None":
        method = METHODS.get(handler_call_details.method)
        if method is None:
            return None

        def write(message: Message) -> bytes:
            return message.SerializeToString()

        def stream(_: object, context: object) -> Iterator[Message]:
            yield from self._answer(method)

        def unary(_: object, context: object) -> Message:
            return self._answer(method)[0]

        if method.takes_stream:
            return grpc.stream_stream_rpc_method_handler(stream, response_serializer=write)
        if method.gives_stream:
            return grpc.unary_stream_rpc_method_handler(stream, response_serializer=write)
        return grpc.unary_unary_rpc_method_handler(unary, response_serializer=write)


@contextmanager
def mad_server(directory: Path, seed: int) -> Generator[str]:
    """Serve at a socket for the length of a block; yields its address."""
    address = f"unix:{directory / 'mad.sock'}"
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_Handlers(Mad(seed).answers),))
    server.add_insecure_port(address)
    server.start()
    try:
        yield address
    finally:
        server.stop(None).wait()
