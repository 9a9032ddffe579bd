"""The server itself: whether it answers, and what it is."""

from isogloss.proto.v1 import server_pb2
from isogloss.service.client.binding import awaiting, blocking
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.transport.call import Call, ask, then
from isogloss.service.values.server import ServerInfo
from isogloss.service.wire.messages import from_message


def server_info() -> Call[ServerInfo]:
    """Return what answers: its version, its limits, and what is on.

    Returns:
        What the server says of itself; of this process, where it opened the store itself.
    """
    return then(
        ask(server_pb2.GetServerInfoRequest(), server_pb2.ServerInfo),
        lambda message: from_message(message, ServerInfo),
    )


def ping() -> Call[None]:
    """Make one small call: raises what stands in the way of any call."""
    return then(server_info(), lambda _: None)


class ServerClient(Connection):
    """The server itself, for :class:`isogloss.Client`."""

    server_info = blocking(server_info)
    ping = blocking(ping)


class AsyncServerClient(AsyncConnection):
    """The server itself, for :class:`isogloss.AsyncClient`."""

    server_info = awaiting(server_info)
    ping = awaiting(ping)
