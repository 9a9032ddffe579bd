"""A dictionary as a directory: ``weights.safetensors`` and ``dictionary.json``, nothing pickled.

``dictionary.json`` is written last and holds the checksum of the weights: a directory without it
is no dictionary, a directory with it is a whole one. Format version 2::

    {"format": "isogloss-dictionary", "version": 2, "kind": "<name>", "wiring": "<name>",
     "settings": {"features": 4096}, "width": 384, "files": {"weights.safetensors": "<sha256>"},
     "provenance": {...}}

The tensors are those that the kind names in ``saved``, all float32; they apply to raw activations.
A dictionary that reconstructs other sites than it reads (wiring ``transcoder``) may have
``input_bias``, ``skip`` and ``skip_bias`` beside them; ``width`` is that of the rows read.
Version 1, which is read too, had one kind, whose settings were ``k`` and ``features`` beside
``width``, and one wiring.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import Tensor

from isogloss.dictionaries.chosen import kind_of
from isogloss.dictionaries.dictionary import Dictionary
from isogloss.dictionaries.files import (
    check_sha256,
    make_directory,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from isogloss.dictionaries.kinds.load import kind_class
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.dictionaries.settings import settings_to_dict
from isogloss.dictionaries.sparse_dictionary import SparseDictionary, tensors_hash
from isogloss.dictionaries.wirings.load import wiring_class
from isogloss.dictionaries.wirings.table import DEFAULT_WIRING
from isogloss.errors import (
    AlreadyExists,
    CorruptData,
    InvalidInput,
    NotFound,
    ShapeError,
    UnsupportedVersion,
)

FORMAT = "isogloss-dictionary"
VERSION = 2
"""Version written; version 1 is read too."""

_WEIGHTS = "weights.safetensors"
_DESCRIPTION = "dictionary.json"
_KEYS = {"format", "version", "kind", "settings", "wiring", "width", "files", "provenance"}
_KEYS_1 = {"format", "version", "kind", "k", "features", "width", "files", "provenance"}


def save_dictionary(dictionary: Dictionary, directory: Path) -> None:
    """Write a dictionary into ``directory``, created when missing; other files there stay.

    Durable when it returns; after a crash there is a whole dictionary or none. Saving the same
    weights again does nothing.

    Raises:
        AlreadyExists: the directory holds another dictionary.
        InvalidInput: the object is no ``SparseDictionary``, so it has no saved form.
    """
    if not isinstance(dictionary, SparseDictionary):
        raise InvalidInput(
            f"a {type(dictionary).__name__} has no saved form; save a SparseDictionary"
        )
    digest = tensors_hash(dictionary.settings, dictionary.tensors)
    description = directory / _DESCRIPTION
    if description.exists():
        found = load_provenance(directory).weights_sha256
        if found == digest:
            return
        raise AlreadyExists(
            f"{directory} holds a dictionary with weights {found[:12]}; "
            "save to another directory or delete that one"
        )
    make_directory(directory)
    body: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": dictionary.kind,
        "settings": settings_to_dict(dictionary.settings),
        "wiring": dictionary.wiring,
        "width": dictionary.width,
        "files": {_WEIGHTS: write_tensors(directory / _WEIGHTS, dictionary.tensors)},
        "provenance": dictionary.provenance.to_dict() | {"weights_sha256": digest},
    }
    write_json(description, body)


def load_dictionary(directory: Path) -> SparseDictionary:
    """Read a dictionary and check its bytes.

    Raises:
        NotFound: the directory holds no dictionary.
        UnsupportedVersion: a newer release wrote it, or its kind or wiring is not installed here.
        CorruptData: bytes do not match their checksum or their description.
    """
    body = _read_description(directory)
    files = body["files"]
    if not isinstance(files, Mapping) or set(cast("Mapping[str, object]", files)) != {_WEIGHTS}:
        raise CorruptData(f"{directory / _DESCRIPTION} lists files {files!r}; wanted {_WEIGHTS}")
    provenance = _read_provenance(directory, body)
    _require_installed(directory, body)
    tensors = read_tensors(directory / _WEIGHTS, cast("Mapping[str, object]", files)[_WEIGHTS])
    dictionary = _assemble(directory, body, tensors, provenance)
    found = tensors_hash(dictionary.settings, dictionary.tensors)
    if found != provenance.weights_sha256:
        raise CorruptData(
            f"{directory / _WEIGHTS} has tensors of hash {found}, the provenance names "
            f"{provenance.weights_sha256}; restore the directory from a copy or train again"
        )
    return dictionary


def load_provenance(directory: Path) -> DictionaryProvenance:
    """Read where a saved dictionary comes from, without its weights.

    Raises:
        NotFound: the directory holds no dictionary.
        UnsupportedVersion: a newer release wrote it.
        CorruptData: the description cannot be read.
    """
    return _read_provenance(directory, _read_description(directory))


def verify_dictionary(directory: Path) -> None:
    """Check the bytes of a saved dictionary without loading it.

    Raises:
        NotFound: the directory holds no dictionary.
        CorruptData: a file is missing or differs from its checksum.
    """
    files = _read_description(directory)["files"]
    if not isinstance(files, Mapping):
        raise CorruptData(f"{directory / _DESCRIPTION} lists no files")
    for name, digest in cast("Mapping[str, object]", files).items():
        check_sha256(directory / name, digest)


def _read_description(directory: Path) -> dict[str, object]:
    try:
        body = read_json(directory / _DESCRIPTION)
    except FileNotFoundError:
        raise NotFound(
            f"{directory} holds no {_DESCRIPTION}; give the directory of a saved dictionary"
        ) from None
    if body.get("format") != FORMAT:
        raise CorruptData(
            f"{directory / _DESCRIPTION} has format {body.get('format')!r}; wanted {FORMAT!r}"
        )
    if body.get("version") not in (1, VERSION):
        raise UnsupportedVersion(
            f"{directory / _DESCRIPTION} has version {body.get('version')!r}; this release reads "
            f"1 and {VERSION}; upgrade isogloss"
        )
    wanted = _KEYS if body["version"] == VERSION else _KEYS_1
    if set(body) != wanted:
        raise CorruptData(
            f"{directory / _DESCRIPTION} has keys {sorted(body)}; wanted {sorted(wanted)}"
        )
    return body if body["version"] == VERSION else _as_version_2(body)


def _as_version_2(body: Mapping[str, object]) -> dict[str, object]:
    """Bring the form of one kind and one wiring into today's."""
    rest = {name: value for name, value in body.items() if name not in ("k", "features")}
    settings = {"features": body["features"], "k": body["k"]}
    return {**rest, "settings": settings, "wiring": DEFAULT_WIRING}


