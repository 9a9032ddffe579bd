"""Direct lanes: a process on the same storage writes a lane of its own, past the store's owner.

The owner gives a ticket (:class:`DirectLaneTicket`); the writer creates the lane the ticket names,
beneath the store's root, and appends with the ordinary :class:`LaneWriter`. The lane's log says all
that the owner has to know: it locks the log of a writer that died and seals the lane, and a fence
beside the ticket ends the lane of one that hangs.

An append is acknowledged only if no fence stands there after its frame is durable. Who ends a lane
makes the fence first and reads the log after: it therefore sees every frame that was acknowledged.
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
    """Writes a direct lane. Obtained from :func:`open_direct_lane`; one life, one process."""

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
                self._rooted.disconnect()
