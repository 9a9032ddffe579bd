"""Dictionaries in the hand: the same from this process and through a server, or refused."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xxhash
from tests.dictionaries.live.planted import KINDS, random_dictionary
from tests.service.placed import place
from tests.service.serving import server_on

import isogloss
from isogloss import Client
from isogloss.dictionaries import SparseDictionary
from isogloss.errors import CorruptData, InvalidInput, IsoglossError, NotFound, ShapeError
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.service.client.held.weights import dictionary as read_dictionary
from isogloss.service.transport.call import Open, Running
from isogloss.service.values.results import DictionaryInfo
from isogloss.service.wire.framing import Framed
from isogloss.service.wire.messages import to_message
from isogloss.store import Store

MADE = {kind.replace("_", "-"): random_dictionary(kind) for kind in KINDS}
MADE["across"] = random_dictionary("topk", transcodes=True)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("filled") / "store"
    with Store.open(path) as store:
        for name, made in MADE.items():
            place(store, made, name)
    return path


@pytest.fixture(scope="module", params=["in process", "server"])
def client(request: pytest.FixtureRequest, filled: Path) -> Iterator[Client]:
    if request.param == "server":
        with (
            server_on(filled) as server,
            isogloss.connect(server.addresses[0], timeout_s=200) as found,
        ):
            yield found
    else:
        with isogloss.connect(filled, run_workers=False) as found:
            yield found


def test_every_kind_comes_with_the_weights_that_were_saved(client: Client) -> None:
    for name, made in MADE.items():
        held = client.dictionary(name)
        found = held.as_dictionary()
        assert found.kind == made.kind
        assert found.wiring == made.wiring
        assert found.tensors.keys() == made.tensors.keys()
        for key, tensor in made.tensors.items():
            torch.testing.assert_close(found.tensors[key], tensor, rtol=0, atol=0)
        rows = torch.randn(2, 3, made.width, generator=torch.Generator().manual_seed(1))
        wanted = made.reconstruct(rows.reshape(6, -1)).reshape(2, 3, -1)
        torch.testing.assert_close(held(rows), wanted, rtol=0, atol=0)
        assert not held.training


def test_what_is_in_the_hand_names_itself_to_other_calls(client: Client) -> None:
    info = client.dictionary_info("topk")
    held = client.dictionary(info)
    assert (held.info, held.id) == (info, "topk")
    assert held.feature(3) == info.feature(3)
    assert "'topk'" in repr(held)
    rows = np.zeros((2, held.width), np.float32)
    for given in (held, info, "topk"):
        assert client.encode(given, rows)[0].shape == (2, 5)


def test_arrays_and_tensors_are_encoded_and_decoded_alike(client: Client) -> None:
    held = client.dictionary("jumprelu")
    rows = torch.randn(2, 3, held.width, generator=torch.Generator().manual_seed(2))
    values, indices = client.encode("jumprelu", rows)
    plain = client.encode("jumprelu", rows.numpy())
    assert isinstance(values, torch.Tensor)
    assert isinstance(plain[0], np.ndarray)
    np.testing.assert_array_equal(values.numpy(), plain[0])
    np.testing.assert_array_equal(indices.numpy(), plain[1])
    dense = torch.zeros(2, 3, held.features).scatter_add(-1, indices.long(), values)
    torch.testing.assert_close(dense, held.dense(rows), rtol=0, atol=0)
    decoded = client.decode("jumprelu", values, indices)
    torch.testing.assert_close(decoded, held(rows).detach())
    np.testing.assert_array_equal(client.decode("jumprelu", *plain), decoded.numpy())
    narrow = rows.to(torch.bfloat16)
    torch.testing.assert_close(
        client.encode("jumprelu", narrow)[0], client.encode("jumprelu", narrow.float())[0]
    )


def test_what_cannot_be_encoded_or_decoded_is_said(client: Client) -> None:
    values, indices = np.ones((2, 3), np.float32), np.zeros((2, 3), np.int32)
    with pytest.raises(InvalidInput, match="detach"):
        client.encode("topk", torch.zeros(2, 12, requires_grad=True))
    with pytest.raises(ShapeError, match="list"):
        client.encode("topk", [[1.0]])  # type: ignore[type-var]
    with pytest.raises(ShapeError, match="one shape"):
        client.decode("topk", values, indices[:1])
    with pytest.raises(ShapeError, match="one shape"):
        client.decode("topk", values, values)
    with pytest.raises(InvalidInput, match=r"\[0, 40\)"):
        client.decode("topk", values, indices + 40)
    with pytest.raises(InvalidInput, match="no features"):
        client.decode("topk", values, indices.astype(np.int64) + (1 << 40))
    with pytest.raises(NotFound, match="nothing-there"):
        client.dictionary("nothing-there")
    with pytest.raises(NotFound, match="nothing-there"):
        client.decode("nothing-there", values, indices)


def test_an_awaited_client_gets_the_same(filled: Path) -> None:
    async def get() -> torch.Tensor:
        async with await isogloss.connect_async(filled, run_workers=False) as client:
            held = await client.dictionary("gated")
            assert (await client.dictionary_info("gated")).id == held.id
            return held.get_parameter("encoder").detach()

    torch.testing.assert_close(asyncio.run(get()), MADE["gated"].tensors["encoder"])


def test_bytes_that_were_changed_on_the_disk_are_not_sent(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        uid = place(store, random_dictionary())
        path = store.artifact("dictionary", uid) / "weights.safetensors"
    with isogloss.connect(tmp_path / "store", run_workers=False) as client:
        client.dictionary("d")
        raw = bytearray(path.read_bytes())
        raw[-3] ^= 1
        path.write_bytes(raw)
        with pytest.raises(CorruptData, match="sha256"):
            client.dictionary("d")
        path.write_bytes(raw[:-9])
        with pytest.raises(CorruptData, match=r"sha256|ends after"):
            client.dictionary("d")


# What a server may send that is not what it told: the call itself is fed, without a network.


def told_of(client: Client, made: SparseDictionary) -> list[Framed[pb.ReadDictionaryResponse]]:
    """What an honest server sends of a dictionary."""
    info = client.dictionary_info("topk")
    weights = pb.Weights(dictionary=to_message(info, pb.Dictionary))
    parts: list[Framed[pb.ReadDictionaryResponse]] = []
    for name, tensor in made.tensors.items():
        raw = tensor.numpy().tobytes()
        weights.tensors.add(
            name=name, dtype=3, shape=tensor.shape, xxh3=xxhash.xxh3_128_digest(raw)
        )
        for start in range(0, len(raw), 400):
            head = pb.ReadDictionaryResponse(tensor=name, start=start)
            parts.append(Framed(head=head, payload=(memoryview(raw[start : start + 400]),)))
    first = Framed(head=pb.ReadDictionaryResponse(weights=weights), payload=())
    return [first, *parts]


def feed(messages: list[Framed[pb.ReadDictionaryResponse]]) -> object:
    running = Running(read_dictionary("topk"), "there:1")
    assert isinstance(running.step, Open)
    running.send(None)
    for message in messages:
        running.send(message)
    running.send(None)
    return running.result()


def refuses(messages: list[Framed[pb.ReadDictionaryResponse]]) -> bool:
    try:
        feed(messages)
    except IsoglossError as error:
        return bool(str(error))
    return False


def changed(
    part: Framed[pb.ReadDictionaryResponse], payload: bytes | None = None, **fields: object
) -> Framed[pb.ReadDictionaryResponse]:
    head = pb.ReadDictionaryResponse()
    head.CopyFrom(part.head)
    for name, value in fields.items():
        setattr(head, name, value)
    pieces = part.payload if payload is None else (memoryview(payload),)
    return Framed(head=head, payload=pieces)


def described(
    messages: list[Framed[pb.ReadDictionaryResponse]], place: int, **fields: object
) -> list[Framed[pb.ReadDictionaryResponse]]:
    """The same with other fields of a tensor that is told of."""
    head = pb.ReadDictionaryResponse()
    head.CopyFrom(messages[0].head)
    for name, value in fields.items():
        if name == "shape":
            del head.weights.tensors[place].shape[:]
            head.weights.tensors[place].shape.extend(value)  # type: ignore[arg-type]
        else:
            setattr(head.weights.tensors[place], name, value)
    return [Framed(head=head, payload=()), *messages[1:]]


def test_a_server_that_sends_other_than_it_told_is_refused(client: Client) -> None:
    honest = told_of(client, MADE["topk"])
    assert isinstance(feed(honest), torch.nn.Module)
    part, nan = honest[1], np.full(100, np.nan, np.float32).tobytes()
    lies = {
        "nothing": [],
        "no description": honest[1:],
        "short": honest[:-1],
        "more": [*honest, honest[-1]],
        "another order": [honest[0], honest[2], honest[1], *honest[3:]],
        "twice": [honest[0], honest[1], *honest[1:]],
        "a gap": [honest[0], *honest[2:]],
        "another tensor": [honest[0], changed(part, tensor="decoder"), *honest[2:]],
        "an unknown tensor": [honest[0], changed(part, tensor="x"), *honest[2:]],
        "before the start": [honest[0], changed(part, start=-4), *honest[2:]],
        "too long": [honest[0], changed(part, bytes(9000)), *honest[2:]],
        "no whole number": [honest[0], changed(part, bytes(397)), *honest[2:]],
        "an empty part": [honest[0], changed(part, b""), *honest[2:]],
        "other bytes": [honest[0], changed(part, bytes(400)), *honest[2:]],
        "not finite": [honest[0], changed(part, nan), *honest[2:]],
        "another checksum": described(honest, 0, xxh3=bytes(16)),
        "half a checksum": described(honest, 0, xxh3=bytes(8)),
        "another dtype": described(honest, 0, dtype=1),
        "no dtype": described(honest, 0, dtype=0),
        "another name": described(honest, 0, name="threshold"),
        "a name twice": described(honest, 0, name="decoder"),
        "transposed": described(honest, 0, shape=(12, 40)),
        "negative sizes": described(honest, 0, shape=(-40, -12)),
        "no sizes": described(honest, 0, shape=()),
        "another width": described(honest, 3, shape=(13,)),
    }
    for what, messages in lies.items():
        assert refuses(messages), what


def test_memory_is_taken_only_for_what_fits_what_was_told(client: Client) -> None:
    honest = told_of(client, MADE["topk"])
    huge = described(honest, 0, shape=(1 << 40, 1 << 20))
    with pytest.raises(IsoglossError, match="encoder is"):
        feed(huge)


def test_weights_of_another_dictionary_than_was_asked_for_are_refused(client: Client) -> None:
    honest = told_of(client, MADE["topk"])
    honest[0].head.weights.dictionary.name = "dictionaries/gated"
    with pytest.raises(CorruptData, match="gated"):
        feed(honest)


def test_weights_of_fewer_features_than_the_dictionary_says_are_refused(client: Client) -> None:
    info = client.dictionary_info("topk")
    assert isinstance(info, DictionaryInfo)
    honest = told_of(client, MADE["topk"])
    honest[0].head.weights.dictionary.features = 41
    honest[0].head.weights.dictionary.settings.fields["features"].number_value = 41
    with pytest.raises(IsoglossError, match="41"):
        feed(honest)
