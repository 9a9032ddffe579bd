"""Writing rows: streams of batches, through the owner of a store or past it, and live models."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from isogloss.service.client import recordings
from isogloss.service.client.binding import in_thread, working, wrapping
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.recording import documents as recording_documents
from isogloss.service.recording.appender import Appender, BatchStream
from isogloss.service.recording.description import HasVocabulary, Precision
from isogloss.service.recording.direct_appender import find_storage
from isogloss.service.recording.documents import DocumentOptions
from isogloss.service.recording.route import Direct, open_stream
from isogloss.service.transport.patience import RECONNECT_S
from isogloss.service.values.results import RecordingInfo
from isogloss.store import RecordingSpec, RowBatch, StepInfo

if TYPE_CHECKING:
    from torch import nn

    from isogloss.models import Example, LoadedModel, RecordProgress, TextDocument
    from isogloss.service.recording.live.opening import Ranks
    from isogloss.service.recording.live.recorder import Recorder, StepSource
    from isogloss.service.recording.options import RecorderCounts, RecorderOptions


def appender(
    connection: Connection, recording: str, producer: str, *, reconnect_s: float = RECONNECT_S
) -> Appender:
    """Open a producer's stream of batches, which are sent to the store's owner.

    Use the stream in a ``with`` block: leaving it, unless by an exception, waits until all batches
    are durable.

    Args:
        connection: the connection to the store's owner.
        recording: id of the recording.
        producer: name of this stream, such as ``rank-0``. Give the same name after a restart, to go
            on with the batch after the last durable one.
        reconnect_s: for how many seconds to try to reconnect after the connection was lost.

    Returns:
        The open stream.

    Raises:
        NotFound: there is no recording with that id.
        Conflict: another process writes a direct lane for this producer.
    """
    return Appender(
        connection._usable_transport,
        connection.run(recordings.recording(recording)).spec,
        producer,
        timeout_s=connection.timeout_s,
        reconnect_s=reconnect_s,
    )


def stream(
    connection: Connection,
    recording: str,
    producer: str,
    *,
    direct: Direct = "auto",
    root: Path | str | None = None,
    reconnect_s: float = RECONNECT_S,
) -> BatchStream:
    """Open a producer's stream of batches, which this process writes to the storage where it can.

    A process that sees the store's disk, such as a training rank on a shared file system, can write
    a direct lane: it writes the rows to files of the store itself, and no row passes through the
    owner.

    Args:
        connection: the connection to the store's owner.
        recording: id of the recording.
        producer: name of this stream, such as ``rank-0``. Give the same name after a restart, to go
            on with the batch after the last durable one.
        direct: True: write a direct lane, or raise an error. ``auto``: write a direct lane if this
            process sees the storage, else send batches to the owner; the stream's ``route`` says
            which, and why. False: send batches to the owner.
        root: path of the store's root on this machine; None: the path that the owner has it under.
        reconnect_s: for how many seconds to try again after the owner stopped answering.

    Returns:
        The open stream.

    Raises:
        NotFound: there is no recording with that id.
        NotPermitted: ``direct`` is True, and this process does not see the storage.
        Conflict: another process writes a direct lane for this producer already.
    """
    return open_stream(
        connection._usable_transport,
        connection.run(recordings.recording(recording)).spec,
        producer,
        direct=direct,
        root=root,
        timeout_s=connection.timeout_s,
        reconnect_s=reconnect_s,
    )


def record(
    connection: Connection,
    model: "nn.Module | LoadedModel",
    tokenizer: HasVocabulary | None = None,
    *,
    sites: Sequence[str],
    recording: str,
    name: str = "",
    corpus: str = "live",
    producer: str | None = None,
    dtype: Precision = "bfloat16",
    step: "StepSource | None" = None,
    skip_first: int = 0,
    call: int | None = None,
    layout: 'Literal["batch_first"] | None' = None,
    ids: str | None = None,
    example: "Example | None" = None,
    ranks: "Ranks" = "all",
    options: "RecorderOptions | None" = None,
    direct: Direct = False,
    root: Path | str | None = None,
) -> "Recorder":
    """Make a recorder for a live model, such as one in a training loop; enter it with ``with``.

    The first pass, or ``example``, creates the recording; see ``service/recording/README.md``.

    Args:
        connection: the connection to the store's owner.
        model: a module that takes token ids, or what ``load_model`` gives, with tokenizer and name.
        tokenizer: gives tokens' strings, special tokens, and, if it is a fast one, texts and spans.
        sites: names of submodules, or glob patterns that match some.
        recording: id of the recording; created if it does not exist.
        name: name of the model, as the recording shows it; empty: the name of its class.
        corpus: name of the text, as the recording shows it.
        producer: name of this stream, the same after a restart; None: ``rank-`` and the rank.
        dtype: number format in which activations are stored.
        step: training step, or a function that gives it; None: 0, and weights do not change.
        skip_first: how many content tokens at the start of each document have no row.
        call: which call to read of a site that runs several times a pass; None: none is.
        layout: that outputs are ``[sequences, tokens, width]``; None: their sizes tell.
        ids: argument of the forward pass whose token ids all sites work on; None: it is told.
        example: an input, of which one pass tells the widths now; see :func:`resolve_sites`.
        ranks: who records: ``all``, rank 0 as ``one``, or the first rank of a process group.
        options: which passes are kept, size of the queue, and what happens when it is full.
        direct: True: write rows to the store's disk here, or raise; ``auto``: where it is seen.
        root: for ``direct``: path of the store on this machine; None: the owner's path of it.

    Returns:
        The recorder, not yet entered.

    Raises:
        UnknownSite: a name matches nothing; the message lists the nearest names.
        AlreadyExists: a different recording has that id.
        NotPermitted: ``direct`` is True, and this process does not see the store's disk.
    """
    from isogloss.service.recording.live.opening import Place, Wanted, open_recorder  # loads torch

    place = Place(recording, producer, direct, root, ranks)
    what = Wanted(sites, name, corpus, dtype, skip_first, call, layout, ids, example)
    return open_recorder(_Writer(connection), model, tokenizer, place, what, step, options)


def record_documents(
    connection: Connection,
    model: "LoadedModel",
    documents: "Sequence[TextDocument] | Sequence[Sequence[int]]",
    *,
    sites: Sequence[str],
    recording: str,
    options: DocumentOptions | None = None,
    on_progress: "Callable[[RecordProgress], None] | None" = None,
    on_route: Callable[[str], None] | None = None,
) -> RecordingInfo:
    """Run a model over documents and record the activations at its sites.

    Documents that the recording holds already are left out. So after a crash the same call goes on
    where it was. In the asynchronous client a thread runs the model and calls the two functions.

    Args:
        connection: the connection to the store's owner.
        model: from :func:`isogloss.models.load_model`.
        documents: texts, or token ids for a model without tokenizer. One that is given twice is
            recorded once.
        sites: names of submodules, or glob patterns that match some.
        recording: id of the recording; created if it does not exist.
        options: batch size, precision, names; see :class:`DocumentOptions`.
        on_progress: called after each batch with how many documents and rows are done.
        on_route: called once, before the first row is sent, with a text that says whether rows go
            to the disk directly or through the owner, and why.

    Returns:
        The recording, with all rows durable.

    Raises:
        UnknownSite: a name matches nothing; the message lists the nearest names.
        AlreadyExists: a different recording has that id.
    """
    return recording_documents.record_documents(
        _Writer(connection),
        model,
        documents,
        sites=sites,
        recording=recording,
        options=options or DocumentOptions(),
        on_progress=on_progress,
        on_route=on_route,
    )


class _Writer:
    """The methods that recording documents calls, over one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def create_recording(self, spec: RecordingSpec, vocabulary: Sequence[str]) -> RecordingInfo:
        return self._connection.run(recordings.create_recording(spec, vocabulary))

    def recording(self, recording: str) -> RecordingInfo:
        return self._connection.run(recordings.recording(recording))

    def known_documents(self, recording: str, step: int = 0) -> Mapping[int, int]:
        return self._connection.run(recordings.known_documents(recording, step))

    def steps(self, recording: str) -> Sequence[StepInfo]:
        return self._connection.run(recordings.steps(recording))

    def stream(
        self,
        recording: str,
        producer: str,
        *,
        direct: Direct = False,
        root: Path | str | None = None,
    ) -> BatchStream:
        return stream(self._connection, recording, producer, direct=direct, root=root)

    def check_route(self, direct: Direct, root: Path | str | None) -> None:
        if direct is True:
            connection = self._connection
            find_storage(connection._usable_transport, root, connection.timeout_s)