def _read_provenance(directory: Path, body: Mapping[str, object]) -> DictionaryProvenance:
    provenance, path = body["provenance"], directory / _DESCRIPTION
    if not isinstance(provenance, Mapping):
        raise CorruptData(f"{path} has provenance {provenance!r}; wanted an object")
    try:
        return DictionaryProvenance.from_dict(cast("Mapping[str, object]", provenance))
    except (InvalidInput, CorruptData) as error:
        raise CorruptData(f"the provenance in {path} cannot be read: {error}") from error


def _require_installed(directory: Path, body: Mapping[str, object]) -> None:
    try:
        kind_class(str(body["kind"]))
        wiring_class(str(body["wiring"]))
    except InvalidInput as error:
        raise UnsupportedVersion(
            f"{directory} holds a dictionary of kind {body['kind']!r} and wiring "
            f"{body['wiring']!r}: {error}; install the package that brings it, or upgrade isogloss"
        ) from error


def _assemble(
    directory: Path,
    body: Mapping[str, object],
    tensors: Mapping[str, Tensor],
    provenance: DictionaryProvenance,
) -> SparseDictionary:
    settings, config = body["settings"], provenance.config
    if not isinstance(settings, Mapping):
        raise CorruptData(f"{directory / _DESCRIPTION} has settings {settings!r}; wanted an object")
    try:
        if config is not None:
            kind_of(config)
        dictionary = SparseDictionary.make(
            str(body["kind"]),
            cast("Mapping[str, object]", settings),
            tensors,
            provenance,
            wiring=str(body["wiring"]),
        )
    except (ShapeError, InvalidInput) as error:
        raise CorruptData(f"{directory}: {error}") from error
    if dictionary.width != body["width"]:
        raise CorruptData(
            f"{directory / _WEIGHTS} is of width {dictionary.width}, {_DESCRIPTION} says "
            f"{body['width']}"
        )
    return dictionary
