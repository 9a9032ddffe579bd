"""What both clients do to append: streams of batches, through the owner or past it."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from isogloss.service.client import requests
from isogloss.service.client.run_async import AwaitingClient
from isogloss.service.client.run_blocking import BlockingClient
from isogloss.service.recording import direct_requests
from isogloss.service.recording.appender import Appender, BatchStream
from isogloss.service.recording.description import Precision, Tokenizer
from isogloss.service.recording.documents import DocumentOptions
from isogloss.service.recording.route import Direct, open_stream
from isogloss.service.transport.patience import RECONNECT_S
from isogloss.service.values.results import RecordingInfo
from isogloss.store import RowBatch

if TYPE_CHECKING:
    from torch import nn

    from isogloss.models import LoadedModel, RecordProgress, TextDocument
    from isogloss.service.client.client import Client
    from isogloss.service.recording.live import Recorder, RecorderCounts, RecorderOptions


class StreamingClient(BlockingClient):
    """Appending, with blocking calls."""

    def appender(
        self, recording: str, producer: str, *, reconnect_s: float = RECONNECT_S
    ) -> Appender:
        """Open a producer's stream of batches through the owner; use it as a context manager.

        Args:
            recording: id of the recording.
            producer: name of this stream, stable over restarts, such as ``rank-0``.
            reconnect_s: how long to go on trying when the server is away.

        Raises:
            Conflict: the producer is writing a direct lane.
        """
        self._check_usable()
        return Appender(
            self._transport,
            self.run(requests.recording(recording)).spec,
            producer,
            timeout_s=self._timeout_s,
            reconnect_s=reconnect_s,
        )

    def stream(
        self,
        recording: str,
        producer: str,
        *,
        direct: Direct = "auto",
        root: Path | str | None = None,
        reconnect_s: float = RECONNECT_S,
    ) -> BatchStream:
        """Open a producer's stream of batches, past the owner of the store where that can be.

        A direct stream writes a lane of its own on storage that this process shares with the
        server: no row crosses the server.

        Args:
            recording: id of the recording.
            producer: name of this stream, stable over restarts, such as ``rank-0``.
            direct: True: past the owner, or an error; ``auto``: past it if this process sees the
                storage, else through it, and the stream's ``route`` says why; False: through it.
            root: the store as this machine sees it; None: where its owner says.
            reconnect_s: how long to go on trying when the server is away.

        Raises:
            NotPermitted: it must be direct, and this process does not see the storage.
            Conflict: the producer is writing a direct lane already.
        """
        self._check_usable()
        return open_stream(
            self._transport,
            self.run(requests.recording(recording)).spec,
            producer,
            direct=direct,
            root=root,
            timeout_s=self._timeout_s,
            reconnect_s=reconnect_s,
        )

    def end_direct_lane(self, recording: str, lane: str) -> dict[str, int]:
        """End a direct lane whose writer hangs, so that its producers can go on elsewhere.

        Returns:
            Last durable sequence number of each of its producers.

        Raises:
            NotFound: there is no such direct lane.
        """
        return self.run(direct_requests.end_direct_lane(recording, lane))


class AsyncAppender:
    """A producer's stream of batches; the blocking one, in a thread."""

    def __init__(self, appender: BatchStream) -> None:
        self._appender = appender

    async def __aenter__(self) -> "AsyncAppender":
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._appender.close, flush=error is None)

    @property
    def route(self) -> str:
        """Which way batches go, for people."""
        return self._appender.route

    @property
    def next_sequence(self) -> int:
        """Sequence number that the next batch must have."""
        return self._appender.next_sequence

    @property
    def durable_sequence(self) -> int:
        """Last batch on the disk."""
        return self._appender.durable_sequence

    async def write(self, batch: RowBatch, timeout_s: float | None = None) -> None:
        """Send a batch; returns when it is on its way. Errors as for :meth:`Appender.write`."""
        await asyncio.to_thread(self._appender.write, batch, timeout_s)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until everything written is durable."""
        await asyncio.to_thread(self._appender.flush, timeout_s)

    async def close(self) -> None:
        """End the stream once everything is durable."""
        await asyncio.to_thread(self._appender.close)


class AsyncRecorder:
    """Records what passes a live model's sites; the blocking :class:`Recorder`, awaited at its end.

    The hooks run in the thread in which the model does.
    """

    def __init__(self, recorder: "Recorder") -> None:
        self._recorder = recorder

    async def __aenter__(self) -> "AsyncRecorder":
        self._recorder.__enter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._recorder.__exit__, kind, error, trace)

    @property
    def counts(self) -> "RecorderCounts":
        """What was seen, taken, dropped and made durable so far."""
        return self._recorder.counts

    @property
    def route(self) -> str:
        """Which way rows go, and why."""
        return self._recorder.route

    @property
    def error(self) -> Exception | None:
        """The first thing that went wrong; None while all is well."""
        return self._recorder.error


class AsyncStreamingClient(AwaitingClient):
    """Appending, awaited; the streams themselves run in threads."""

    async def appender(
        self, recording: str, producer: str, *, reconnect_s: float = RECONNECT_S
    ) -> AsyncAppender:
        """Open a producer's stream of batches; use it as an asynchronous context manager."""
        return await self.stream(recording, producer, direct=False, reconnect_s=reconnect_s)

    async def stream(
        self,
        recording: str,
        producer: str,
        *,
        direct: Direct = "auto",
        root: Path | str | None = None,
        reconnect_s: float = RECONNECT_S,
    ) -> AsyncAppender:
        """Open a producer's stream past the owner where that can be; as :meth:`Client.stream`."""
        self._check_usable()
        spec = (await self.run(requests.recording(recording))).spec

        def start() -> BatchStream:
            return open_stream(
                self._transport.blocking,
                spec,
                producer,
                direct=direct,
                root=root,
                timeout_s=self._timeout_s,
                reconnect_s=reconnect_s,
            )

        return AsyncAppender(await asyncio.to_thread(start))

    async def end_direct_lane(self, recording: str, lane: str) -> dict[str, int]:
        """End a direct lane whose writer hangs; as :meth:`Client.end_direct_lane`."""
        return await self.run(direct_requests.end_direct_lane(recording, lane))

    async def record(
        self,
        model: "nn.Module",
        tokenizer: Tokenizer | None = None,
        *,
        sites: Sequence[str],
        recording: str,
        name: str = "",
        corpus: str = "live",
        producer: str = "rank-0",
        dtype: Precision = "bfloat16",
        options: "RecorderOptions | None" = None,
        direct: Direct = False,
        root: Path | str | None = None,
    ) -> AsyncRecorder:
        """Record what a live model computes while the returned recorder is entered.

        Arguments and errors as for :meth:`Client.record`. With ``on_full="block"`` a full queue
        holds up the thread that runs the model, even when that is the event loop's.
        """

        def start() -> "Recorder":
            return self._blocking().record(
                model,
                tokenizer,
                sites=sites,
                recording=recording,
                name=name,
                corpus=corpus,
                producer=producer,
                dtype=dtype,
                options=options,
                direct=direct,
                root=root,
            )

        return AsyncRecorder(await asyncio.to_thread(start))

    async def record_documents(
        self,
        model: "LoadedModel",
        documents: "Sequence[TextDocument] | Sequence[Sequence[int]]",
        *,
        sites: Sequence[str],
        recording: str,
        options: DocumentOptions | None = None,
        on_progress: "Callable[[RecordProgress], None] | None" = None,
        on_route: Callable[[str], None] | None = None,
    ) -> RecordingInfo:
        """Run a model over documents and record its sites, in a thread.

        Arguments and errors as for :meth:`Client.record_documents`; the two functions are called in
        that thread.
        """

        def run() -> RecordingInfo:
            return self._blocking().record_documents(
                model,
                documents,
                sites=sites,
                recording=recording,
                options=options,
                on_progress=on_progress,
                on_route=on_route,
            )

        return await asyncio.to_thread(run)

    def _blocking(self) -> "Client":
        """Return a blocking client over the same connection; not to be closed."""
        from isogloss.service.client.client import Client

        self._check_usable()
        return Client(self._transport.blocking, timeout_s=self._timeout_s)