class AsyncAppender:
    """A producer's stream of batches for asyncio; each call blocks a thread, not the event loop."""

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
        """A text that says whether batches go to the disk directly or through the owner."""
        return self._appender.route

    @property
    def next_sequence(self) -> int:
        """Sequence number that the next batch must have."""
        return self._appender.next_sequence

    @property
    def durable_sequence(self) -> int:
        """Sequence number of the last batch that is on the disk."""
        return self._appender.durable_sequence

    async def write(self, batch: RowBatch, timeout_s: float | None = None) -> None:
        """Queue a batch; it is sent, and made durable, after this returned.

        The batch's arrays must not change until it is durable. Errors as for
        :meth:`Appender.write`.
        """
        await asyncio.to_thread(self._appender.write, batch, timeout_s)

    async def flush(self, timeout_s: float | None = None) -> None:
        """Wait until every batch written so far is durable."""
        await asyncio.to_thread(self._appender.flush, timeout_s)

    async def close(self) -> None:
        """Wait until every batch is durable, then end the stream."""
        await asyncio.to_thread(self._appender.close)


class AsyncRecorder:
    """Records a live model's activations while it is entered with ``async with``.

    The hooks run in the thread that runs the model. Leaving the block waits, without blocking the
    event loop, until everything recorded is durable.
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
        """How many passes and rows were seen, queued, made durable and left out so far."""
        return self._recorder.counts

    @property
    def route(self) -> str:
        """A text that says whether rows go to the disk directly or through the owner, and why."""
        return self._recorder.route

    @property
    def error(self) -> Exception | None:
        """Why recording stopped, an error of the store; None as long as it goes on."""
        return self._recorder.error

    @property
    def step(self) -> int:
        """The training step of the passes that follow."""
        return self._recorder.step

    @step.setter
    def step(self, step: "StepSource") -> None:
        self._recorder.step = step

    def documents(
        self, texts: "Sequence[str | TextDocument]"
    ) -> AbstractContextManager[None, bool | None]:
        """Say which texts the passes in a ``with`` block read; as :meth:`Recorder.documents`."""
        return self._recorder.documents(texts)

    async def known(
        self, sequences: Sequence[str] | Sequence[Sequence[int]], *, step: int | None = None
    ) -> list[bool]:
        """Tell which documents need no further pass; as :meth:`Recorder.known`."""
        return await asyncio.to_thread(self._recorder.known, sequences, step=step)

    async def flush(self) -> bool:
        """Wait until the rows of all passes so far are durable; as :meth:`Recorder.flush`."""
        return await asyncio.to_thread(self._recorder.flush)


class WritingClient(Connection):
    """The methods of :class:`isogloss.Client` that write rows."""

    appender = working(appender)
    stream = working(stream)
    record = working(record)
    record_documents = working(record_documents)


class AsyncWritingClient(AsyncConnection):
    """The methods of :class:`isogloss.AsyncClient` that write rows; threads send the batches."""

    appender = wrapping(appender, AsyncAppender)
    stream = wrapping(stream, AsyncAppender)
    record = wrapping(record, AsyncRecorder)
    record_documents = in_thread(record_documents)
