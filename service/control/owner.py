"""The threads and objects of the process that owns a store: ingest, jobs, upkeep, calls."""

import logging
import threading
from types import TracebackType

from isogloss.errors import IsoglossError
from isogloss.service.control.direct import DirectAccess
from isogloss.service.control.recordings import Recordings
from isogloss.service.control.upkeep import Upkeep
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.ingest.limits import IngestLimits
from isogloss.service.jobs.limits import JobLimits
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.query.queries import Queries
from isogloss.store import Store, keep_reserve

_log = logging.getLogger(__name__)

_SWEPT_S = 600.0
"""Files of workers that changed in the last so many seconds are left to a later start."""


class Owner:
    """A store that this process owns, with everything that runs for its clients. Thread-safe.

    Each part is given only the parts that it needs. Over a store that is only attached it answers
    the calls that read (:class:`isogloss.service.calls.all.ReadingHandlers`). A process that
    answers questions about features makes :class:`isogloss.service.query.queries.Queries` alone.
    """

    def __init__(
        self,
        store: Store,
        *,
        run_workers: bool = True,
        limits: IngestLimits | None = None,
        job_limits: JobLimits | None = None,
        sweeps: bool = False,
    ) -> None:
        """Start the thread that writes batches and the one that runs jobs.

        Args:
            store: an open store, or an attached one to read; closed with this object.
            run_workers: whether queued jobs are run by worker processes of this process.
            limits: limits of ingest, such as the memory it may hold.
            job_limits: limits of jobs, such as how many run at a time.
            sweeps: whether what killed owners left half-written is removed now, in a thread.
        """
        self.store = store
        """The store."""
        if store.is_owner and not store.is_remote:
            keep_reserve(store.root)
        self.ingest = Ingest(store, limits)
        """Takes batches."""
        self.jobs = Jobs(store, run_workers=run_workers, limits=job_limits)
        """Queues jobs and runs them."""
        self.upkeep = Upkeep(store, self.ingest, self.jobs)
        """Verifies, compacts, compresses, quantises and removes."""
        self.recordings = Recordings(store, self.ingest, self.jobs, self.upkeep)
        """Creates and deletes recordings."""
        self.direct = DirectAccess(store, self.ingest)
        """Gives lanes to processes that write past this one."""
        self.queries = Queries(store)
        """Answers questions about features."""

        self._sweeping = threading.Thread(target=self._sweep, name="isogloss-sweep", daemon=True)
        if sweeps and store.fencing == "lock":  # elsewhere others may be writing, on purpose
            self._sweeping.start()

    def _sweep(self) -> None:
        """Remove what killed owners of the store left half-written."""
        try:
            removed = self.store.collect_garbage(_SWEPT_S)
        except (IsoglossError, OSError) as error:
            _log.warning("what killed owners of the store left was not removed: %s", error)
        else:
            if removed:
                _log.info("removed %d files and directories that killed owners left", removed)

    def __enter__(self) -> "Owner":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self, within_s: float | None = None) -> None:
        """Commit what waits, end the workers (their jobs resume with the next owner), let go.

        Args:
            within_s: for how many seconds batches are committed; None: until all are.
        """
        if self._sweeping.ident is not None:
            self._sweeping.join()
        self.upkeep.close()
        self.direct.close()
        self.ingest.close(within_s)
        self.jobs.close()
        self.store.close()
