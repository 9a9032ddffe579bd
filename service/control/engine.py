"""The one object behind every call: a store that this process owns, its ingest and its jobs."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from types import TracebackType

from isogloss.errors import Conflict, InvalidInput
from isogloss.service.control.deleting import check_unused
from isogloss.service.control.direct import DirectAccess
from isogloss.service.control.upkeep import Care
from isogloss.service.ingest.ingest import Ingest, IngestLimits
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.query.queries import Queries
from isogloss.service.values.results import RecordingInfo
from isogloss.store import Recording, RecordingSpec, Store

_REMEMBERED_REQUESTS = 1024


class Engine:
    """Runs a store for its clients. Thread-safe; made by the store's owner process."""

    def __init__(
        self,
        store: Store,
        *,
        run_workers: bool = True,
        limits: IngestLimits | None = None,
    ) -> None:
        """Start the ingest's writer thread and the job supervisor.

        Args:
            store: an open store; closed with the engine.
            run_workers: whether queued jobs are run by worker processes of this process.
            limits: what ingest holds and takes.
        """
        self.store = store
        self.ingest = Ingest(store, limits)
        self.direct = DirectAccess(store, self.ingest)
        self.jobs = Jobs(store, run_workers=run_workers)
        self.care = Care(store, self.ingest, self.jobs)
        self.queries = Queries(store)
        self._lock = threading.Lock()
        self._answered: OrderedDict[str, tuple[str, RecordingInfo]] = OrderedDict()

    def __enter__(self) -> "Engine":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Commit what waits, end the workers (their jobs resume with the next owner), let go."""
        self.care.close()
        self.direct.close()
        self.ingest.close()
        self.jobs.close()
        self.store.close()

    def recording_info(self, recording: Recording) -> RecordingInfo:
        """Return a recording as it stands."""
        entry = self.store.catalog.get("recording", recording.id)
        return RecordingInfo(
            uid=recording.uid,
            etag=recording.etag,
            spec=recording.spec,
            revision=recording.revision(),
            created=entry.created_s,
        )

    def create_recording(
        self, spec: RecordingSpec, vocabulary: Sequence[str], request_id: str
    ) -> RecordingInfo:
        """Create a recording, or return the equal one that exists.

        Args:
            spec: its description.
            vocabulary: token strings by id.
            request_id: a call with the same id gives the first answer again.

        Raises:
            AlreadyExists: a different recording has that id.
            InvalidInput: the request id was used for something else.
        """
        content = hashlib.sha256(repr((spec, list(vocabulary))).encode()).hexdigest()
        return self._once(
            request_id,
            content,
            lambda: self.recording_info(self.store.create_recording(spec, vocabulary)),
        )

    def check_site(self, recording: str, site: str) -> None:
        """Refuse a site that a recording does not have.

        Raises:
            NotFound: no such recording.
            UnknownSite: no such site; the message lists the nearest names.
        """
        self.store.recording(recording).spec.site_index(site)  # refuses one that is not there

    def delete_recording(self, recording: str, etag: str) -> None:
        """Delete a recording whose etag is still ``etag``; its open streams end."""
        found = self.store.recording(recording)
        if found.etag != etag:
            raise Conflict(
                f"recording {recording!r} has etag {found.etag}, not {etag}: it changed; read it "
                "again"
            )
        check_unused(self.jobs, "recording", recording)
        with self.care.alone(found, "deleted"):
            self.ingest.forget(found.uid)
            self.store.delete_recording(recording, etag)

    def _once(
        self, request_id: str, content: str, make: Callable[[], RecordingInfo]
    ) -> RecordingInfo:
        if not request_id:
            return make()
        with self._lock:
            known = self._answered.get(request_id)
        if known is not None:
            if known[0] != content:
                raise InvalidInput(
                    f"request_id {request_id!r} was used for a different request: use a new one"
                )
            return known[1]
        made = make()
        with self._lock:
            self._answered[request_id] = (content, made)
            while len(self._answered) > _REMEMBERED_REQUESTS:
                self._answered.popitem(last=False)
        return made
