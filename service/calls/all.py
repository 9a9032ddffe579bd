"""The calls that each process answers: the owner of a store all but queries, or all."""

from collections.abc import Callable
from typing import NoReturn

from google.protobuf.message import Message

from isogloss.errors import NotPermitted
from isogloss.service.calls.dictionaries import DictionaryHandlers
from isogloss.service.calls.direct import DirectHandlers
from isogloss.service.calls.jobs import JobHandlers
from isogloss.service.calls.queries import QueryHandlers
from isogloss.service.calls.recordings import RecordingHandlers
from isogloss.service.calls.server import ServerHandlers
from isogloss.service.calls.table import (
    Streaming,
    Unary,
    bind,
    check_complete,
    checks_of,
    methods_of,
)
from isogloss.service.calls.universality import UniversalityHandlers
from isogloss.service.calls.upkeep import UpkeepHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.addresses import Listening
from isogloss.service.values.server import ServerProcess
from isogloss.service.wire.methods import METHODS, Method

QUERIES = frozenset(method.path for method in methods_of(QueryHandlers))
"""Paths of the calls that a server forwards to its query process."""
CHECKED = frozenset(method.path for method in checks_of(QueryHandlers))
"""Paths of the calls that a server answers once its query process has checked the request, such as
settings of which only a library knows that the server does not load."""


Processes = Callable[[], tuple[ServerProcess, ...]]


def _topics(
    owner: Owner, listening: Callable[[], Listening], processes: Processes
) -> tuple[object, ...]:
    return (
        RecordingHandlers(owner),
        UpkeepHandlers(owner),
        DirectHandlers(owner.direct),
        DictionaryHandlers(owner),
        UniversalityHandlers(owner),
        JobHandlers(owner.jobs),
        ServerHandlers(owner, listening, processes),
    )


class ControlHandlers:
    """The calls that the process of a server answers itself, by path."""

    def __init__(self, owner: Owner) -> None:
        """Register the handlers of a store's owner.

        Args:
            owner: the store's owner.

        Raises:
            InternalError: a call has no handler here or in the query process, or has two.
        """
        self._owner = owner
        self.listening = Listening()
        """How this process is reached; set once its addresses are bound."""
        self.processes: Processes = tuple
        """The processes of this server; set once they are known."""
        bound = bind(*_topics(owner, lambda: self.listening, lambda: self.processes()))
        check_complete(bound.paths | QUERIES)
        self.unary: dict[str, Unary] = bound.unary
        self.streaming: dict[str, Streaming] = bound.streaming

    @property
    def ingest(self) -> Ingest:
        """Takes the batches that the call Append receives."""
        return self._owner.ingest

    @property
    def jobs(self) -> Jobs:
        """The queue of jobs, for calls that wait."""
        return self._owner.jobs


class LocalHandlers:
    """Every call, by path, in the process of a client that opened the store itself."""

    def __init__(self, owner: Owner) -> None:
        """Bind the handlers; errors as for :class:`ControlHandlers`."""
        self._owner = owner
        bound = bind(*_topics(owner, Listening, tuple), QueryHandlers(owner.queries))
        check_complete(bound.paths)
        self.unary: dict[str, Unary] = bound.unary
        self.streaming: dict[str, Streaming] = bound.streaming

    @property
    def ingest(self) -> Ingest:
        """Takes the batches that the call Append receives."""
        return self._owner.ingest

    def close(self) -> None:
        """Let go of the store."""
        self._owner.close()


class ReadingHandlers(LocalHandlers):
    """The calls that change nothing, over a store that another process may own."""

    def __init__(self, owner: Owner) -> None:
        """Bind the handlers of a store that is attached; all other calls raise NotPermitted."""
        super().__init__(owner)
        for path, method in METHODS.items():
            if not method.only_reads and path in self.unary:
                self.unary[path] = Unary(method, _refusal(method))
            if not method.only_reads and path in self.streaming:
                self.streaming[path] = Streaming(method, _refusal(method))

    @property
    def ingest(self) -> Ingest:
        """Raise NotPermitted: batches change the store."""
        raise NotPermitted(_only_reads("Append"))


def _refusal(method: Method) -> Callable[[Message], NoReturn]:
    def refuse(request: Message) -> NoReturn:
        del request
        raise NotPermitted(_only_reads(method.name))

    return refuse


def _only_reads(call: str) -> str:
    return f"{call} changes the store, which this client only reads: connect without read_only=True"
