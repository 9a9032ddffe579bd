import json
import os
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from isogloss.dictionaries import SparseDictionary, save_dictionary
from isogloss.dictionaries.saved_weights import SavedWeights
from isogloss.errors import CorruptData, NotFound


def test_what_is_read_is_what_safetensors_wrote(
    autoencoder: SparseDictionary, tmp_path: Path
) -> None:
    save_dictionary(autoencoder, tmp_path)
    with SavedWeights(tmp_path) as weights:
        weights.check()
        assert [t.start for t in weights.tensors] == sorted(t.start for t in weights.tensors)
        for tensor in weights.tensors:
            blocks = list(weights.blocks(tensor, 100))
            assert [place for place, _ in blocks] == list(range(0, tensor.size, 100))
            found = torch.frombuffer(bytearray(b"".join(b for _, b in blocks)), dtype=torch.float32)
            wanted = autoencoder.tensors[tensor.name]
            torch.testing.assert_close(found.reshape(tensor.shape), wanted, rtol=0, atol=0)


def test_an_open_file_is_read_to_its_end_after_a_deletion(
    autoencoder: SparseDictionary, tmp_path: Path
) -> None:
    save_dictionary(autoencoder, tmp_path)
    with SavedWeights(tmp_path) as weights:
        before = weights.state
        (tmp_path / "weights.safetensors").unlink()
        assert weights.state[:2] == before[:2]
        assert sum(len(b) for t in weights.tensors for _, b in weights.blocks(t, 64)) > 0


def test_half_precision_and_single_numbers_have_their_sizes(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(3, 2, dtype=torch.bfloat16), "b": torch.tensor(1.5)}
    save_file(tensors, tmp_path / "weights.safetensors")
    with SavedWeights(tmp_path) as weights:
        found = {t.name: (t.dtype, t.shape, t.size) for t in weights.tensors}
    assert found == {"a": ("bfloat16", (3, 2), 12), "b": ("float32", (), 4)}


HEADERS = {
    "no JSON": b"{",
    "a list": b"[]",
    "no shape": json.dumps({"a": {"dtype": "F32", "data_offsets": [0, 4]}}).encode(),
    "an unknown dtype": json.dumps(
        {"a": {"dtype": "U9", "shape": [1], "data_offsets": [0, 4]}}
    ).encode(),
    "other sizes": json.dumps(
        {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}
    ).encode(),
    "negative": json.dumps({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}).encode(),
}


@pytest.mark.parametrize("what", sorted(HEADERS))
def test_a_header_that_lies_is_refused(what: str, tmp_path: Path) -> None:
    head = HEADERS[what]
    (tmp_path / "weights.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + bytes(8))
    with pytest.raises(CorruptData, match="safetensors"):
        SavedWeights(tmp_path)


def test_files_that_are_short_long_or_missing_are_refused(
    autoencoder: SparseDictionary, tmp_path: Path
) -> None:
    with pytest.raises(NotFound, match="holds no weights"):
        SavedWeights(tmp_path)
    save_dictionary(autoencoder, tmp_path)
    path = tmp_path / "weights.safetensors"
    os.truncate(path, path.stat().st_size - 4)
    with SavedWeights(tmp_path) as weights:
        with pytest.raises(CorruptData, match="sha256"):
            weights.check()
        with pytest.raises(CorruptData, match="ends after"):
            list(weights.blocks(weights.tensors[-1], 1 << 20))
    path.write_bytes(struct.pack("<Q", 1 << 40) + bytes(8))
    with pytest.raises(CorruptData, match="no safetensors"):
        SavedWeights(tmp_path)
