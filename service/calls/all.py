"""All handlers of one process, over one engine."""

from isogloss.service.calls.dictionaries import DictionaryHandlers
from isogloss.service.calls.direct import DirectHandlers
from isogloss.service.calls.jobs import JobHandlers
from isogloss.service.calls.recordings import RecordingHandlers
from isogloss.service.calls.table import Streaming, Unary
from isogloss.service.calls.universality import UniversalityHandlers
from isogloss.service.calls.upkeep import UpkeepHandlers
from isogloss.service.control.owner import Owner
from isogloss.service.ingest.ingest import Ingest


class EngineHandlers:
    """Every call by path; what LocalTransport and the server both call."""

    def __init__(self, engine: Owner) -> None:
        self.engine = engine
        recordings, upkeep = RecordingHandlers(engine), UpkeepHandlers(engine)
        jobs, direct = JobHandlers(engine.jobs), DirectHandlers(engine.direct)
        dictionaries, universality = DictionaryHandlers(engine), UniversalityHandlers(engine)
        self.unary: dict[str, Unary] = {
            handler.method.path: handler
            for room in (recordings, upkeep, direct, dictionaries, universality, jobs)
            for handler in room.unary()
        }
        self.streaming: dict[str, Streaming] = {
            handler.method.path: handler
            for room in (recordings, upkeep, jobs)
            for handler in room.streaming()
        }

    @property
    def ingest(self) -> Ingest:
        """What Append feeds."""
        return self.engine.ingest

    def close(self) -> None:
        """Let go of the store."""
        self.engine.close()
