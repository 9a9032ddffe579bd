import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from isogloss.dictionaries import (
    DictionaryProvenance,
    SparseDictionary,
    TrainConfig,
    load_dictionary,
    load_provenance,
    save_dictionary,
)
from isogloss.dictionaries.saving import verify_dictionary
from isogloss.errors import CorruptData, InvalidInput, IsoglossError, NotFound, UnsupportedVersion


@pytest.fixture
def saved(autoencoder: SparseDictionary, tmp_path: Path) -> Path:
    save_dictionary(autoencoder, tmp_path / "saved")
    return tmp_path / "saved"


def _edit(directory: Path, **changes: object) -> None:
    path = directory / "dictionary.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_dictionary_is_two_plain_files_that_other_tools_read(
    saved: Path, autoencoder: SparseDictionary
):
    assert sorted(os.listdir(saved)) == ["dictionary.json", "weights.safetensors"]
    tensors = load_file(saved / "weights.safetensors")
    assert set(tensors) == {"encoder", "encoder_bias", "decoder", "decoder_bias"}
    torch.testing.assert_close(tensors["decoder"], autoencoder.decoder, rtol=0, atol=0)
    body = json.loads((saved / "dictionary.json").read_text())
    assert (body["format"], body["version"]) == ("isogloss-dictionary", 2)


def test_provenance_is_kept_and_names_the_hash_of_the_weights(
    saved: Path, autoencoder: SparseDictionary
):
    read = load_provenance(saved)
    assert read == load_dictionary(saved).provenance
    assert len(read.weights_sha256) == 64
    kept = autoencoder.provenance.to_dict()
    assert read.to_dict() == kept | {"weights_sha256": read.weights_sha256}


def test_loaded_weights_live_in_memory_of_their_own(saved: Path):
    loaded = load_dictionary(saved)
    before = loaded.decoder.clone()
    (saved / "weights.safetensors").write_bytes(b"\0" * 64)
    torch.testing.assert_close(loaded.decoder, before, rtol=0, atol=0)


@pytest.mark.parametrize("place", [0, 100, -1])
def test_one_flipped_bit_is_found(saved: Path, place: int):
    path = saved / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    for check in (load_dictionary, verify_dictionary):
        with pytest.raises(CorruptData, match="sha256"):
            check(saved)


def test_a_missing_weights_file_is_found(saved: Path):
    (saved / "weights.safetensors").unlink()
    with pytest.raises(CorruptData, match="missing"):
        load_dictionary(saved)


def test_weights_replaced_together_with_their_checksum_do_not_match_the_provenance(saved: Path):
    path = saved / "weights.safetensors"
    tensors = load_file(path)
    tensors["decoder"][0, 0] += 1
    save_file(tensors, path)
    import hashlib

    _edit(saved, files={path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(CorruptData, match="provenance names"):
        load_dictionary(saved)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"version": 3}, UnsupportedVersion, "version 3.*reads 1 and 2"),
        ({"version": None}, UnsupportedVersion, "None"),
        ({"kind": "no_such"}, UnsupportedVersion, "no_such"),
        ({"format": "sae"}, CorruptData, "format 'sae'"),
        ({"wiring": "clt"}, UnsupportedVersion, "clt"),
        ({"settings": {"features": 40, "k": 0}}, CorruptData, "k is 0"),
        ({"settings": {"features": 40, "k": "five"}}, CorruptData, "five"),
        ({"settings": {"features": 40, "colour": 1}}, CorruptData, "colour"),
        ({"settings": {"features": 41}}, CorruptData, "41"),
        ({"settings": None}, CorruptData, "settings"),
        ({"width": 13}, CorruptData, "13"),
        ({"files": {}}, CorruptData, "files"),
        ({"files": {"../weights.safetensors": "0"}}, CorruptData, "files"),
        ({"provenance": None}, CorruptData, "provenance"),
        ({"provenance": {}}, CorruptData, "provenance"),
        ({"extra": 1}, CorruptData, "extra"),
    ],
)
def test_a_description_that_cannot_be_true_is_refused(
    saved: Path, changes: dict[str, object], error: type[IsoglossError], message: str
):
    _edit(saved, **changes)
    with pytest.raises(error, match=message):
        load_dictionary(saved)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_a_description_that_is_no_json_object_is_refused(saved: Path, content: bytes):
    (saved / "dictionary.json").write_bytes(content)
    with pytest.raises(CorruptData, match=r"dictionary\.json"):
        load_dictionary(saved)


def test_a_config_in_the_provenance_that_is_out_of_range_is_corrupt_data(saved: Path):
    body = json.loads((saved / "dictionary.json").read_text())
    body["provenance"]["config"]["settings"]["k"] = -1
    _edit(saved, provenance=body["provenance"])
    with pytest.raises(CorruptData, match="k is -1"):
        load_dictionary(saved)


def test_a_directory_without_a_description_is_no_dictionary(tmp_path: Path):
    with pytest.raises(NotFound, match=r"dictionary\.json"):
        load_dictionary(tmp_path)


def test_a_crash_before_the_description_leaves_no_dictionary_and_saving_again_works(
    autoencoder: SparseDictionary, saved: Path
):
    (saved / "dictionary.json").unlink()
    (saved / ".weights.safetensors.partial").write_bytes(b"half")
    with pytest.raises(NotFound):
        load_dictionary(saved)
    save_dictionary(autoencoder, saved)
    torch.testing.assert_close(load_dictionary(saved).decoder, autoencoder.decoder)


