"""What is brought in and taken out: rows, codes of other tools, pairs of a match; a store's files.

Files are written and read where the client runs; the server needs no access to them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from google.longrunning.operations_pb2 import Operation
from numpy.typing import NDArray

from isogloss import store
from isogloss.errors import Conflict, InvalidInput, ShapeError
from isogloss.proto.v1 import universality_pb2 as pb
from isogloss.service.client import recordings, universality
from isogloss.service.client.binding import (
    awaiting,
    blocking,
    in_thread,
    starting,
    starting_async,
    working,
)
from isogloss.service.client.connection import AsyncConnection, Connection
from isogloss.service.client.dictionaries import get_dictionary
from isogloss.service.client.operations import Started, started
from isogloss.service.client.upkeep import lanes
from isogloss.service.pages.tables import pair_table, provenance_of, write_table
from isogloss.service.recording.appender import Appender
from isogloss.service.transport.call import Call, ask, reading
from isogloss.service.values import ids
from isogloss.service.values.results import DictionaryInfo, MatchInfo, ProbeSegments, RecordingInfo
from isogloss.service.wire.features import to_parts
from isogloss.service.wire.messages import from_message
from isogloss.service.wire.names import from_name, to_name
from isogloss.store import (
    Document,
    ForeignCodes,
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


def segments(
    probe: str, *, recording: str | None = None, step: int | None = None
) -> Call[ProbeSegments]:
    """Return the segments of a probe: the rows that codes on it have, in their order.

    Args:
        probe: id of the probe.
        recording: id of one of the probe's recordings, to be told which of its rows stands for each
            segment; None: not asked.
        step: training step of those rows, where the recording has several.

    Returns:
        Document, place, half and row of each segment.

    Raises:
        NotFound: there is no such probe, or it was not made of this recording.
        InvalidInput: the recording has rows of several training steps, and none was named.
    """
    return _segments(
        pb.ReadSegmentsRequest(
            name=to_name("probes", probe),
            recording=to_name("recordings", recording) if recording else "",
            step=step,
        )
    )


def _segments(request: pb.ReadSegmentsRequest) -> Call[ProbeSegments]:
    pages: list[pb.ReadSegmentsResponse] = []
    while True:
        page = yield from ask(request, pb.ReadSegmentsResponse)
        pages.append(page)
        got = len(page.halves)
        request.start += got
        # a server that gives another number each time would never come to an end
        if request.start >= page.segments or not got or page.segments != pages[0].segments:
            return reading(_joined_segments, pages)


def _joined_segments(pages: Sequence[pb.ReadSegmentsResponse]) -> ProbeSegments:
    documents, spans, halves, rows = (
        np.frombuffer(b"".join(getattr(page, name) for page in pages), dtype)
        for name, dtype in (
            ("documents", "<u8"), ("spans", "<u4"), ("halves", "u1"), ("rows", "<i8"),
        )
    )  # fmt: skip
    wanted = pages[0].segments
    lengths = {len(documents), len(spans) // 2, len(halves), len(rows) or wanted}
    if lengths != {wanted} or len(spans) % 2:
        raise ShapeError(f"{wanted} segments came as columns of {sorted(lengths)}")
    known = pages[0].HasField("revision")
    return ProbeSegments(
        document=documents.astype(np.uint64),
        span=spans.reshape(-1, 2).astype(np.uint32),
        half=halves.astype(np.int8),
        row=rows.astype(np.int64) if known else None,
        revision=from_message(pages[0].revision, Revision) if known else None,
    )


def import_codes(
    probe: str,
    codes: ForeignCodes,
    *,
    dictionary: str,
    features: int | None = None,
    present: NDArray[np.bool_] | None = None,
    recording: str | None = None,
    site: str = "",
    origin: str = "",
    time_limit_s: float | None = None,
    request_id: str | None = None,
) -> Call[Started[DictionaryInfo]]:
    """Begin a job that makes a dictionary of codes that another tool computed on a probe.

    The dictionary can be matched, searched and reported like any other that is encoded on the
    probe. It has no weights, so nothing else can be encoded with it. A call that broke off is
    repeated with the same codes and goes on where it was.

    Args:
        probe: id of the probe.
        codes: activations above zero: a scipy sparse matrix ``[segments, features]``; a mapping
            with the columns ``segment``, ``feature`` (whole numbers from 0) and ``value`` (floats);
            or the path of such a matrix (``.npz`` of ``scipy.sparse.save_npz``) or of such columns
            (``.parquet``). :meth:`segments` tells what the rows are.
        dictionary: id of the dictionary to make.
        features: number of features of the dictionary; needed for columns.
        present: bool ``[segments]``, false where the tool has no answer; None: it has all.
        recording: id of the probe's recording of the model that the features are of. None: that
            model was not recorded, so nothing is known of its ancestry.
        site: site of that recording that the features are of.
        origin: what made the codes, for people, such as a package and its version.
        time_limit_s: for how many seconds the job may run; None: as long as the server lets it.
        request_id: any text; a second call with the same one returns the first call's job.

    Returns:
        A handle on the job; its result is the dictionary.

    Raises:
        NotFound: there is no such probe, recording or file.
        ShapeError: the codes are of another number of segments or features.
        InvalidInput: an activation is negative, not finite, given twice or out of range, or a
            column is of the wrong type.
        CorruptData: a file cannot be read.
        MissingExtra: a ``.parquet`` file is given, and pyarrow is not installed.
        ResourceExhausted: too many other uploads were begun and not imported.
    """
    request = pb.ImportCodesRequest(
        dictionary_id=from_name("dictionaries", to_name("dictionaries", dictionary)),
        probe=to_name("probes", probe),
        recording=to_name("recordings", recording) if recording else "",
        site=site,
        origin=origin,
        time_limit_s=time_limit_s,
        request_id=ids.request_id(request_id),
    )
    return _import_codes(request, probe, codes, features, present)


def _import_codes(
    request: pb.ImportCodesRequest,
    probe: str,
    codes: ForeignCodes,
    features: int | None,
    present: NDArray[np.bool_] | None,
) -> Call[Started[DictionaryInfo]]:
    known = yield from universality.get_probe(probe)
    checked = store.check_codes(codes, segments=known.segments, features=features, present=present)
    for part in to_parts(request.probe, checked):
        yield from ask(part, pb.UploadCodesResponse)
    request.upload, request.features = checked.digest, checked.features
    found = yield from ask(request, Operation)
    return reading(started("dictionaries", get_dictionary), found)


def export_match(
    connection: Connection,
    match: MatchInfo | str,
    path: str | Path,
    *,
    figures: str | Path | None = None,
) -> dict[str, object]:
    """Write the pairs of a match as a table, with what they were made of; and its charts.

    Args:
        connection: the connection to the store's owner.
        match: the match, or its id.
        path: file to write, on the client's machine: ``.csv`` (what it was made of beside it, in
            ``NAME.provenance.json``), ``.json`` (both in one document) or ``.parquet`` (in the
            file's metadata under ``provenance``). Replaced if it is there; whole or absent.
        figures: directory for the charts as SVG files; None: none are drawn.

    Returns:
        What the match was made of: ids and uids of match, probe and dictionaries, hashes of their
        weights, revisions of the recordings, settings, cautions, release of isogloss.

    Raises:
        NotFound: there is no match with that id.
        InvalidInput: ``path`` has another ending.
        MissingExtra: a ``.parquet`` file is asked for, and pyarrow is not installed.
        StorageError: a file cannot be written.
    """
    target = Path(path)
    if target.suffix not in (".csv", ".json", ".parquet"):
        raise InvalidInput(
            f"{target} ends in {target.suffix or 'nothing'!r}, wanted .csv, .json or .parquet"
        )
    found = connection.run(universality.get_match(ids.id_of(match)))
    table = pair_table(connection.run(universality.pairs(found)))
    made_of = provenance_of(found)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_table(target, table, made_of)
    if figures is not None:
        # jinja2 and markupsafe are only in a complete installation, and only this needs them
        from isogloss.service.pages.drawings import draw_files

        directory = Path(figures)
        directory.mkdir(parents=True, exist_ok=True)
        for name, svg in draw_files(found.details).items():
            store.FileSystem().write_whole(directory / f"{name}.svg", [svg.encode()])
    return made_of


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
    export_match = working(export_match)
    segments = blocking(segments)
    import_codes = starting(import_codes)


class AsyncFilesClient(AsyncConnection):
    """The methods of :class:`isogloss.AsyncClient` that export, import and open files."""

    reader = in_thread(reader)
    export = in_thread(export)
    import_rows = in_thread(import_rows)
    export_match = in_thread(export_match)
    segments = awaiting(segments)
    import_codes = starting_async(import_codes)
