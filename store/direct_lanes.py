"""Direct lanes: a process on the same storage writes a lane of its own, past the store's owner.

The owner gives a ticket (:class:`DirectLaneTicket`); the writer creates the lane the ticket names,
beneath the store's root, and appends with the ordinary :class:`LaneWriter`. The lane's log says all
that the owner has to know: it locks the log of a writer that died and seals the lane, and a fence
beside the ticket ends the lane of one that hangs.

An append is acknowledged only if no fence stands there after its frame is durable. Who ends a lane
makes the fence first and reads the log after: it therefore sees every frame that was acknowledged.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from isogloss.errors import Conflict, Fenced, NotPermitted, StorageError
from isogloss.store.batches import RowBatch
from isogloss.store.beneath import BeneathFiles
from isogloss.store.direct_tickets import (
    TICKETS_NAME,
    DirectLaneHeader,
    DirectLaneTicket,
    begun_path,
    fence_path,
)
from isogloss.store.documents import DocumentTable
from isogloss.store.filesystem import read_file, storage_errors, write_new
from isogloss.store.lanes import Commit, LaneWriter
from isogloss.store.seals import SEAL_NAME


class _WriterFiles(BeneathFiles):
    """A seal is never written over: who seals first, the writer or the owner, is believed."""

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another; a seal only to where there is none."""
        if target.name == SEAL_NAME:
            self.move_new(source, target)
        else:
            super().replace(source, target)


class DirectLaneWriter(LaneWriter):
    """Writes a direct lane. Obtained from :func:`open_direct_lane`; one life, one process."""

    def __init__(
        self, files: BeneathFiles, ticket: DirectLaneTicket, documents: DocumentTable
    ) -> None:
        self.ticket = ticket
        """What the owner allowed."""
        self._beneath = files
        self._tickets = files.root / f"recordings/{ticket.recording}/{TICKETS_NAME}"
        super().__init__(
            files=files,
            directory=ticket.path(files.root),
            spec=ticket.spec,
            header=DirectLaneHeader(
                recording=ticket.recording,
                lane=ticket.lane,
                epoch=ticket.epoch,
                layouts=ticket.layouts,
                created_s=files.time_s(),
            ),
            cursors=ticket.cursors,
            documents=documents,
            limits=ticket.limits,
            rows_before=ticket.rows_before,
        )

    def __enter__(self) -> "DirectLaneWriter":
        return self

    @property
    def is_fenced(self) -> bool:
        """Whether the owner ended this lane."""
        return self._beneath.exists(fence_path(self._tickets, self.name))

    def append(self, batches: Sequence[RowBatch]) -> Commit:
        """Commit batches in one group, as :meth:`LaneWriter.append` does.

        Raises:
            Conflict: a producer is not one of the ticket's; nothing was accepted.
            Fenced: the owner ended this lane; what was acknowledged before is safe, and whether
                these batches are kept, the next ticket's cursors say.
        """
        with self._lock:
            foreign = {batch.producer for batch in batches} - self.ticket.cursors.keys()
            if foreign:
                raise Conflict(
                    f"lane {self.name!r} was opened for {sorted(self.ticket.cursors)}, not for "
                    f"{sorted(foreign)}: open a direct lane for them"
                )
            commit = super().append(batches)
            self._check_fence()
            return commit

    def _check_fence(self) -> None:
        if self.is_fenced:
            self._ended = "the owner of the store ended it"
            self._release()
            raise Fenced(
                f"the owner of the store ended lane {self.name!r}: its rows up to there are safe; "
                "open a new direct lane and go on where its cursors are"
            )

    def publish(self) -> None:
        """Bring the arrays' ``shape`` up to date, unless the owner ended the lane already."""
        if not self.is_fenced:
            super().publish()

    def close(self) -> None:
        """End the lane in good order: arrays published, seal written. Later calls do nothing.

        Raises:
            Fenced: the owner ended the lane before.
            LaneEnded: the seal could not be written; the rows are safe, and the owner seals it.
        """
        with self._lock:
            try:
                if self.is_open:
                    self._check_fence()
                super().close()
            finally:
                self._beneath.disconnect()


