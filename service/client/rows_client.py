"""What clients do with rows: reading them, and taking them out of a store and into one."""

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import Conflict
from isogloss.service.client.rows import (
    documents_of,
    documents_request,
    read_request,
    rows_of,
    tokens_of,
    tokens_request,
)
from isogloss.service.client.transfer import OnRows, export, import_rows
from isogloss.service.client.upkeep_client import AsyncCareClient, CareClient
from isogloss.service.recording.appender import Appender
from isogloss.service.values.results import RecordingInfo
from isogloss.service.wire import methods
from isogloss.store import (
    Document,
    Form,
    ImportColumns,
    ImportSource,
    RecordingSpec,
    Revision,
    TokenColumns,
)

T = TypeVar("T")


class RowsClient(CareClient):
    """Rows of recordings, with blocking calls."""

    def read(
        self,
        recording: str,
        site: str,
        start: int = 0,
        stop: int | None = None,
        *,
        revision: Revision | None = None,
    ) -> NDArray[np.generic]:
        """Return rows ``[start, stop)`` of a site, ``[rows, width]`` in its dtype.

        Args:
            recording: id of the recording.
            site: name of the site.
            start: first row.
            stop: row behind the last; None: to the end.
            revision: which rows count; None: the newest.
        """
        self._check_usable()
        request = read_request(recording, site, start, stop, revision)
        return rows_of(list(self._transport.stream(methods.READ, request)))

    def tokens(
        self,
        recording: str,
        start: int = 0,
        stop: int | None = None,
        *,
        revision: Revision | None = None,
    ) -> TokenColumns:
        """Return what is known of rows ``[start, stop)`` beside their activations."""
        self._check_usable()
        request = tokens_request(recording, start, stop, revision)
        return tokens_of([b.head for b in self._transport.stream(methods.READ_TOKENS, request)])

    def documents(
        self, recording: str, *, with_text: bool = True, revision: Revision | None = None
    ) -> dict[int, Document]:
        """Return the documents of which rows are committed, by id."""
        self._check_usable()
        request = documents_request(recording, with_text=with_text, revision=revision)
        found = self._transport.stream(methods.READ_DOCUMENTS, request)
        return documents_of(block.head for block in found)

    def export(
        self,
        recording: str,
        target: str | Path,
        *,
        form: Form = "zarr",
        sites: Sequence[str] | None = None,
        revision: Revision | None = None,
        on_rows: OnRows | None = None,
    ) -> None:
        """Write the rows of a recording as files that other tools read, where this client runs.

        Args:
            recording: id of the recording.
            target: becomes a directory, whole or absent after a crash.
            form: ``zarr`` (one v3 group), ``safetensors`` (files of about 1 GiB and an index), or
                ``numpy`` (one ``.npy`` a site and column, which can be mapped into memory).
            sites: which; None: all.
            revision: which rows count; None: the newest.
            on_rows: told how many rows were read, of how many over all sites; what it raises ends
                the export.

        Raises:
            AlreadyExists: there is something at ``target``.
            UnknownSite: no such site; the message lists the nearest names.
            StorageFull: there is no room; nothing is left at ``target``.
        """
        export(
            self,
            recording,
            Path(target),
            form=form,
            sites=sites,
            revision=revision,
            on_rows=on_rows,
        )

    def import_rows(
        self,
        spec: RecordingSpec,
        vocabulary: Sequence[str],
        sources: Mapping[str, ImportSource],
        *,
        columns: ImportColumns,
        producer: str = "import",
        on_rows: OnRows | None = None,
    ) -> RecordingInfo:
        """Record rows that stand in arrays or files; after a crash the same call goes on.

        What :func:`isogloss.store.open_export` finds in an export are the arguments.

        Args:
            spec: what the rows are; created where there is no such recording yet.
            vocabulary: token strings; token id i is the i-th.
            sources: rows of every site of ``spec``: an array, a path of a ``.npy`` or
                ``.safetensors`` file, or what :mod:`isogloss.store` offers beside these.
            columns: what is known of each row.
            producer: name of this import within the recording, without ``/``.
            on_rows: told how many rows were sent, of how many; what it raises ends the import.

        Returns:
            The recording, with all rows durable.

        Raises:
            ShapeError: rows differ in number between sources, or in width or dtype from ``spec``.
            CorruptData: the header of a file lies.
            AlreadyExists: a different recording has that id.
            Conflict: this producer began with other rows.
            NonFiniteRows: rows hold NaN or infinity where the recording refuses them.
        """

        def open_appender(name: str) -> Appender:
            return Appender(self._transport, spec, name, timeout_s=self._timeout_s)

        return import_rows(
            self,
            open_appender,
            spec,
            vocabulary,
            sources,
            columns=columns,
            producer=producer,
            on_rows=on_rows,
        )


class AsyncRowsClient(AsyncCareClient):
    """The same for asyncio, in threads; arguments and errors as for :class:`RowsClient`."""

    async def export(
        self,
        recording: str,
        target: str | Path,
        *,
        form: Form = "zarr",
        sites: Sequence[str] | None = None,
        revision: Revision | None = None,
        on_rows: OnRows | None = None,
    ) -> None:
        """Write the rows of a recording as files that other tools read."""

        def work(client: RowsClient, tell: OnRows) -> None:
            client.export(
                recording, target, form=form, sites=sites, revision=revision, on_rows=tell
            )

        await self._in_thread(work, on_rows)

    async def import_rows(
        self,
        spec: RecordingSpec,
        vocabulary: Sequence[str],
        sources: Mapping[str, ImportSource],
        *,
        columns: ImportColumns,
        producer: str = "import",
        on_rows: OnRows | None = None,
    ) -> RecordingInfo:
        """Record rows that stand in arrays or files; after a crash the same call goes on."""

        def work(client: RowsClient, tell: OnRows) -> RecordingInfo:
            return client.import_rows(
                spec, vocabulary, sources, columns=columns, producer=producer, on_rows=tell
            )

        return await self._in_thread(work, on_rows)

    async def _in_thread(
        self, work: Callable[[RowsClient, OnRows], T], on_rows: OnRows | None
    ) -> T:
        """Do work with a blocking client; a task that is cancelled ends it at its next rows."""
        self._check_usable()
        left = threading.Event()

        def tell(done: int, of: int) -> None:
            if left.is_set():
                raise Conflict("the task that moved these rows was cancelled")
            if on_rows is not None:
                on_rows(done, of)

        client = RowsClient(self._transport.blocking, timeout_s=self._timeout_s)
        try:
            return await asyncio.to_thread(work, client, tell)
        except asyncio.CancelledError:
            left.set()
            raise
