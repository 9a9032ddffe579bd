"""ServerService: version, limits and settings of this process."""

import platform
import time
from collections.abc import Callable

from isogloss.proto.v1 import server_pb2 as pb
from isogloss.service.control.owner import Owner
from isogloss.service.values import job_kinds
from isogloss.service.values.addresses import Listening
from isogloss.service.values.server import ServerInfo, ServerLimits, ServerProcess
from isogloss.service.wire.framing import MESSAGE_BYTES
from isogloss.service.wire.messages import to_message
from isogloss.service.wire.pages import MAX_PAGE
from isogloss.version import __version__


class ServerHandlers:
    """Answers what a caller asks about the server itself."""

    def __init__(
        self,
        owner: Owner,
        listening: Callable[[], Listening],
        processes: Callable[[], tuple[ServerProcess, ...]] = tuple,
    ) -> None:
        """Make handlers that describe this process.

        Args:
            owner: the store's owner.
            listening: returns the addresses at which this process is reached, once they are bound.
            processes: returns the processes of this server.
        """
        self._owner = owner
        self._listening = listening
        self._processes = processes
        self._start_time = time.time()

    def get_server_info(self, request: pb.GetServerInfoRequest) -> pb.ServerInfo:
        """Return version, limits and what is on."""
        found, ingest = self._listening(), self._owner.ingest.limits
        jobs = self._owner.jobs.limits
        info = ServerInfo(
            version=__version__,
            python=platform.python_version(),
            platform=f"{platform.system()} {platform.release()} {platform.machine()}",
            start_time=self._start_time,
            addresses=found.addresses,
            tls=found.tls,
            token_wanted=any(not address.startswith("unix:") for address in found.addresses),
            runs_workers=self._owner.jobs.runs_workers,
            job_kinds=tuple(job_kinds.JOB_KINDS),
            processes=self._processes(),
            limits=ServerLimits(
                message_bytes=MESSAGE_BYTES,
                batch_bytes=ingest.batch_bytes,
                held_bytes=ingest.held_bytes,
                page_size=MAX_PAGE,
                calls=found.calls,
                streams=found.streams,
                jobs_at_a_time=jobs.at_a_time,
                job_memory_bytes=jobs.budget_bytes,
                job_time_s=jobs.time_s,
                jobs_waiting=jobs.waiting,
                job_keep_s=jobs.keep_s,
                jobs_kept=jobs.keep,
            ),
        )
        return to_message(info, pb.ServerInfo)
