"""A screened dictionary gives the codes of the dictionary, for every kind."""

import pytest
import torch
from torch import Tensor

from isogloss.dictionaries import DictionaryProvenance, ScreenedDictionary, SparseDictionary
from isogloss.errors import ShapeError
from isogloss.kernels import cpu

FEATURES, WIDTH = 4096, 48
KINDS = ("topk", "batch_topk", "matryoshka_batch_topk", "jumprelu", "relu_l1", "gated")


@pytest.fixture(autouse=True)
def _screens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Screen where the 8-bit product is right, also where float32 is quicker."""
    monkeypatch.setattr(cpu.screen, "is_quicker", cpu.screen.multiplies_bytes)


def _made(kind: str, *, threshold: float = 40_000.0) -> SparseDictionary:
    """Return a dictionary of whole numbers: its sums are exact, in whatever order."""
    chance = torch.Generator().manual_seed(5)

    def whole(*shape: int) -> Tensor:
        return torch.randint(-99, 100, shape, generator=chance).float()

    tensors = {
        "encoder": whole(FEATURES, WIDTH),
        "encoder_bias": whole(FEATURES),
        "decoder": whole(FEATURES, WIDTH),
        "decoder_bias": whole(WIDTH),
    }
    settings: dict[str, object] = {"features": FEATURES}
    if "topk" in kind:
        settings["k"] = 8
    if kind in ("batch_topk", "matryoshka_batch_topk"):
        tensors["threshold"] = torch.tensor(threshold)
    if kind == "jumprelu":
        tensors["threshold"] = threshold + whole(FEATURES).abs()
    if kind == "gated":
        tensors |= {"log_gain": torch.zeros(FEATURES), "magnitude_bias": whole(FEATURES)}
    return SparseDictionary.make(kind, settings, tensors, DictionaryProvenance())


def _rows(count: int = 20) -> Tensor:
    chance = torch.Generator().manual_seed(6)
    return torch.randint(-99, 100, (count, WIDTH), generator=chance).float()


@pytest.mark.parametrize("kind", KINDS)
def test_the_codes_are_those_of_the_dictionary(kind: str):
    dictionary = _made(kind)
    wanted = dictionary.encode(_rows())
    found = ScreenedDictionary(dictionary).encode(_rows())
    assert len(wanted.values)
    assert torch.equal(found.values, wanted.values)
    assert torch.equal(found.indices, wanted.indices)
    assert found.features == FEATURES
    if wanted.offsets is not None:
        assert found.offsets is not None
        assert torch.equal(found.offsets, wanted.offsets)


def test_where_bytes_are_slow_nothing_is_rounded_and_codes_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
):
    dictionary = _made("topk")
    rounded = ScreenedDictionary(dictionary)
    monkeypatch.setattr(cpu.screen, "is_quicker", lambda: False)
    plain = ScreenedDictionary(dictionary)
    assert plain.nbytes == sum(tensor.nbytes for tensor in dictionary.tensors.values())
    assert plain.nbytes < rounded.nbytes
    wanted = dictionary.encode(_rows())
    assert torch.equal(plain.encode(_rows()).values, wanted.values)


def test_few_directions_are_read(monkeypatch: pytest.MonkeyPatch):
    dictionary, seen = _made("topk"), list[int]()
    encode = type(dictionary.settings).encode

    def counted(self: object, tensors: dict[str, Tensor], rows: Tensor) -> object:
        seen.append(len(tensors["encoder"]))
        return encode(dictionary.settings, tensors, rows)

    monkeypatch.setattr(type(dictionary.settings), "encode", counted)
    ScreenedDictionary(dictionary).encode(_rows())
    assert len(seen) == 1
    assert 8 <= seen[0] < FEATURES / 4


def test_where_no_feature_can_fire_the_codes_are_empty():
    dictionary = _made("jumprelu", threshold=1e9)
    codes = ScreenedDictionary(dictionary).encode(_rows())
    assert codes.rows == 20
    assert not len(codes.values)


def test_rows_of_another_width_are_refused():
    with pytest.raises(ShapeError, match="rows is"):
        ScreenedDictionary(_made("topk")).encode(torch.zeros(2, WIDTH + 1))


def test_kinds_without_a_screen_hold_none():
    held = {kind: ScreenedDictionary(_made(kind)).nbytes for kind in ("jumprelu", "relu_l1")}
    weights = {kind: sum(t.nbytes for t in _made(kind).tensors.values()) for kind in held}
    assert held["relu_l1"] == weights["relu_l1"]
    assert weights["jumprelu"] < held["jumprelu"] < 1.2 * weights["jumprelu"]
