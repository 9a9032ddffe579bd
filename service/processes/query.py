"""The process that answers queries for a server: ``python -m isogloss.service.processes.query``.

It also checks the requests of calls that the server answers once they were checked.
It may import torch and faiss, which the server must not: importing them takes a second and their
threads would compete with ingest. It reads the store without owning it, answers on a socket of the
server's own, and ends when the server's end of its standard input closes.
"""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import grpc

from isogloss.service.calls.queries import QueryHandlers
from isogloss.service.calls.table import Unary, bind
from isogloss.service.query.queries import Queries
from isogloss.service.values.addresses import READY
from isogloss.service.wire.errors import ending_of
from isogloss.service.wire.framing import MESSAGE_BYTES, parse
from isogloss.store import Store


def main(location: str, address: str, threads: int) -> None:
    """Answer queries on ``address`` until standard input ends."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s query %(message)s")
    for number in (signal.SIGTERM, signal.SIGINT):  # sent to a whole group: the server tells it
        signal.signal(number, signal.SIG_IGN)
    with Store.attach(location) as store:
        handlers = bind(QueryHandlers(Queries(store)))
        server = grpc.server(
            ThreadPoolExecutor(threads),
            options=[
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_send_message_length", MESSAGE_BYTES),
                ("grpc.so_reuseport", 0),
            ],
        )
        by_service: dict[str, dict[str, grpc.RpcMethodHandler[bytes, bytes]]] = {}
        for handler in (*handlers.unary.values(), *handlers.checks.values()):
            by_service.setdefault(handler.method.service, {})[handler.method.name] = (
                grpc.unary_unary_rpc_method_handler(_answer(handler))
            )
        for service, calls in by_service.items():
            server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, calls)])
        server.add_insecure_port(address)
        server.start()
        threading.Thread(target=_preload, daemon=True).start()
        os.write(sys.stdout.fileno(), READY)
        while os.read(sys.stdin.fileno(), 4096):
            pass
        server.stop(None)


def _preload() -> None:
    """Import what the first query needs while it is on its way."""
    for name in ("isogloss.universality.atlas.nearest", "isogloss.service.query.contexts"):
        import_module(name)


def _answer(handler: Unary) -> Callable[[bytes, grpc.ServicerContext], bytes]:
    def answer(raw: bytes, context: grpc.ServicerContext) -> bytes:
        try:
            return handler.answer(parse(handler.method.request, raw)).SerializeToString()
        except Exception as error:  # becomes the status of the call
            code, text, trailers = ending_of(error)
        context.set_trailing_metadata(trailers)
        context.set_code(code)
        context.set_details(text)
        return b""

    return answer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    # Nobody is there any more who could be answered. A thread that imports torch just now would
    # keep a process that ends in order from ending.
    os._exit(0)
