"""Export the rows of a recording to files, import rows from files or arrays, open a store's files.

Files are written and read where the client runs; the server needs no access to them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss import store
from isogloss.errors import Conflict, InvalidInput
from isogloss.service.client import recordings
from isogloss.service.client.binding import in_thread, working
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.upkeep import lanes
from isogloss.service.recording.appender import Appender
from isogloss.service.values.results import RecordingInfo
from isogloss.store import (
    Document,
    Form,
    ImportColumns,
    ImportedRows,
    ImportSource,
    RecordingSpec,
    Revision,
    TokenColumns,
    export_rows,
)

OnRows = Callable[[int, int], None]
"""Called with how many rows are done, and how many there are. If it raises, the work ends."""


def export(
    connection: Connection,
    recording: str,
    directory: str | Path,
    *,
    form: Form = "zarr",
    sites: Sequence[str] | None = None,
    revision: Revision | None = None,
    on_rows: OnRows | None = None,
) -> None:
    """Write the rows of a recording to files that other tools read, on the client's machine.

    Args:
        connection: the connection to the store's owner.
        recording: id of the recording.
        directory: directory to create. It appears when the export is complete; after a crash it is
            absent.
        form: ``zarr`` (one zarr v3 group), ``safetensors`` (files of about 1 GiB and an index), or
            ``numpy`` (one ``.npy`` a site and column, which can be mapped into memory).
        sites: names of the sites to export; None: all.
        revision: export the rows of this revision, from :class:`RecordingInfo`; None: of the
            newest.
        on_rows: called as ``on_rows(done, total)`` with the number of rows read, counted once for
            each site, and of all rows times sites. If it raises, the export ends.

    Raises:
        NotFound: there is no recording with that id.
        AlreadyExists: something is at ``directory`` already.
        UnknownSite: the recording has no such site; the message lists the nearest names.
        StorageFull: the disk is full; nothing is left at ``directory``.
    """
    info = connection.run(recordings.recording(recording))
    count = len(info.spec.sites if sites is None else sites)
    source = ClientSource(connection, info, revision, count, on_rows)
    vocabulary = connection.run(recordings.vocabulary(recording))
    export_rows(source, Path(directory), form=form, sites=sites, vocabulary=vocabulary)


def import_rows(
    connection: Connection,
    spec: RecordingSpec,
    vocabulary: Sequence[str],
    sources: Mapping[str, ImportSource],
    *,
    columns: ImportColumns,
    producer: str = "import",
    on_rows: OnRows | None = None,
) -> RecordingInfo:
    """Record rows that are in arrays or files. After a crash the same call goes on where it was.

    The parts of an export that :func:`isogloss.store.open_export` returns can be given as ``spec``,
    ``vocabulary``, ``sources`` and ``columns``.

    Args:
        connection: the connection to the store's owner.
        spec: the recording that the rows are for; created if it does not exist.
        vocabulary: token strings; token id i is the i-th.
        sources: rows of every site of ``spec``: an array, the path of a ``.npy`` or
            ``.safetensors`` file, or one of the other sources that :mod:`isogloss.store` offers.
        columns: token, document and, where known, position and code points of each row.
        producer: name of this import within the recording, without ``/``. A call that goes on gives
            the same name and the same rows.
        on_rows: called as ``on_rows(done, total)`` after each batch, with the number of rows sent
            and of all rows. If it raises, the import ends.

    Returns:
        The recording, with all rows durable.

    Raises:
        InvalidInput: ``producer`` is empty or contains ``/``.
        ShapeError: the sources differ in their number of rows, or one differs from ``spec`` in
            width or dtype.
        CorruptData: a file's header cannot be read or contradicts the file.
        AlreadyExists: a different recording has that id.
        Conflict: an earlier import under this producer's name was of other rows.
        NonFiniteRows: rows hold NaN or infinity, and the recording refuses them.
    """
    if not producer or "/" in producer:
        raise InvalidInput(f"producer {producer!r} must be a name without '/', such as 'import'")
    rows = ImportedRows(spec, sources, columns)
    # The name says what is imported, so that nothing else can go on where this ended.
    note = json.dumps(rows.note(producer), sort_keys=True).encode()
    name = f"{producer}/{hashlib.sha256(note).hexdigest()[:16]}"
    connection.run(recordings.create_recording(spec, vocabulary))
    _check_producers(connection, spec.recording, producer, name)
    with Appender(
        connection._usable_transport, spec, name, timeout_s=connection.timeout_s
    ) as appender:
        for sequence in range(appender.next_sequence, rows.batches + 1):
            connection._check_usable()  # a task that was cancelled ends here
            appender.write(rows.batch(name, sequence))
            if on_rows is not None:
                on_rows(rows.rows_after(sequence), rows.rows)
    return connection.run(recordings.recording(spec.recording))


def reader(
    connection: Connection,
    recording: str,
    *,
    revision: Revision | None = None,
    root: str | Path | None = None,
) -> "store.RecordingReader":
    """Open the files of a recording, to read rows past the store's owner, as data loaders do.

    Args:
        connection: the connection to the store's owner.
        recording: id of the recording.
        revision: read rows of this revision, from :class:`RecordingInfo`; None: of the newest.
        root: path or address of the store as this machine sees it. None: the store that this
            process owns.

    Returns:
        A reader, which goes on when the client is closed. It may be sent to processes that are
        spawned.

    Raises:
        InvalidInput: a server owns the store, and no ``root`` is given.
        NotFound: there is no recording with that id, or another one has it at ``root``.
        Conflict: the client was closed, or this process is a fork of the one that made it.
    """
    if root is None and not connection.is_local:
        raise InvalidInput(
            f"the store is behind the server {connection.address}, and this machine may have no "
            "access to its files: give root=, the store's path here, or use read and tokens"
        )
    info = connection.run(recordings.recording(recording))
    pinned = revision or info.revision
    return store.reopen_reader(str(root or connection.address), info.uid, pinned)


def _check_producers(connection: Connection, recording: str, producer: str, name: str) -> None:
    """Raise Conflict when an earlier import under this producer's name was of other rows."""
    known = {other for lane in connection.run(lanes(recording)) for other in lane.cursors}
    others = {other for other in known if other.partition("/")[0] == producer} - {name}
    if others:
        raise Conflict(
            f"producer {producer!r} of recording {recording!r} began with other rows: give the "
            "same sources to go on, or another producer name"
        )


