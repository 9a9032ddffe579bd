"""The product over the network: server, jobs, client, command line, pages."""

import os
from typing import TYPE_CHECKING

# grpc's C core reports every closed connection on standard error unless told before its import
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

from isogloss.errors import load_name

if TYPE_CHECKING:
    from isogloss.service.client.client import AsyncClient, Client
    from isogloss.service.client.connect import connect, connect_async
    from isogloss.service.client.held.dictionary import HeldDictionary
    from isogloss.service.client.job import AsyncJob, Job
    from isogloss.service.client.writing import AsyncAppender, AsyncRecorder
    from isogloss.service.ingest.limits import IngestLimits
    from isogloss.service.pages.report import render_report, write_report
    from isogloss.service.processes.config import ServerConfig
    from isogloss.service.processes.control import serve
    from isogloss.service.recording.appender import Appender, BatchStream
    from isogloss.service.recording.direct_appender import DirectAppender
    from isogloss.service.recording.documents import DocumentOptions
    from isogloss.service.recording.live.recorder import Recorder
    from isogloss.service.recording.options import RecorderCounts, RecorderOptions, SampleRate
    from isogloss.service.values.results import (
        DictionaryInfo,
        FeatureContext,
        FeatureInfo,
        FeatureRef,
        Hit,
        JobInfo,
        KindInfo,
        MatchInfo,
        PairInfo,
        ProbeInfo,
        RecordingInfo,
        SiteRef,
        SourceInfo,
    )
    from isogloss.service.values.server import ServerInfo
    from isogloss.service.values.upkeep import (
        Compression,
        Garbage,
        LaneInfo,
        Quantisation,
        UpkeepProgress,
    )

_HOMES = {
    "Appender": "recording.appender",
    "AsyncAppender": "client.writing",
    "AsyncClient": "client.client",
    "AsyncJob": "client.job",
    "AsyncRecorder": "client.writing",
    "BatchStream": "recording.appender",
    "Client": "client.client",
    "Compression": "values.upkeep",
    "DictionaryInfo": "values.results",
    "DirectAppender": "recording.direct_appender",
    "DocumentOptions": "recording.documents",
    "FeatureContext": "values.results",
    "FeatureInfo": "values.results",
    "FeatureRef": "values.results",
    "Garbage": "values.upkeep",
    "HeldDictionary": "client.held.dictionary",
    "Hit": "values.results",
    "IngestLimits": "ingest.limits",
    "Job": "client.job",
    "JobInfo": "values.results",
    "KindInfo": "values.results",
    "LaneInfo": "values.upkeep",
    "MatchInfo": "values.results",
    "PairInfo": "values.results",
    "ProbeInfo": "values.results",
    "Quantisation": "values.upkeep",
    "Recorder": "recording.live.recorder",
    "RecorderCounts": "recording.options",
    "RecorderOptions": "recording.options",
    "RecordingInfo": "values.results",
    "SampleRate": "recording.options",
    "ServerConfig": "processes.config",
    "ServerInfo": "values.server",
    "SiteRef": "values.results",
    "SourceInfo": "values.results",
    "UpkeepProgress": "values.upkeep",
    "connect": "client.connect",
    "connect_async": "client.connect",
    "render_report": "pages.report",
    "serve": "processes.control",
    "write_report": "pages.report",
}

__all__ = [
    "Appender",
    "AsyncAppender",
    "AsyncClient",
    "AsyncJob",
    "AsyncRecorder",
    "BatchStream",
    "Client",
    "Compression",
    "DictionaryInfo",
    "DirectAppender",
    "DocumentOptions",
    "FeatureContext",
    "FeatureInfo",
    "FeatureRef",
    "Garbage",
    "HeldDictionary",
    "Hit",
    "IngestLimits",
    "Job",
    "JobInfo",
    "KindInfo",
    "LaneInfo",
    "MatchInfo",
    "PairInfo",
    "ProbeInfo",
    "Quantisation",
    "Recorder",
    "RecorderCounts",
    "RecorderOptions",
    "RecordingInfo",
    "SampleRate",
    "ServerConfig",
    "ServerInfo",
    "SiteRef",
    "SourceInfo",
    "UpkeepProgress",
    "connect",
    "connect_async",
    "render_report",
    "serve",
    "write_report",
]


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'isogloss.service' has no attribute {name!r}")
    return load_name(f"isogloss.service.{home}", name)


def __dir__() -> list[str]:
    return sorted(__all__)
