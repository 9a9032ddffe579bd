"""Direct lanes: a process on the same storage writes a lane itself, not through the store's owner.

The owner gives a ticket (:class:`DirectLaneTicket`). The writer creates the lane that the ticket
names, below the store's root, and appends with the ordinary :class:`LaneWriter`. The owner reads
the lane's log. It seals the lane of a writer that died. It ends the lane of a writer that hangs by
creating a file beside the ticket: the fence.

An append is acknowledged only if there is no fence once its frame is durable. The owner creates the
fence first and reads the log after, so it sees every frame that was acknowledged.
"""

from collections.abc import Sequence

from isogloss.errors import Conflict, Fenced
from isogloss.store.direct.ticket import (
    TICKETS_NAME,
    DirectLaneHeader,
    DirectLaneTicket,
    fence_path,
)
from isogloss.store.disk.rooted_files import RootedFiles
from isogloss.store.lanes.writer import Commit, LaneWriter
from isogloss.store.schema.batch import RowBatch
from isogloss.store.schema.document import DocumentTable


class DirectLaneWriter(LaneWriter):
    """Writes a direct lane once. Returned by :func:`open_direct_lane`."""

    def __init__(
        self, files: RootedFiles, ticket: DirectLaneTicket, documents: DocumentTable
    ) -> None:
        self.ticket = ticket
        """What the owner allowed."""
        self._rooted = files
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
        return self._rooted.exists(fence_path(self._tickets, self.name))

    def append(self, batches: Sequence[RowBatch]) -> Commit:
        """Commit batches in one group, as :meth:`LaneWriter.append` does.

        Args:
            batches: any number, of producers of the ticket.

        Returns:
            What is durable now.

        Raises:
            Conflict: a producer is not one of the ticket's; nothing was accepted.
            Fenced: the owner ended this lane; what was acknowledged before is safe. The cursors of
                the next ticket say whether these batches were kept.
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
        """Publish the arrays' shapes as any lane does, unless the owner ended the lane."""
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
                self._rooted.disconnect()
