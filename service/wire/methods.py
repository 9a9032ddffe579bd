"""All remote calls, read from the descriptors that protoc wrote: nothing is listed by hand here.

A call is found by the type of its request, which no two calls share. A call that may be sent twice
says so in the ``.proto``, by the standard option ``idempotency_level``.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from google.longrunning import operations_pb2
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from isogloss.errors import InternalError
from isogloss.proto.v1 import (
    dictionaries_pb2,
    jobs_pb2,
    recordings_pb2,
    server_pb2,
    universality_pb2,
)

_FILES = (
    recordings_pb2,
    dictionaries_pb2,
    universality_pb2,
    jobs_pb2,
    server_pb2,
    operations_pb2,
)
SERVICES = tuple(
    service.full_name for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()
)
"""Full names of the services, as health and reflection give them."""

# What google.longrunning offers and nobody here answers.
_UNUSED = frozenset({"/google.longrunning.Operations/DeleteOperation"})
# google.longrunning sets no idempotency_level; waiting is repeated by the client itself.
_REPEATABLE_OPERATIONS = frozenset(
    f"/google.longrunning.Operations/{name}"
    for name in ("GetOperation", "ListOperations", "CancelOperation")
)
_READING_OPERATIONS = frozenset(
    f"/google.longrunning.Operations/{name}"
    for name in ("GetOperation", "ListOperations", "WaitOperation")
)


@dataclass(frozen=True, slots=True)
class Method:
    """One remote call."""

    service: str
    """Full name of the service, such as ``isogloss.v1.JobService``."""
    name: str
    """Name of the call within the service."""
    request: type[Message]
    """Type of the messages that the client sends, one or a stream."""
    response: type[Message]
    """Type of the messages that come back, one or a stream."""
    takes_stream: bool
    """Whether a stream of requests is sent."""
    gives_stream: bool
    """Whether the answer is a stream."""
    is_repeatable: bool
    """Whether a second call with the same request changes nothing further."""
    only_reads: bool
    """Whether a call changes nothing at all."""

    @property
    def path(self) -> str:
        """The call's name on the wire."""
        return f"/{self.service}/{self.name}"

    @property
    def function_name(self) -> str:
        """The name of the function that answers the call, such as ``get_recording``."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).lower()


def _method(found: MethodDescriptor) -> Method:
    path = f"/{found.containing_service.full_name}/{found.name}"
    level = found.GetOptions().idempotency_level
    return Method(
        service=found.containing_service.full_name,
        name=found.name,
        request=GetMessageClass(found.input_type),
        response=GetMessageClass(found.output_type),
        takes_stream=found.client_streaming,
        gives_stream=found.server_streaming,
        is_repeatable=level != MethodOptions.IDEMPOTENCY_UNKNOWN or path in _REPEATABLE_OPERATIONS,
        only_reads=level == MethodOptions.NO_SIDE_EFFECTS or path in _READING_OPERATIONS,
    )


def _read() -> Iterator[Method]:
    for file in _FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            made = (_method(found) for found in service.methods)
            yield from (method for method in made if method.path not in _UNUSED)


METHODS: Mapping[str, Method] = MappingProxyType({method.path: method for method in _read()})
"""Every call, by path."""

_BY_REQUEST = {method.request: method for method in METHODS.values()}
_BY_FUNCTION = {method.function_name: method for method in METHODS.values()}
if not len(METHODS) == len(_BY_REQUEST) == len(_BY_FUNCTION):
    raise InternalError("two calls share their request or their name, which must tell them apart")


def method_of(request: type[Message], response: type[Message]) -> Method:
    """Return the call that takes a request.

    Args:
        request: its type.
        response: the type of the answer, or of each answer, that the caller expects.

    Returns:
        The call.

    Raises:
        InternalError: no call takes such a request, or it answers with another type.
    """
    found = _BY_REQUEST.get(request)
    if found is None:
        raise InternalError(f"no call takes a {request.DESCRIPTOR.full_name}")
    if found.response is not response:
        raise InternalError(
            f"{found.path} answers with {found.response.DESCRIPTOR.full_name}, not with "
            f"{response.DESCRIPTOR.full_name}"
        )
    return found


def method_named(function: str) -> Method | None:
    """Return the call that a function of this name answers, such as ``get_recording``, or None."""
    return _BY_FUNCTION.get(function)
