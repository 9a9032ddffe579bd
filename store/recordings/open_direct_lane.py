"""Open a direct lane: another process uses the ticket that the store's owner gave it."""

from pathlib import Path

from isogloss.errors import Conflict, Fenced, NotPermitted, StorageError
from isogloss.store.direct.ticket import (
    DirectLaneTicket,
    begun_path,
    fence_path,
)
from isogloss.store.direct.writer import DirectLaneWriter
from isogloss.store.disk.filesystem import storage_errors, write_new
from isogloss.store.disk.rooted_files import RootedFiles
from isogloss.store.lanes.lane_directory import SEAL_NAME
from isogloss.store.recordings.recording import Recording
from isogloss.store.schema.document import DocumentTable


class _WriterFiles(RootedFiles):
    """Files of the writer: a seal that is there, perhaps the owner's, is never replaced."""

    def replace(self, source: Path, target: Path) -> None:
        """Rename a file over another; a seal only to a name that is free."""
        if target.name == SEAL_NAME:
            self.move_new(source, target)
        else:
            super().replace(source, target)


def open_direct_lane(root: Path | str, ticket: DirectLaneTicket | bytes) -> DirectLaneWriter:
    """Create the lane that a ticket is for, and return its writer.

    The store's owner makes the ticket; this process, which sees the same storage, writes the lane's
    files itself. Use the writer in a ``with`` block: leaving the block, also by an exception, seals
    the lane, so that nothing can be appended to it any more.

    Nothing is written outside ``root`` and no symbolic link below it is followed. Every directory
    and file on the way must belong to the user this process runs as.

    Args:
        root: path of the store's root on this machine, which may differ from that on the owner's.
        ticket: from :meth:`Recording.offer_direct_lane`, or its bytes. Each ticket works once.

    Returns:
        The lane's writer.

    Raises:
        InvalidInput: the ticket is damaged or contradicts itself.
        NotPermitted: the store under ``root`` does not hold this ticket; or a file or directory on
            the way is a symbolic link or belongs to another user.
        Conflict: the ticket was used before.
        Fenced: the owner withdrew the ticket, since a newer writer came for the same producers.
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


def _take(files: RootedFiles, ticket: DirectLaneTicket) -> None:
    """Check that the store holds the ticket, and mark it as used."""
    path = files.root / ticket.file
    try:
        found = files.read_whole(path)
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


def _known_documents(files: RootedFiles, ticket: DirectLaneTicket) -> DocumentTable:
    directory = files.root / "recordings" / ticket.recording
    recording = Recording(files=files, directory=directory, etag="", is_owner=False)
    if recording.spec != ticket.spec:
        raise StorageError(
            f"recording {ticket.recording} in {files.root} is not the one that the ticket "
            "describes: ask the owner for a new one"
        )
    return recording.known_documents()