def test_an_object_that_is_no_kind_of_ours_is_not_saved(
    autoencoder: SparseDictionary, tmp_path: Path
):
    class Other:
        kind, width, features = "other", 12, 40
        decoder = autoencoder.decoder
        provenance = DictionaryProvenance()
        encode, decode = autoencoder.encode, autoencoder.decode

    with pytest.raises(InvalidInput, match="Other has no saved form"):
        save_dictionary(Other(), tmp_path)


def test_the_room_and_its_plain_settings_import_without_torch():
    code = (
        "import sys, isogloss.dictionaries as room\n"
        "room.TrainConfig(settings={'features': 2}).to_dict(); room.kind_names()\n"
        "room.DictionaryProvenance().to_dict()\n"
        "print([name for name in ('torch', 'numba', 'zarr') if name in sys.modules])"
    )
    result = subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "[]"


def test_every_public_name_of_the_room_exists():
    import isogloss.dictionaries as room

    for name in room.__all__:
        assert getattr(getattr(room, name), "__name__", name) == name
    assert dir(room) == sorted(room.__all__)
    with pytest.raises(AttributeError, match="SparseDictionary"):
        getattr(room, "Autoencoder")  # noqa: B009  # a plain attribute is an error of the type checker


RELEASED = Path(__file__).parent / "released"


def _description_1(tmp_path: Path, **changes: object) -> Path:
    shutil.copytree(RELEASED / "dictionary-v1", tmp_path / "one")
    _edit(tmp_path / "one", **changes)
    return tmp_path / "one"


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"kind": "no_such"}, UnsupportedVersion, "no_such"),
        ({"k": 0}, CorruptData, "k is 0"),
        ({"k": "five"}, CorruptData, "five"),
        ({"features": 41}, CorruptData, "41"),
        ({"extra": 1}, CorruptData, "extra"),
        ({"settings": {}}, CorruptData, "settings"),
    ],
)
def test_a_description_of_version_1_that_cannot_be_true_is_refused(
    tmp_path: Path, changes: dict[str, object], error: type[IsoglossError], message: str
):
    with pytest.raises(error, match=message):
        load_dictionary(_description_1(tmp_path, **changes))


@pytest.mark.parametrize("version", [1, 2])
def test_the_bytes_of_every_format_version_still_read(version: int):
    read = load_dictionary(RELEASED / f"dictionary-v{version}")
    assert read.provenance.config == TrainConfig(
        settings={"features": 4, "k": 2, "aux_k": None}, seed=0, batch_rows=1024
    )
    (site,) = read.provenance.sites
    assert (site.recording, site.site) == ("minilm-docs", "encoder.layer.3")
    assert (read.kind, read.features, read.width) == ("topk", 4, 3)
    codes = read.encode(torch.tensor([[4.0, 3.0, 3.0]]))
    assert codes.indices.tolist() == [[0, 3]]
    torch.testing.assert_close(codes.values, torch.tensor([[3.0, 2.85]]))
    torch.testing.assert_close(read.decode(codes), torch.tensor([[5.71, 4.28, 3.0]]))
    assert read.provenance.config is not None
    assert read.provenance.curve[0].fvu == 0.5


ODD = ("1e400", "-1e400", "NaN", "Infinity", "1" + "0" * 400, "-1", "0", "1.5", '"x"', "[]", "null")


def places(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield where each plain value stands in a JSON object."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value[:1]):
            yield from places(item, (*path, index))
    else:
        yield path


def replaced(value: object, path: tuple[str | int, ...], mark: str) -> object:
    if not path:
        return mark
    first, *rest = path
    if isinstance(value, dict):
        return {**value, first: replaced(value[first], tuple(rest), mark)}
    assert isinstance(value, list)
    return [
        replaced(item, tuple(rest), mark) if i == first else item for i, item in enumerate(value)
    ]


def test_any_value_of_a_description_loads_or_is_corrupt_data_that_names_the_file(saved: Path):
    path = saved / "dictionary.json"
    body = json.loads(path.read_text())
    point = {
        **dict.fromkeys(("step", "total_steps", "rows"), 1),
        **dict.fromkeys(("fvu", "loss", "l0", "dead_fraction", "rows_per_s"), 0.5),
    }
    body["provenance"]["curve"] = [point]
    odd: list[str] = []
    for place in places(body):
        for value in ODD:
            text = json.dumps(replaced(body, place, "@mark@")).replace('"@mark@"', value)
            path.write_text(text)
            try:
                load_provenance(saved)
                load_dictionary(saved)
            except (CorruptData, UnsupportedVersion) as error:
                if str(saved) not in str(error):
                    odd.append(f"{place} = {value}: {error}")
            except Exception as error:
                odd.append(f"{place} = {value}: {type(error).__name__}: {error}")
    assert odd == []


@pytest.mark.parametrize("scale", ["1e400", "NaN", "0", "-2", "1" + "0" * 400])
def test_a_scale_that_rows_cannot_have_had_is_refused(saved: Path, scale: str):
    path = saved / "dictionary.json"
    path.write_text(re.sub(r'"input_scale": [^,]+', f'"input_scale": {scale}', path.read_text()))
    with pytest.raises(CorruptData, match=r"dictionary\.json"):
        load_provenance(saved)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_dictionary_made_by_hand_needs_a_scale_above_0(scale: float):
    with pytest.raises(InvalidInput, match="input_scale"):
        DictionaryProvenance(input_scale=scale)


@pytest.mark.parametrize("name", ["dictionary.json", "weights.safetensors"])
def test_a_directory_in_the_place_of_a_file_is_corrupt_data(saved: Path, name: str):
    (saved / name).unlink()
    (saved / name).mkdir()
    with pytest.raises(CorruptData, match=name):
        load_dictionary(saved)


def test_a_file_in_the_place_of_a_directory_is_no_dictionary(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(NotFound):
        load_dictionary(tmp_path / "file")
