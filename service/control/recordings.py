"""Creating, describing and deleting recordings for the clients of a store."""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence

from isogloss.errors import Conflict, InvalidInput
from isogloss.service.control.deleting import check_unused
from isogloss.service.control.upkeep import Upkeep
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.values.results import RecordingInfo
from isogloss.store import Recording, RecordingSpec, Store, keep_reserve

_REMEMBERED_REQUESTS = 1024


class Recordings:
    """The recordings of a store that this process owns. Thread-safe."""

    def __init__(self, store: Store, ingest: Ingest, jobs: Jobs, upkeep: Upkeep) -> None:
        """Make the calls about recordings of a store.

        Args:
            store: the store.
            ingest: takes batches; its streams into a recording end when that is deleted.
            jobs: the store's jobs; a recording that an unfinished one reads is not deleted.
            upkeep: the store's upkeep; a recording that it works on is not deleted.
        """
        self._store = store
        self._ingest = ingest
        self._jobs = jobs
        self._upkeep = upkeep
        self._lock = threading.Lock()
        self._answered: OrderedDict[str, tuple[str, RecordingInfo]] = OrderedDict()

    def info(self, recording: Recording) -> RecordingInfo:
        """Return a recording as it stands."""
        entry = self._store.catalog.get("recording", recording.id)
        return RecordingInfo(
            uid=recording.uid,
            etag=recording.etag,
            spec=recording.spec,
            revision=recording.known_revision(),
            created=entry.created_s,
            has_steps=recording.has_steps(),
        )

    def create(
        self, spec: RecordingSpec, vocabulary: Sequence[str], request_id: str
    ) -> RecordingInfo:
        """Create a recording. Where an equal one exists already, return that one.

        Args:
            spec: id, model, tokenizer, corpus and sites of the recording.
            vocabulary: token strings; token id i is the i-th.
            request_id: a call with the same id gives the first answer again.

        Returns:
            The recording.

        Raises:
            AlreadyExists: a different recording has that id.
            InvalidInput: the request id was used for something else.
        """
        said = json.dumps([spec.to_dict(), list(vocabulary)], sort_keys=True)
        content = hashlib.sha256(said.encode()).hexdigest()
        return self._once(
            request_id,
            content,
            lambda: self.info(self._store.create_recording(spec, vocabulary)),
        )

    def site_name(self, recording: str, site: str) -> str:
        """Return the name under which a recording has a site.

        Args:
            recording: id of the recording.
            site: the site as the caller names it; see ``RecordingSpec.site_index``.

        Raises:
            NotFound: there is no such recording.
            UnknownSite: the recording has no such site; the message lists the nearest names.
        """
        return self._store.recording(recording).spec.site_name(site)

    def check_steps(self, recording: str, steps: Sequence[int]) -> None:
        """Raise InvalidInput where it is not said which training steps of a recording are read.

        Args:
            recording: id of the recording.
            steps: the steps to read; none: the one that the recording has.

        Raises:
            NotFound: there is no such recording.
            InvalidInput: the recording has rows of several steps and ``steps`` names none, or one
                without rows.
        """
        found = self._store.recording(recording)
        if steps or found.has_steps():
            found.reader().chosen_steps(steps or None)

    def delete(self, recording: str, etag: str) -> None:
        """Delete a recording; its open streams end.

        Args:
            recording: id of the recording.
            etag: etag of the recording as the caller read it.

        Raises:
            NotFound: there is no such recording.
            Conflict: the recording changed since, an unfinished job reads it, or upkeep works on
                it.
        """
        found = self._store.recording(recording)
        if found.etag != etag:
            raise Conflict(
                f"recording {recording!r} has etag {found.etag}, not {etag}: it changed; read it "
                "again"
            )
        check_unused(self._jobs, "recording", recording)
        with self._upkeep.alone(found, "deleted"), self._ingest.deleting(found.uid):
            self._store.delete_recording(recording, etag)
        if not self._store.is_remote:  # there may be room for it again
            keep_reserve(self._store.root)

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