class ClientSource:
    """Reads the rows of one revision of a recording through a client, for an exporter."""

    def __init__(
        self,
        connection: Connection,
        recording: RecordingInfo,
        revision: Revision | None,
        sites: int,
        on_rows: OnRows | None,
    ) -> None:
        """Choose the revision to read.

        Args:
            connection: the connection to the store's owner.
            recording: the recording, as :meth:`Client.recording` returned it.
            revision: the revision to read; None: the one in ``recording``.
            sites: how many sites will be read, to count the rows in all.
            on_rows: called as ``on_rows(done, total)`` after each block of rows of a site.
        """
        self._connection = connection
        self._id = recording.id
        self._sites = sites
        self._done = 0
        self._on_rows = on_rows
        self.spec = recording.spec
        self.revision = revision or recording.revision
        self.rows = self.revision.rows

    def read(self, site: str, start: int, stop: int) -> NDArray[np.generic]:
        """Return rows ``[start, stop)`` of a site."""
        call = recordings.read(self._id, site, start, stop, revision=self.revision)
        found = self._connection.run(call)
        self._done += stop - start
        if self._on_rows is not None:
            self._on_rows(self._done, self._sites * self.rows)
        return found

    def tokens(self, start: int = 0, stop: int | None = None) -> TokenColumns:
        """Return the token columns of rows ``[start, stop)``."""
        call = recordings.tokens(self._id, start, stop, revision=self.revision)
        return self._connection.run(call)

    def documents(self) -> dict[int, Document]:
        """Return the documents by id."""
        return self._connection.run(recordings.documents(self._id, revision=self.revision))


class FilesClient(Connection):
    """The methods of :class:`isogloss.Client` that export, import and open files."""

    reader = working(reader)
    export = working(export)
    import_rows = working(import_rows)


class AsyncFilesClient(AsyncConnection):
    """The methods of :class:`isogloss.AsyncClient` that export, import and open files."""

    reader = in_thread(reader)
    export = in_thread(export)
    import_rows = in_thread(import_rows)
