import pytest
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from isogloss.errors import InvalidInput
from isogloss.proto.v1 import jobs_pb2
from isogloss.proto.v1.recordings_pb2 import AppendHeader, AppendRequest, ReadResponse
from isogloss.service.wire import framing
from isogloss.service.wire.framing import Framed, pieces_between
from isogloss.service.wire.methods import METHODS

heads = st.builds(
    AppendRequest,
    header=st.none() | st.builds(AppendHeader, recording=st.text(), producer=st.text()),
    sequence=st.integers(0, 2**64 - 1),
    part=st.integers(0, 2**32 - 1),
    parts=st.integers(0, 2**32 - 1),
    batch_bytes=st.integers(0, 2**64 - 1),
    xxh3=st.integers(0, 2**64 - 1),
)


def joined(framed: Framed[AppendRequest]) -> AppendRequest:
    message = AppendRequest()
    message.CopyFrom(framed.head)
    message.payload = b"".join(framed.payload)
    return message


def stock(raw: bytes) -> AppendRequest | None:
    try:
        return AppendRequest.FromString(raw)
    except DecodeError:
        return None


def ours(raw: bytes) -> AppendRequest | None:
    try:
        return joined(framing.decode(AppendRequest, raw))
    except DecodeError:
        return None


@given(heads, st.lists(st.binary(max_size=300), max_size=4))
def test_encoding_gives_the_bytes_of_stock_protobuf(
    head: AppendRequest, pieces: list[bytes]
) -> None:
    payload = b"".join(pieces)
    whole = AppendRequest()
    whole.CopyFrom(head)
    whole.payload = payload
    raw = framing.encode(Framed(head=head, payload=[memoryview(p) for p in pieces]))
    assert raw == whole.SerializeToString()
    assert ours(raw) == whole


@settings(max_examples=400)
@given(heads, st.binary(max_size=200), st.data())
def test_decoding_accepts_what_stock_protobuf_accepts_and_with_the_same_meaning(
    head: AppendRequest, payload: bytes, data: st.DataObject
) -> None:
    raw = bytearray(framing.encode(Framed(head=head, payload=[memoryview(payload)])))
    for _ in range(data.draw(st.integers(0, 3))):
        match data.draw(st.sampled_from(["cut", "change", "insert", "append"])):
            case "cut":
                del raw[data.draw(st.integers(0, len(raw))) :]
            case "change" if raw:
                raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
            case "insert":
                at = data.draw(st.integers(0, len(raw)))
                raw[at:at] = data.draw(st.binary(max_size=8))
            case _:
                raw += raw[: data.draw(st.integers(0, 40))]
    assert ours(bytes(raw)) == stock(bytes(raw))


@settings(max_examples=400)
@given(st.binary(max_size=64))
def test_random_bytes_are_read_as_stock_protobuf_reads_them(raw: bytes) -> None:
    assert ours(raw) == stock(raw)


def test_a_received_payload_is_a_view_of_the_message_and_not_a_copy() -> None:
    raw = framing.encode(Framed(head=ReadResponse(rows=1), payload=[memoryview(b"x" * 4096)]))
    payload = framing.decode(ReadResponse, raw).payload[0]
    assert payload.obj is raw
    assert payload.readonly


def test_a_message_without_payload_passes_through() -> None:
    message = jobs_pb2.JobMetadata(kind="train", step=3)
    assert framing.decode(jobs_pb2.JobMetadata, message.SerializeToString()).head == message
    assert framing.encode(Framed(head=message, payload=())) == message.SerializeToString()


@given(st.lists(st.binary(max_size=9), max_size=6), st.integers(0, 60), st.integers(0, 60))
def test_pieces_between_two_offsets_are_the_slice_of_the_whole(
    pieces: list[bytes], start: int, length: int
) -> None:
    found = pieces_between([memoryview(p) for p in pieces], start, start + length)
    assert b"".join(found) == b"".join(pieces)[start : start + length]


def test_an_impossible_range_of_pieces_is_refused() -> None:
    with pytest.raises(InvalidInput, match="range"):
        pieces_between([], 3, 1)


LISTS = [
    (method.request, field.name)
    for method in METHODS.values()
    for field in method.request.DESCRIPTOR.fields
    if field.is_repeated and field.message_type is None
]


@pytest.mark.parametrize(("request_type", "field"), LISTS, ids=lambda value: str(value))
def test_no_list_of_a_request_is_longer_than_a_call_answers(
    request_type: type[Message], field: str
) -> None:
    kind = request_type.DESCRIPTOR.fields_by_name[field].cpp_type
    entry = "recordings/a" if kind == FieldDescriptor.CPPTYPE_STRING else 1
    many = request_type(**{field: [entry] * 200_000}).SerializeToString()
    few = request_type(**{field: [entry] * framing.MAX_LIST}).SerializeToString()
    assert len(getattr(framing.parse(request_type, few), field)) == framing.MAX_LIST
    if field == "vocabulary":  # limited by its bytes
        framing.parse(request_type, many)
        return
    with pytest.raises(InvalidInput, match=f"{field} has 200000 entries, wanted at most 4096"):
        framing.parse(request_type, many)
