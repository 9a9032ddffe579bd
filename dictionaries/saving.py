"""A dictionary as a directory: ``weights.safetensors`` and ``dictionary.json``, nothing pickled.

``dictionary.json`` is written last and holds the checksum of the weights: a directory without it
is no dictionary, a directory with it is a whole one. Format version 1::

    {"format": "isogloss-dictionary", "version": 1, "kind": "topk", "k": 32,
     "features": 4096, "width": 384, "files": {"weights.safetensors": "<sha256>"},
     "provenance": {...}}

Tensors, all float32: ``encoder`` and ``decoder`` ``[features, width]``, ``encoder_bias``
``[features]``, ``decoder_bias`` ``[width]``; they apply to raw activations.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from torch import Tensor

from isogloss.dictionaries.autoencoder import TENSORS, SparseAutoencoder, weights_hash
from isogloss.dictionaries.dictionary import Dictionary
from isogloss.dictionaries.files import (
    check_sha256,
    read_json,
    read_tensors,
    write_json,
    write_tensors,
)
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.errors import (
    AlreadyExists,
    CorruptData,
    InvalidInput,
    NotFound,
    ShapeError,
    UnsupportedVersion,
)
from isogloss.kernels import Weights

FORMAT = "isogloss-dictionary"
VERSION = 1

_WEIGHTS = "weights.safetensors"
_DESCRIPTION = "dictionary.json"
_KEYS = {"format", "version", "kind", "k", "features", "width", "files", "provenance"}


def save_dictionary(dictionary: Dictionary, directory: Path) -> None:
    """Write a dictionary into ``directory``, created when missing; other files there stay.

    Durable when it returns; after a crash there is a whole dictionary or none. Saving the same
    weights again does nothing.

    Raises:
        AlreadyExists: the directory holds another dictionary.
        InvalidInput: the dictionary is of a kind that this release does not save.
    """
    if not isinstance(dictionary, SparseAutoencoder):
        raise InvalidInput(
            f"a {type(dictionary).__name__} has no saved form; save a SparseAutoencoder"
        )
    description = directory / _DESCRIPTION
    if description.exists():
        found = load_provenance(directory).weights_sha256
        if found == weights_hash(dictionary.weights):
            return
        raise AlreadyExists(
            f"{directory} holds a dictionary with weights {found[:12]}; "
            "save to another directory or delete that one"
        )
    directory.mkdir(parents=True, exist_ok=True)
    digest = write_tensors(directory / _WEIGHTS, dictionary.weights.named())
    provenance = dictionary.provenance.to_dict()
    provenance["weights_sha256"] = weights_hash(dictionary.weights)
    body: dict[str, object] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": dictionary.kind,
        "k": dictionary.k,
        "features": dictionary.features,
        "width": dictionary.width,
        "files": {_WEIGHTS: digest},
        "provenance": provenance,
    }
    write_json(description, body)


def load_dictionary(directory: Path) -> Dictionary:
    """Read a dictionary and check its bytes.

    Raises:
        NotFound: the directory holds no dictionary.
        UnsupportedVersion: a newer release wrote it.
        CorruptData: bytes do not match their checksum or their description.
    """
    body = _read_description(directory)
    files = body["files"]
    if not isinstance(files, Mapping) or set(cast("Mapping[str, object]", files)) != {_WEIGHTS}:
        raise CorruptData(f"{directory / _DESCRIPTION} lists files {files!r}; wanted {_WEIGHTS}")
    tensors = read_tensors(directory / _WEIGHTS, cast("Mapping[str, object]", files)[_WEIGHTS])
    if set(tensors) != set(TENSORS):
        raise CorruptData(f"{directory / _WEIGHTS} holds {sorted(tensors)}; wanted {TENSORS}")
    provenance = _read_provenance(body)
    dictionary = _assemble(directory, body, tensors, provenance)
    found = weights_hash(dictionary.weights)
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
    return _read_provenance(_read_description(directory))


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
    if body.get("version") != VERSION:
        raise UnsupportedVersion(
            f"{directory / _DESCRIPTION} has version {body.get('version')!r}; this release reads "
            f"{VERSION}; upgrade isogloss"
        )
    if set(body) != _KEYS:
        raise CorruptData(
            f"{directory / _DESCRIPTION} has keys {sorted(body)}; wanted {sorted(_KEYS)}"
        )
    return body


def _read_provenance(body: Mapping[str, object]) -> DictionaryProvenance:
    provenance = body["provenance"]
    if not isinstance(provenance, Mapping):
        raise CorruptData(f"provenance is {provenance!r}; wanted an object")
    try:
        return DictionaryProvenance.from_dict(cast("Mapping[str, object]", provenance))
    except InvalidInput as error:
        raise CorruptData(f"provenance cannot be read: {error}") from error


def _assemble(
    directory: Path,
    body: Mapping[str, object],
    tensors: Mapping[str, Tensor],
    provenance: DictionaryProvenance,
) -> SparseAutoencoder:
    if body["kind"] != "topk":
        raise UnsupportedVersion(
            f"{directory} holds a dictionary of kind {body['kind']!r}; this release reads 'topk'; "
            "upgrade isogloss"
        )
    k = body["k"]
    if not isinstance(k, int) or isinstance(k, bool):
        raise CorruptData(f"{directory / _DESCRIPTION} has k {k!r}; wanted an integer")
    try:
        dictionary = SparseAutoencoder(weights=Weights(**tensors), k=k, provenance=provenance)
    except (ShapeError, InvalidInput) as error:
        raise CorruptData(f"{directory}: {error}") from error
    shape = (dictionary.features, dictionary.width)
    if shape != (body["features"], body["width"]):
        raise CorruptData(
            f"{directory / _WEIGHTS} is of shape {shape}, {_DESCRIPTION} says "
            f"{(body['features'], body['width'])}"
        )
    return dictionary
