"""Give direct lanes to processes that prove that they see the store's storage."""

import contextlib
import hmac
import threading
from collections.abc import Sequence
from pathlib import Path

from isogloss.errors import IsoglossError, NotPermitted
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.values.direct_proof import (
    PROOF_NAME,
    SECRET_CHARACTERS,
    make_proof,
    new_secret,
)
from isogloss.store import (
    DirectLaneTicket,
    LaneState,
    Store,
    read_private_file,
    write_file_durably,
)

_NOTHING = b""


class DirectAccess:
    """Gives lanes of a store to processes that see its files. Thread-safe."""

    def __init__(self, store: Store, ingest: Ingest) -> None:
        """Remember the store; the proof file is written at first need."""
        self._store = store
        self._ingest = ingest
        self._lock = threading.Lock()
        self._secret: bytes | None = None

    def storage(self) -> str:
        """Return the store's root, where the proof file is now; empty where there are no lanes.

        The file is new in each life of the owner and only its user can read it. Where it was
        removed meanwhile it is written again, and where it is another or others may read it, with
        a new secret: else no process could open a direct lane until the owner starts again.
        """
        if self._store.fencing != "lock":  # no lock would say that a writer died
            return ""
        root = Path(self._store.root)
        with self._lock:
            secret, held = self._secret, _held(root)
            if secret is None or held not in (secret, _NOTHING):
                secret = new_secret()
            if held != secret:
                write_file_durably(root / PROOF_NAME, secret, mode=0o600)
            self._secret = secret
        return str(root)

    def open(self, recording: str, producers: Sequence[str], said: str) -> DirectLaneTicket:
        """Make a ticket for a direct lane, for a caller that proves that it sees the storage.

        Args:
            recording: id of the recording.
            producers: names of the streams of batches that will write the lane.
            said: the caller's proof, made with what it read in the proof file.

        Returns:
            The ticket, with which the caller creates the lane.

        Raises:
            NotPermitted: the proof was not made with what the file holds, or for another request.
            NotFound: there is no such recording.
            Conflict: one of the producers is writing another direct lane.
        """
        secret = self._secret
        wanted = "" if secret is None else make_proof(secret, recording, producers)
        if not wanted or not hmac.compare_digest(
            said.encode(errors="surrogatepass"), wanted.encode()
        ):
            raise NotPermitted(
                f"the proof is not made with what {PROOF_NAME} in the store holds now: read it "
                "again, or write through the server"
            )
        return self._ingest.offer_direct_lane(recording, producers)

    def end(self, recording: str, lane: str) -> LaneState:
        """End a direct lane whose writer hangs; NotFound when there is no such lane."""
        return self._store.recording(recording).end_direct_lane(lane)

    def close(self) -> None:
        """Remove the proof file; no lane is given any more."""
        with self._lock:
            if self._secret is not None:
                self._secret = None
                with contextlib.suppress(OSError):
                    (Path(self._store.root) / PROOF_NAME).unlink()


def _held(root: Path) -> bytes | None:
    """Return what the proof file holds, nothing where it is not there; None: it cannot be trusted.

    It cannot where it is a link, longer than a secret, another user's, or others may read it.
    """
    try:
        return read_private_file(root, PROOF_NAME, most_bytes=SECRET_CHARACTERS) or None
    except FileNotFoundError:
        return _NOTHING
    except (IsoglossError, OSError):
        return None
