"""Choose how a stream's batches travel: to the storage directly, or through the store's owner."""

import logging
from pathlib import Path
from typing import Literal, TypeAlias

from isogloss.errors import InvalidInput, MissingExtra, NotPermitted, StorageError
from isogloss.service.recording.appender import Appender, BatchStream
from isogloss.service.recording.direct_appender import DirectAppender
from isogloss.service.transport.patience import RECONNECT_S
from isogloss.service.transport.protocols import Transport
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
        transport: the connection to the store's owner.
        recording: the recording's specification; each batch is checked against it.
        producer: name of this stream of batches. A restart gives the same name to go on.
        direct: True: write a direct lane, or raise an error. ``auto``: write a direct lane if this
            process sees the storage, else send batches to the owner; :attr:`BatchStream.route` says
            which, and why. False: send batches to the owner.
        root: path of the store's root on this machine; None: the path that the owner has it under.
        timeout_s: how many seconds the owner may take to answer.
        reconnect_s: for how many seconds to try again after the owner stopped answering.

    Returns:
        The open stream.

    Raises:
        InvalidInput: ``direct`` is not True, False or ``auto``.
        NotPermitted: ``direct`` is True, and this process does not see the storage.
        StorageError: ``direct`` is True, and no lane can be written there.
        MissingExtra: ``direct`` is True, and only a client is installed.
        Conflict: another process writes a direct lane for this producer already.
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
        except (NotPermitted, InvalidInput, StorageError, MissingExtra) as error:
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
