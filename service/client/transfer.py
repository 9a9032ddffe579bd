"""Rows out of a store and into one, over either transport: exports and imports of the store room.

Both read and write files where the client runs; the server needs no access to them.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import Conflict, InvalidInput
from isogloss.service.client import requests, upkeep_requests
from isogloss.service.recording.appender import Appender
from isogloss.service.transport.plans import Plan
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

T = TypeVar("T")

OnRows = Callable[[int, int], None]
"""Told how many rows are done, of how many."""


class Rows(Protocol):
    """What moving rows needs of a client."""

    def run(self, plan: Plan[T]) -> T:
        """Run a plan with blocking calls."""
        ...

    def read(
        self,
        recording: str,
        site: str,
        start: int = 0,
        stop: int | None = None,
        *,
        revision: Revision | None = None,
    ) -> NDArray[np.generic]:
        """Return rows of a site."""
        ...

    def tokens(
        self,
        recording: str,
        start: int = 0,
        stop: int | None = None,
        *,
        revision: Revision | None = None,
    ) -> TokenColumns:
        """Return token columns."""
        ...

    def documents(
        self, recording: str, *, with_text: bool = True, revision: Revision | None = None
    ) -> dict[int, Document]:
        """Return the documents."""
        ...


class ClientSource:
    """The rows of a recording at one revision, read through a client as an exporter wants them."""

    def __init__(
        self,
        client: Rows,
        recording: RecordingInfo,
        revision: Revision | None,
        sites: int,
        on_rows: OnRows | None,
    ) -> None:
        """Pin a revision.

        Args:
            client: reads the rows.
            recording: as the client gave it.
            revision: which rows; None: those that it has.
            sites: how many sites will be read.
            on_rows: told after each block of rows of a site.
        """
        self._client = client
        self._id = recording.id
        self._sites = sites
        self._done = 0
        self._on_rows = on_rows
        self.spec = recording.spec
        self.revision = revision or recording.revision
        self.rows = self.revision.rows

    def read(self, site: str, start: int, stop: int) -> NDArray[np.generic]:
        """Return rows ``[start, stop)`` of a site."""
        found = self._client.read(self._id, site, start, stop, revision=self.revision)
        self._done += stop - start
        if self._on_rows is not None:
            self._on_rows(self._done, self._sites * self.rows)
        return found

    def tokens(self, start: int = 0, stop: int | None = None) -> TokenColumns:
        """Return the token columns of rows ``[start, stop)``."""
        return self._client.tokens(self._id, start, stop, revision=self.revision)

    def documents(self) -> dict[int, Document]:
        """Return the documents by id."""
        return self._client.documents(self._id, revision=self.revision)


def export(
    client: Rows,
    recording: str,
    target: Path,
    *,
    form: Form,
    sites: Sequence[str] | None,
    revision: Revision | None,
    on_rows: OnRows | None,
) -> None:
    """Write rows as files; arguments and errors as for :meth:`Client.export`."""
    info = client.run(requests.recording(recording))
    count = len(info.spec.sites if sites is None else sites)
    source = ClientSource(client, info, revision, count, on_rows)
    vocabulary = client.run(requests.vocabulary(recording))
    export_rows(source, target, form=form, sites=sites, vocabulary=vocabulary)


def import_rows(
    client: Rows,
    open_appender: Callable[[str], Appender],
    spec: RecordingSpec,
    vocabulary: Sequence[str],
    sources: Mapping[str, ImportSource],
    *,
    columns: ImportColumns,
    producer: str,
    on_rows: OnRows | None,
) -> RecordingInfo:
    """Record rows of arrays or files; arguments and errors as for :meth:`Client.import_rows`."""
    if not producer or "/" in producer:
        raise InvalidInput(f"producer {producer!r} must be a name without '/', such as 'import'")
    rows = ImportedRows(spec, sources, columns)
    # The name says what is imported, so that nothing else can go on where this ended.
    note = json.dumps(rows.note(producer), sort_keys=True).encode()
    name = f"{producer}/{hashlib.sha256(note).hexdigest()[:16]}"
    client.run(requests.create_recording(spec, vocabulary))
    _check_producers(client, spec.recording, producer, name)
    with open_appender(name) as appender:
        for sequence in range(appender.next_sequence, rows.batches + 1):
            appender.write(rows.batch(name, sequence))
            if on_rows is not None:
                on_rows(min(rows.rows, sequence * rows.batch_rows), rows.rows)
    return client.run(requests.recording(spec.recording))


def _check_producers(client: Rows, recording: str, producer: str, name: str) -> None:
    """Refuse a producer that began with other rows."""
    known = {
        other for lane in client.run(upkeep_requests.lanes(recording)) for other in lane.cursors
    }
    others = {other for other in known if other.partition("/")[0] == producer} - {name}
    if others:
        raise Conflict(
            f"producer {producer!r} of recording {recording!r} began with other rows: give the "
            "same sources to go on, or another producer name"
        )
