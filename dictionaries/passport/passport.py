"""The passport: what a dictionary was trained on, and what it is, as a file beside its weights.

``passport.json``, format version 1::

    {"format": "isogloss-passport", "version": 1, "model": {"name", "revision", "weights"},
     "tokenizer", "sites": [...], "widths": [...], "norms": [...], "dtype", "begins", "padding",
     "kind", "wiring", "activation": {...}, "tensors": {...}}

``weights`` is a sketch of the model's weights (``isogloss.models.WeightSketch``); ``tensors`` holds
12 numbers of each tensor of the dictionary. What is empty, or null, is unknown, and not checked.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.dictionaries.files import read_json, write_json
from isogloss.dictionaries.settings import settings_to_dict
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.errors import CorruptData, UnsupportedVersion

FORMAT, VERSION = "isogloss-passport", 1
PASSPORT_FILE = "passport.json"
SAMPLES = 12
_ACTIVATION = ("k", "features")
"""Settings that decide what fires, of the kinds that have them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Passport:
    """What a dictionary was trained on, and what it is."""

    model: str = ""
    """Name of the model; not compared, since people name models as they like."""
    revision: str = ""
    """Revision of the model."""
    weights: Mapping[str, object] = field(default_factory=dict[str, object])
    """Sketch of the model's weights; empty: not known."""
    tokenizer: str = ""
    """Hash of the tokenizer."""
    sites: tuple[str, ...] = ()
    """Sites, in the order of the wiring; empty: not known."""
    widths: tuple[int, ...] = ()
    """Their widths."""
    norms: tuple[float | None, ...] = ()
    """Of each site the median norm of a row, by which rows in another scale are told."""
    dtype: str = ""
    """Dtype in which the rows were stored."""
    begins: str | None = None
    """Token ids that the tokenizer put before each text, such as ``"0"``; empty: none; None: not
    known."""
    padding: str = "left out"
    """What became of padding and special tokens: they have no row."""
    kind: str = ""
    """Kind of the dictionary."""
    wiring: str = ""
    """Its wiring."""
    activation: Mapping[str, object] = field(default_factory=dict[str, object])
    """What decides which features fire: ``k``, ``threshold`` (the mean), ``features``."""
    tensors: Mapping[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    """Numbers of each tensor, by name."""

    def to_dict(self) -> dict[str, object]:
        """Return the passport as JSON values."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "model": {"name": self.model, "revision": self.revision, "weights": dict(self.weights)},
            "tokenizer": self.tokenizer,
            "sites": list(self.sites),
            "widths": list(self.widths),
            "norms": list(self.norms),
            "dtype": self.dtype,
            "begins": self.begins,
            "padding": self.padding,
            "kind": self.kind,
            "wiring": self.wiring,
            "activation": dict(self.activation),
            "tensors": {name: _pack(values) for name, values in self.tensors.items()},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> "Passport":
        """Read what :meth:`to_dict` wrote.

        Raises:
            UnsupportedVersion: a later release wrote it.
            CorruptData: it is no passport.
        """
        if values.get("format") == FORMAT and values.get("version") != VERSION:
            raise UnsupportedVersion(
                f"the passport has version {values.get('version')!r}; this release reads "
                f"{VERSION}: upgrade isogloss"
            )
        try:
            model = cast("Mapping[str, object]", values["model"])
            tensors = cast("Mapping[str, str]", values["tensors"])
            begins = values["begins"]
            return cls(
                model=str(model["name"]),
                revision=str(model["revision"]),
                weights=dict(cast("Mapping[str, object]", model["weights"])),
                tokenizer=str(values["tokenizer"]),
                sites=tuple(map(str, cast("list[object]", values["sites"]))),
                widths=tuple(map(int, cast("list[int]", values["widths"]))),
                norms=tuple(_norm(norm) for norm in cast("list[object]", values["norms"])),
                dtype=str(values["dtype"]),
                begins=None if begins is None else str(begins),
                padding=str(values["padding"]),
                kind=str(values["kind"]),
                wiring=str(values["wiring"]),
                activation=dict(cast("Mapping[str, object]", values["activation"])),
                tensors={name: _unpack(text) for name, text in tensors.items()},
            )
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise CorruptData(f"not a passport ({error!r}); train or import again") from error


def activation_of(dictionary: SparseDictionary) -> dict[str, object]:
    """Return what decides which features of a dictionary fire, as a passport holds it."""
    settings = settings_to_dict(dictionary.settings)
    found: dict[str, object] = {name: settings[name] for name in _ACTIVATION if name in settings}
    threshold = dictionary.tensors.get("threshold")
    if threshold is not None:
        found["threshold"] = float(threshold.double().mean())
    return found


def tensor_samples(tensors: Mapping[str, Tensor]) -> dict[str, tuple[float, ...]]:
    """Return numbers of each tensor, as a passport holds them."""
    return {name: _samples(tensor) for name, tensor in tensors.items()}


def write_passport(passport: Passport, directory: Path) -> None:
    """Write a passport beside the weights; after any crash it is the old one or the new one."""
    write_json(directory / PASSPORT_FILE, passport.to_dict())


def read_passport(directory: Path) -> Passport | None:
    """Read the passport in a dictionary's directory; None where there is none.

    Raises:
        CorruptData: the file is no passport.
        UnsupportedVersion: a later release wrote it.
    """
    try:
        return Passport.from_dict(read_json(directory / PASSPORT_FILE))
    except FileNotFoundError:
        return None


def _samples(tensor: Tensor) -> tuple[float, ...]:
    shape = tuple(tensor.shape)
    raw = np.random.PCG64(prod(shape)).random_raw(SAMPLES) % np.uint64(max(prod(shape), 1))
    flat = tensor.detach().reshape(-1)
    numbers = flat[torch.from_numpy(raw.astype(np.int64)).to(flat.device)]
    return tuple(float(number) for number in numbers.double())


def _norm(value: object) -> float | None:
    return None if value is None else float(cast("float", value))


def _pack(values: Sequence[float]) -> str:
    return base64.b64encode(np.asarray(values, "<f4").tobytes()).decode()


def _unpack(text: str) -> tuple[float, ...]:
    found: NDArray[np.float32] = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    if len(found) != SAMPLES:
        raise ValueError(f"{len(found)} numbers of a tensor, wanted {SAMPLES}")
    return tuple(float(number) for number in found)
