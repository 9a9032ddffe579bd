import pytest

from isogloss.errors import CorruptData, InvalidInput
from isogloss.proto.v1 import dictionaries_pb2 as pb
from isogloss.service.client.held.told import from_weights


def told(**fields: object) -> pb.ReadDictionaryResponse:
    message = pb.ReadDictionaryResponse()
    given = {"name": "encoder", "dtype": 3, "shape": [2, 3], "xxh3": bytes(16), **fields}
    message.weights.tensors.add(**given)  # pyright: ignore[reportArgumentType] - some are wrong
    return message


def test_what_cannot_be_weights_is_refused() -> None:
    with pytest.raises(InvalidInput, match="tells of no weights"):
        from_weights(pb.ReadDictionaryResponse())
    with pytest.raises(InvalidInput, match="0 tensors are told"):
        from_weights(pb.ReadDictionaryResponse(weights=pb.Weights()))
    with pytest.raises(CorruptData, match="bfloat16"):
        from_weights(told(dtype=1))
    for wrong in ({"shape": [0]}, {"shape": [-2, 3]}, {"xxh3": b"x"}):
        with pytest.raises(InvalidInput, match="wanted sizes of at least 1"):
            from_weights(told(**wrong))
    many = told()
    for number in range(64):
        many.weights.tensors.add(name=str(number), dtype=pb.WeightTensor().dtype)
    with pytest.raises(InvalidInput, match="65 tensors"):
        from_weights(many)
