"""The same verbs over the network: server, jobs, client, command line, pages."""

import os
from importlib import import_module
from typing import TYPE_CHECKING

# grpc's C core reports every closed connection on standard error unless told before its import
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")

if TYPE_CHECKING:
    from isogloss.service.aio_client import AsyncClient, connect_async
    from isogloss.service.appender import Appender, BatchStream
    from isogloss.service.care_results import (
        CareProgress,
        Compression,
        Garbage,
        LaneInfo,
        Quantisation,
    )
    from isogloss.service.client import Client, connect
    from isogloss.service.direct_appender import DirectAppender
    from isogloss.service.ingest import IngestLimits
    from isogloss.service.job import AsyncJob, Job
    from isogloss.service.record_documents import DocumentOptions
    from isogloss.service.recorder import Recorder, RecorderCounts, RecorderOptions
    from isogloss.service.report import render_report, write_report
    from isogloss.service.results import (
        DictionaryInfo,
        FeatureContext,
        FeatureInfo,
        FeatureRef,
        Hit,
        JobInfo,
        MatchInfo,
        PairInfo,
        ProbeInfo,
        RecordingInfo,
    )
    from isogloss.service.server import ServerConfig, serve
    from isogloss.service.streaming_client import AsyncAppender, AsyncRecorder

_HOMES = {
    "Appender": "appender",
    "AsyncAppender": "streaming_client",
    "AsyncClient": "aio_client",
    "AsyncJob": "job",
    "AsyncRecorder": "streaming_client",
    "BatchStream": "appender",
    "CareProgress": "care_results",
    "Client": "client",
    "Compression": "care_results",
    "DictionaryInfo": "results",
    "DirectAppender": "direct_appender",
    "DocumentOptions": "record_documents",
    "FeatureContext": "results",
    "FeatureInfo": "results",
    "FeatureRef": "results",
    "Garbage": "care_results",
    "Hit": "results",
    "IngestLimits": "ingest",
    "Job": "job",
    "JobInfo": "results",
    "LaneInfo": "care_results",
    "MatchInfo": "results",
    "PairInfo": "results",
    "ProbeInfo": "results",
    "Quantisation": "care_results",
    "Recorder": "recorder",
    "RecorderCounts": "recorder",
    "RecorderOptions": "recorder",
    "RecordingInfo": "results",
    "ServerConfig": "server",
    "connect": "client",
    "connect_async": "aio_client",
    "render_report": "report",
    "serve": "server",
    "write_report": "report",
}

__all__ = [
    "Appender",
    "AsyncAppender",
    "AsyncClient",
    "AsyncJob",
    "AsyncRecorder",
    "BatchStream",
    "CareProgress",
    "Client",
    "Compression",
    "DictionaryInfo",
    "DirectAppender",
    "DocumentOptions",
    "FeatureContext",
    "FeatureInfo",
    "FeatureRef",
    "Garbage",
    "Hit",
    "IngestLimits",
    "Job",
    "JobInfo",
    "LaneInfo",
    "MatchInfo",
    "PairInfo",
    "ProbeInfo",
    "Quantisation",
    "Recorder",
    "RecorderCounts",
    "RecorderOptions",
    "RecordingInfo",
    "ServerConfig",
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
    return getattr(import_module(f"isogloss.service.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
