"""Every remote call: its path and its types. Transports, handlers and verbs name calls by these."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.longrunning import operations_pb2 as operations
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from isogloss.proto.v1 import dictionaries_pb2 as dictionaries
from isogloss.proto.v1 import jobs_pb2 as jobs
from isogloss.proto.v1 import recordings_pb2 as recordings
from isogloss.proto.v1 import universality_pb2 as universality

RequestT_co = TypeVar("RequestT_co", bound=Message, covariant=True)
ResponseT_co = TypeVar("ResponseT_co", bound=Message, covariant=True)


@dataclass(frozen=True, slots=True)
class Method(Generic[RequestT_co, ResponseT_co]):
    """One remote call."""

    service: str
    """Full name of the service, such as ``isogloss.v1.JobService``."""
    name: str
    """Name of the call within the service."""
    request: type[RequestT_co]
    """What is sent."""
    response: type[ResponseT_co]
    """What comes back, once or as a stream."""
    streams: bool = False
    """Whether the answer is a stream."""

    @property
    def path(self) -> str:
        """The call's name on the wire."""
        return f"/{self.service}/{self.name}"


_R = "isogloss.v1.RecordingService"
_D = "isogloss.v1.DictionaryService"
_U = "isogloss.v1.UniversalityService"
_J = "isogloss.v1.JobService"
_O = "google.longrunning.Operations"

CREATE_RECORDING = Method(
    _R, "CreateRecording", recordings.CreateRecordingRequest, recordings.Recording
)
GET_RECORDING = Method(_R, "GetRecording", recordings.GetRecordingRequest, recordings.Recording)
LIST_RECORDINGS = Method(
    _R, "ListRecordings", recordings.ListRecordingsRequest, recordings.ListRecordingsResponse
)
DELETE_RECORDING = Method(
    _R, "DeleteRecording", recordings.DeleteRecordingRequest, recordings.DeleteRecordingResponse
)
GET_VOCABULARY = Method(
    _R, "GetVocabulary", recordings.GetVocabularyRequest, recordings.GetVocabularyResponse
)
GET_SITE_STATISTICS = Method(
    _R, "GetSiteStatistics", recordings.GetSiteStatisticsRequest, recordings.SiteStatistics
)
READ = Method(_R, "Read", recordings.ReadRequest, recordings.ReadResponse, streams=True)
READ_TOKENS = Method(
    _R, "ReadTokens", recordings.ReadTokensRequest, recordings.ReadTokensResponse, streams=True
)
READ_DOCUMENTS = Method(
    _R,
    "ReadDocuments",
    recordings.ReadDocumentsRequest,
    recordings.ReadDocumentsResponse,
    streams=True,
)
GET_STORAGE = Method(_R, "GetStorage", recordings.GetStorageRequest, recordings.Storage)
OPEN_DIRECT_LANE = Method(
    _R, "OpenDirectLane", recordings.OpenDirectLaneRequest, recordings.DirectLane
)
END_DIRECT_LANE = Method(
    _R, "EndDirectLane", recordings.EndDirectLaneRequest, recordings.EndDirectLaneResponse
)
APPEND = Method(_R, "Append", recordings.AppendRequest, recordings.AppendResponse, streams=True)
LIST_LANES = Method(_R, "ListLanes", recordings.ListLanesRequest, recordings.ListLanesResponse)
VERIFY_RECORDING = Method(
    _R,
    "VerifyRecording",
    recordings.VerifyRecordingRequest,
    recordings.VerifyRecordingResponse,
    streams=True,
)
COMPACT_RECORDING = Method(
    _R,
    "CompactRecording",
    recordings.CompactRecordingRequest,
    recordings.CompactRecordingResponse,
    streams=True,
)
COMPRESS_RECORDING = Method(
    _R,
    "CompressRecording",
    recordings.CompressRecordingRequest,
    recordings.CompressRecordingResponse,
    streams=True,
)
QUANTISE_RECORDING = Method(
    _R,
    "QuantiseRecording",
    recordings.QuantiseRecordingRequest,
    recordings.QuantiseRecordingResponse,
    streams=True,
)
COLLECT_GARBAGE = Method(
    _R,
    "CollectGarbage",
    recordings.CollectGarbageRequest,
    recordings.CollectGarbageResponse,
    streams=True,
)

