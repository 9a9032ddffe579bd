"""A rotated dictionary reads x as the original reads the rows turned about its bias."""

import pytest
import torch

from isogloss.dictionaries import DictionaryProvenance, SparseDictionary, rotated
from isogloss.dictionaries.kinds.load import kind_class
from isogloss.dictionaries.rotate import random_rotation
from isogloss.errors import InvalidInput

FEATURES, WIDTH = 20, 8
OWN: dict[str, dict[str, object]] = {
    "topk": {"k": 3},
    "batch_topk": {"k": 3},
    "jumprelu": {"target_l0": 3.0},
    "gated": {},
}


def make(kind: str, wiring: str = "sae") -> SparseDictionary:
    generator = torch.Generator().manual_seed(3)
    sizes = {"features": FEATURES, "width": WIDTH, "target_width": WIDTH}
    tensors = {
        name: torch.rand([sizes[one] for one in dims], generator=generator)
        for name, dims in kind_class(kind).saved.items()
    }
    settings: dict[str, object] = {"features": FEATURES, **OWN[kind]}
    return SparseDictionary.make(kind, settings, tensors, DictionaryProvenance(), wiring=wiring)


@pytest.mark.parametrize("kind", list(OWN))
def test_it_encodes_as_the_original_encodes_turned_rows(kind: str) -> None:
    made = make(kind)
    turned, rotation = rotated(made, 7), random_rotation(WIDTH, 7)
    rows = 2 * torch.randn(30, WIDTH, generator=torch.Generator().manual_seed(1)) + 0.3
    centre = made.tensors["decoder_bias"]
    wanted = made.encode(((rows - centre).double() @ rotation.T).float() + centre).to_ragged()
    found = turned.encode(rows).to_ragged()
    torch.testing.assert_close(found.indices, wanted.indices, rtol=0, atol=0)
    torch.testing.assert_close(found.values, wanted.values, rtol=1e-4, atol=1e-4)
    assert found.values.numel() > 0
    back = (turned.decode(found) - centre).double() @ rotation.T
    torch.testing.assert_close(back.float() + centre, made.decode(wanted), rtol=1e-4, atol=1e-4)


def test_rotations_are_orthogonal_equal_for_equal_seeds_and_different_for_others() -> None:
    one = random_rotation(WIDTH, 1)
    torch.testing.assert_close(one @ one.T, torch.eye(WIDTH, dtype=torch.float64))
    torch.testing.assert_close(one, random_rotation(WIDTH, 1), rtol=0, atol=0)
    assert not torch.allclose(one, random_rotation(WIDTH, 2))


def test_a_dictionary_of_other_rows_than_it_reads_is_refused() -> None:
    with pytest.raises(InvalidInput, match="wiring sae"):
        rotated(make("topk", wiring="transcoder"), 0)
