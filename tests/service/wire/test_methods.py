"""Every call, as the descriptors have it."""

import pytest

from isogloss.errors import InternalError
from isogloss.proto.v1 import recordings_pb2 as pb
from isogloss.proto.v1 import types_pb2
from isogloss.service.wire.methods import METHODS, SERVICES, method_named, method_of


def test_a_call_is_found_by_its_request_and_by_the_name_of_its_function() -> None:
    found = method_of(pb.GetRecordingRequest, pb.Recording)
    assert found.path == "/isogloss.v1.RecordingService/GetRecording"
    assert (found.takes_stream, found.gives_stream) == (False, False)
    assert method_named("get_recording") is found
    assert method_named("get_nothing") is None
    assert method_of(pb.ReadRequest, pb.ReadResponse).gives_stream
    append = method_of(pb.AppendRequest, pb.AppendResponse)
    assert (append.takes_stream, append.gives_stream) == (True, True)


def test_a_request_of_no_call_and_an_answer_of_another_are_refused() -> None:
    with pytest.raises(InternalError, match=r"no call takes a isogloss\.v1\.Tensor"):
        method_of(types_pb2.Tensor, pb.Recording)
    with pytest.raises(InternalError, match=r"GetRecording answers with isogloss\.v1\.Recording"):
        method_of(pb.GetRecordingRequest, pb.Storage)


def test_what_changes_something_each_time_is_never_sent_twice() -> None:
    """A client sends these again by itself when no answer came, so the list is spelt out here."""
    repeatable = {
        method.name
        for method in METHODS.values()
        if method.is_repeatable and not method.gives_stream
    }
    assert repeatable == {
        *("CreateRecording", "GetRecording", "ListRecordings", "GetVocabulary"),
        *("GetSiteStatistics", "ListLanes", "GetStorage", "EndDirectLane"),
        *("TrainDictionary", "GetDictionary", "ListDictionaries", "Encode", "ListKinds"),
        *("Decode", "KeepTokenEffects"),
        *("CreateProbe", "GetProbe", "ListProbes", "GetFeature", "NearestFeatures"),
        *("ReadSegments", "UploadCodes", "ImportCodes", "RotateDictionary"),
        *("CreateMatch", "GetMatch", "ListMatches", "ListPairs", "GetServerInfo"),
        *("GetOperation", "ListOperations", "CancelOperation"),
    }
    assert {method.name for method in METHODS.values() if not method.is_repeatable} == {
        *("Append", "DeleteRecording", "DeleteDictionary", "DeleteProbe", "DeleteMatch"),
        *("QuantiseRecording", "GiveUpLanes", "WaitOperation", "OpenDirectLane"),
    }


def test_each_service_has_calls() -> None:
    assert {method.service for method in METHODS.values()} == set(SERVICES)