def open_direct_lane(root: Path | str, ticket: DirectLaneTicket | bytes) -> DirectLaneWriter:
    """Create the lane that a ticket names and return its writer; seals on leaving a ``with``.

    Nothing is written outside ``root``, no symbolic link below it is followed, and everything on
    the way must belong to the user this process runs as.

    Args:
        root: the store, as this machine sees it.
        ticket: from :meth:`Recording.offer_direct_lane`, or its bytes.

    Raises:
        InvalidInput: the ticket points outside, or makes no sense.
        NotPermitted: the store does not hold this ticket; or something on the way is a link, or
            another user's.
        Conflict: the ticket was used.
        Fenced: the owner gave the producers to another writer meanwhile.
        StorageError: the lane could not be created.
    """
    given = ticket if isinstance(ticket, DirectLaneTicket) else DirectLaneTicket.from_bytes(ticket)
    files = _WriterFiles(Path(root))
    try:
        with storage_errors(f"direct lane {given.lane!r} cannot be created"):
            _take(files, given)
            documents = _known_documents(files, given)
            try:
                return DirectLaneWriter(files, given, documents)
            except FileExistsError as error:
                raise Conflict(
                    f"lane {given.lane!r} is there already: ask the owner for a new ticket"
                ) from error
    except BaseException:
        files.disconnect()
        raise


def _take(files: BeneathFiles, ticket: DirectLaneTicket) -> None:
    """Check that the store holds the ticket, and use it up."""
    path = files.root / ticket.file
    try:
        found = read_file(files, path)
    except FileNotFoundError as error:
        raise NotPermitted(
            f"{files.root} holds no ticket {ticket.file}: it is another store, or this machine "
            "does not see the same storage; write through the server"
        ) from error
    if found != ticket.to_bytes():
        raise NotPermitted(
            f"the ticket differs from {ticket.file} in {files.root}: ask the owner for a new one"
        )
    if files.exists(fence_path(path.parent, ticket.lane)):
        raise Fenced(
            f"the ticket of lane {ticket.lane!r} was withdrawn: a newer writer of "
            f"{sorted(ticket.cursors)} came; give each writer its own producer name"
        )
    try:
        write_new(files, begun_path(path.parent, ticket.lane), [])
    except FileExistsError as error:
        raise Conflict(
            f"the ticket of lane {ticket.lane!r} was used: a lane is one writer's one life; ask "
            "the owner for a new one"
        ) from error
    files.sync_directory(path.parent)


def _known_documents(files: BeneathFiles, ticket: DirectLaneTicket) -> DocumentTable:
    # the recording imports this module's register
    from isogloss.store.recordings import Recording

    directory = files.root / "recordings" / ticket.recording
    recording = Recording(files=files, directory=directory, etag="", is_owner=False)
    if recording.spec != ticket.spec:
        raise StorageError(
            f"recording {ticket.recording} in {files.root} is not the one that the ticket "
            "describes: ask the owner for a new one"
        )
    return recording.known_documents()


class OwnerLaneWriter(LaneWriter):
    """A lane of the store's owner, which refuses producers that went to a direct lane."""

    _lent: frozenset[str] = frozenset()

    def lend(self, producers: Iterable[str]) -> None:
        """Refuse these producers from now on: another lane has them, and their cursors."""
        with self._lock:
            self._lent |= frozenset(producers)

    def has_lent(self, producer: str) -> bool:
        """Whether a producer went to a direct lane after this lane was opened, or just before."""
        return producer in self._lent

    def append(self, batches: Sequence[RowBatch]) -> Commit:
        """Commit batches in one group, as :meth:`LaneWriter.append` does.

        Raises:
            Conflict: a producer went to a direct lane; nothing was accepted.
        """
        with self._lock:
            gone = sorted({batch.producer for batch in batches} & self._lent)
            if gone:
                raise Conflict(
                    f"producers {gone} have a direct lane: end that one, or claim them back, then "
                    f"close lane {self.name!r} and open a new one to append here"
                )
            return super().append(batches)
