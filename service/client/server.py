"""The server itself: whether it answers, and what it is."""

from isogloss.proto.v1 import server_pb2
from isogloss.service.client.binding import awaiting, blocking
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.transport.call import Call, ask, then
from isogloss.service.values.server import ServerInfo
from isogloss.service.wire.messages import from_message


def server_info() -> Call[ServerInfo]:
    """Return version, limits and settings of the server.

    Returns:
        A description of the server; of this process, where it opened the store itself.
    """
    return then(
        ask(server_pb2.GetServerInfoRequest(), server_pb2.ServerInfo),
        lambda message: from_message(message, ServerInfo),
    )


def ping() -> Call[None]:
    """Make one small call to see whether calls arrive; return nothing.

    Raises the error that any other call would raise: no answer, a wrong token, an untrusted
    certificate.
    """
    return then(server_info(), lambda _: None)


class ServerClient(Connection):
    """The methods of :class:`isogloss.Client` about the server."""

    server_info = blocking(server_info)
    ping = blocking(ping)


class AsyncServerClient(AsyncConnection):
    """The methods of :class:`isogloss.AsyncClient` about the server."""

    server_info = awaiting(server_info)
    ping = awaiting(ping)