TRAIN_DICTIONARY = Method(
    _D, "TrainDictionary", dictionaries.TrainDictionaryRequest, operations.Operation
)
GET_DICTIONARY = Method(
    _D, "GetDictionary", dictionaries.GetDictionaryRequest, dictionaries.Dictionary
)
LIST_DICTIONARIES = Method(
    _D,
    "ListDictionaries",
    dictionaries.ListDictionariesRequest,
    dictionaries.ListDictionariesResponse,
)
DELETE_DICTIONARY = Method(
    _D,
    "DeleteDictionary",
    dictionaries.DeleteDictionaryRequest,
    dictionaries.DeleteDictionaryResponse,
)
ENCODE = Method(_D, "Encode", dictionaries.EncodeRequest, dictionaries.EncodeResponse)

CREATE_PROBE = Method(_U, "CreateProbe", universality.CreateProbeRequest, operations.Operation)
GET_PROBE = Method(_U, "GetProbe", universality.GetProbeRequest, universality.Probe)
LIST_PROBES = Method(
    _U, "ListProbes", universality.ListProbesRequest, universality.ListProbesResponse
)
GET_FEATURE = Method(_U, "GetFeature", universality.GetFeatureRequest, universality.Feature)
NEAREST_FEATURES = Method(
    _U,
    "NearestFeatures",
    universality.NearestFeaturesRequest,
    universality.NearestFeaturesResponse,
)
CREATE_MATCH = Method(_U, "CreateMatch", universality.CreateMatchRequest, operations.Operation)
GET_MATCH = Method(_U, "GetMatch", universality.GetMatchRequest, universality.Match)
LIST_MATCHES = Method(
    _U, "ListMatches", universality.ListMatchesRequest, universality.ListMatchesResponse
)
LIST_PAIRS = Method(_U, "ListPairs", universality.ListPairsRequest, universality.ListPairsResponse)
DELETE_PROBE = Method(
    _U, "DeleteProbe", universality.DeleteProbeRequest, universality.DeleteProbeResponse
)
DELETE_MATCH = Method(
    _U, "DeleteMatch", universality.DeleteMatchRequest, universality.DeleteMatchResponse
)

WATCH_JOB = Method(_J, "WatchJob", jobs.WatchJobRequest, operations.Operation, streams=True)

GET_OPERATION = Method(_O, "GetOperation", operations.GetOperationRequest, operations.Operation)
LIST_OPERATIONS = Method(
    _O, "ListOperations", operations.ListOperationsRequest, operations.ListOperationsResponse
)
CANCEL_OPERATION = Method(_O, "CancelOperation", operations.CancelOperationRequest, Empty)
WAIT_OPERATION = Method(_O, "WaitOperation", operations.WaitOperationRequest, operations.Operation)

QUERIES = frozenset(method.path for method in (ENCODE, GET_FEATURE, NEAREST_FEATURES, LIST_PAIRS))
"""Calls that need torch or faiss: a server answers them in a process of their own."""

REPEATABLE = frozenset(
    method.path
    for method in (
        *(CREATE_RECORDING, GET_RECORDING, LIST_RECORDINGS, GET_VOCABULARY, GET_SITE_STATISTICS),
        LIST_LANES,
        # an unused ticket is withdrawn by the next one, and a lane ends once
        *(GET_STORAGE, OPEN_DIRECT_LANE, END_DIRECT_LANE),
        *(TRAIN_DICTIONARY, GET_DICTIONARY, LIST_DICTIONARIES, ENCODE),
        *(CREATE_PROBE, GET_PROBE, LIST_PROBES, GET_FEATURE, NEAREST_FEATURES),
        *(CREATE_MATCH, GET_MATCH, LIST_MATCHES, LIST_PAIRS),
        *(GET_OPERATION, LIST_OPERATIONS, CANCEL_OPERATION),
    )
)
"""Unary calls that a client may send twice: a second one changes nothing further."""
