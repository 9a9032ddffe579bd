import pytest
import torch
from tests.dictionaries.live.planted import random_dictionary

from isogloss.dictionaries.live.arriving import ArrivingWeights
from isogloss.errors import CorruptData, InvalidInput, ResourceExhausted, ShapeError

MADE = random_dictionary()
SHAPES = {name: tuple(tensor.shape) for name, tensor in MADE.tensors.items()}


def bytes_of(name: str) -> memoryview:
    return memoryview(MADE.tensors[name].numpy().tobytes())


def arriving() -> ArrivingWeights:
    return ArrivingWeights(MADE.settings, SHAPES, features=40, width=12)


def test_parts_in_order_make_the_tensors() -> None:
    weights = arriving()
    for name in SHAPES:
        raw = bytes_of(name)
        for start in range(0, len(raw), 300):
            weights.take(name, start, raw[start : start + 300])
    for name, tensor in weights.finished().items():
        torch.testing.assert_close(tensor, MADE.tensors[name], rtol=0, atol=0)


def test_large_finite_numbers_whose_sum_is_infinite_are_taken() -> None:
    weights = arriving()
    weights.take("encoder", 0, memoryview(torch.full((100,), 3e38).numpy().tobytes()))


def test_an_end_before_the_end_is_said() -> None:
    weights = arriving()
    weights.take("encoder", 0, bytes_of("encoder")[:8])
    with pytest.raises(CorruptData, match="ended at byte 8 of 'encoder'"):
        weights.finished()


def test_sizes_that_do_not_fit_are_refused_before_memory_is_taken() -> None:
    with pytest.raises(ShapeError, match="wanted"):
        ArrivingWeights(MADE.settings, {**SHAPES, "encoder": (12, 40)}, features=40, width=12)
    with pytest.raises(InvalidInput, match="the dictionary has 40 and 13"):
        ArrivingWeights(MADE.settings, SHAPES, features=40, width=13)
    wide = 1 << 44
    huge = {"encoder": (40, wide), "encoder_bias": (40,)}
    huge |= {"decoder": (40, wide), "decoder_bias": (wide,)}
    with pytest.raises(ResourceExhausted, match="said to be"):
        ArrivingWeights(MADE.settings, huge, features=40, width=wide)
