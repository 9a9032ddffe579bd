"""Choosing how a stream's batches travel: directly to the storage, or through the store's owner."""

import logging
from pathlib import Path
from typing import Literal, TypeAlias

from isogloss.errors import InvalidInput, NotPermitted, StorageError
from isogloss.service.recording.appender import Appender, BatchStream
from isogloss.service.recording.direct_appender import DirectAppender
from isogloss.service.transport.patience import RECONNECT_S
from isogloss.service.transport.seam import Transport
from isogloss.store import RecordingSpec

_log = logging.getLogger(__name__)

Direct: TypeAlias = bool | Literal["auto"]
"""Whether batches go past the owner of the store; ``auto``: if this process sees the storage."""


def open_stream(
    transport: Transport,
    recording: RecordingSpec,
    producer: str,
    *,
    direct: Direct = False,
    root: Path | str | None = None,
    timeout_s: float = 30.0,
    reconnect_s: float = RECONNECT_S,
) -> BatchStream:
    """Open a producer's stream of batches.

    Args:
        transport: to the owner of the store.
        recording: what the batches are checked against.
        producer: name of the stream, stable over restarts.
        direct: True: to a lane of its own, or an error; ``auto``: there if this process sees the
            storage, else through the owner, and :attr:`BatchStream.route` says why.
        root: the store as this machine sees it; None: where its owner says.
        timeout_s: how long the owner may take to answer.
        reconnect_s: how long to go on trying when the owner is away.

    Raises:
        InvalidInput: ``direct`` is something else.
        NotPermitted: it must be direct, and this process does not see the storage.
        StorageError: it must be direct, and a lane cannot be written there.
        Conflict: the producer is writing a direct lane already.
    """
    if direct not in (True, False, "auto"):
        raise InvalidInput(f"direct is {direct!r}, wanted True, False or 'auto'")
    why = ""
    if direct:
        try:
            return DirectAppender(
                transport,
                recording,
                producer,
                root=root,
                timeout_s=timeout_s,
                reconnect_s=reconnect_s,
            )
        except (NotPermitted, InvalidInput, StorageError) as error:
            if direct is True:
                raise
            why = str(error)
            _log.warning("producer %r writes through the owner of the store: %s", producer, why)
    return Appender(
        transport,
        recording,
        producer,
        timeout_s=timeout_s,
        reconnect_s=reconnect_s,
        why_not_direct=why,
    )
