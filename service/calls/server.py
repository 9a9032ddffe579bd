"""ServerService: what this process is."""

import platform
import time
from collections.abc import Callable

from isogloss.proto.v1 import server_pb2 as pb
from isogloss.service.control.engine import Engine
from isogloss.service.values.addresses import Listening
from isogloss.service.values.jobs import TARGETS
from isogloss.service.values.server import ServerInfo, ServerLimits
from isogloss.service.wire.framing import MESSAGE_BYTES
from isogloss.service.wire.messages import to_message
from isogloss.service.wire.pages import MAX_PAGE
from isogloss.version import __version__


class ServerHandlers:
    """Answers what a caller asks about the server itself."""

    def __init__(self, engine: Engine, listening: Callable[[], Listening]) -> None:
        """Take what is asked about.

        Args:
            engine: of the store.
            listening: says how this process is reached, once its addresses are bound.
        """
        self._engine = engine
        self._listening = listening
        self._start_time = time.time()

    def get_server_info(self, request: pb.GetServerInfoRequest) -> pb.ServerInfo:
        """Return version, limits and what is on."""
        found, ingest = self._listening(), self._engine.ingest.limits
        info = ServerInfo(
            version=__version__,
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.release()} {platform.machine()}",
            start_time=self._start_time,
            addresses=found.addresses,
            tls=found.tls,
            token_wanted=any(not address.startswith("unix:") for address in found.addresses),
            runs_workers=self._engine.jobs.runs_workers,
            job_kinds=tuple(TARGETS),
            limits=ServerLimits(
                message_bytes=MESSAGE_BYTES,
                batch_bytes=ingest.batch_bytes,
                held_bytes=ingest.held_bytes,
                page_size=MAX_PAGE,
                calls=found.calls,
                streams=found.streams,
            ),
        )
        return to_message(info, pb.ServerInfo)
