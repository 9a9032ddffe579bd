"""Errors whose text is longer than gRPC's metadata come from a real server as their own status."""

from collections.abc import Callable, Iterator, Sequence
from typing import cast

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from tests.service.serving import append_samples, server_on

import isogloss
from isogloss.errors import InvalidInput
from isogloss.proto.v1 import (
    dictionaries_pb2,
    dictionaries_pb2_grpc,
    universality_pb2,
    universality_pb2_grpc,
)
from isogloss.service.wire.errors import DETAILS_KEY, MESSAGE_BYTES
from isogloss.store import Store
from isogloss.store.testing import sample_spec

NAMES = [f"d{number}-{'x' * 55}" for number in range(300)]
"""Ids of dictionaries that no probe has, 17 KB together."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = tmp_path_factory.mktemp("long") / "store"
    with Store.open(store) as made:
        for name in NAMES:
            made.catalog.put("dictionary", name, made.catalog.new_uid(), {})
    with server_on(store) as server, isogloss.connect(server.addresses[0]) as client:
        spec = client.create_recording(sample_spec(), ["a"]).spec
        with client.appender("sample", "p") as appender:
            append_samples(appender, spec, 1)
        yield server.addresses[0]


def ended(ask: Callable[[Message], object], request: Message) -> tuple[str, str, str]:
    """Return status, text and reason with which a call of stock grpc ends."""
    with pytest.raises(grpc.RpcError) as caught:
        ask(request)
    error = caught.value
    assert isinstance(error, grpc.Call)
    status, info = status_pb2.Status(), error_details_pb2.ErrorInfo()
    trailers = cast("Sequence[tuple[str, str | bytes]]", error.trailing_metadata())
    details = dict(trailers)[DETAILS_KEY]
    assert isinstance(details, bytes)
    status.ParseFromString(details)
    assert status.details[0].Unpack(info)
    assert status.message == error.details()
    return error.code().name, status.message, info.reason


def is_cut(text: str) -> bool:
    return text.endswith("…") and MESSAGE_BYTES - 8 < len(text.encode()) <= MESSAGE_BYTES


def test_a_long_error_of_the_query_process_is_cut_and_keeps_its_status(address: str) -> None:
    with grpc.insecure_channel(address) as channel:
        stub = universality_pb2_grpc.UniversalityServiceStub(channel)
        request = universality_pb2.NearestFeaturesRequest(
            feature=f"dictionaries/{NAMES[0]}/features/1",
            among=[f"dictionaries/{name}" for name in NAMES[1:]],
        )
        code, text, reason = ended(stub.NearestFeatures, request)
    assert (code, reason) == ("NOT_FOUND", "NOT_FOUND")
    assert text.startswith("no probe has d0-x")
    assert is_cut(text)


@pytest.mark.parametrize("letter", ["x", "店", "\x1b", "\x00", "%", "😀"])
def test_a_long_error_of_a_request_that_is_checked_there_keeps_its_status(
    address: str, letter: str
) -> None:
    request = dictionaries_pb2.TrainDictionaryRequest(dictionary_id="d")
    request.sources.add(recording="recordings/sample", site="layer.2")
    request.config.settings.update({"features": 8, "k": 2})
    for number in range(40):
        request.config.settings.update({f"{letter * 200}{number}": 1})
    with grpc.insecure_channel(address) as channel:
        stub = dictionaries_pb2_grpc.DictionaryServiceStub(channel)
        code, text, reason = ended(stub.TrainDictionary, request)
    assert (code, reason) == ("INVALID_ARGUMENT", "INVALID_INPUT")
    assert len(text.encode()) <= MESSAGE_BYTES


def test_an_error_that_arrives_cut_is_raised_as_what_it_was(address: str) -> None:
    with isogloss.connect(address) as client, pytest.raises(InvalidInput) as caught:
        client.train("sample", site="layer.2", features=8, settings={"店" * 3000: 1})
    assert is_cut(str(caught.value))
