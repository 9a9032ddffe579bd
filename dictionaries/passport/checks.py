"""Compare a passport with a place of use: a live model, a recording, rows, the weights at hand."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.passport.passport import Passport, activation_of, tensor_samples
from isogloss.dictionaries.passport.result import Difference, PassportPart, PassportResult
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.models import WeightSketch, compare_weights, is_site_of, unwrapped, weight_sketch
from isogloss.site_names import is_same_site
from isogloss.store import RecordingSpec

_SCALE = 2.0
"""Factor by which the median norm of rows may differ from that of the rows trained on. It is a
choice: the median hardly moves with the text, and normalised rows have the norm sqrt(width)."""
LEAST_ROWS = 8
"""Rows whose median norm says something: the first row of a text alone is often a huge one."""
_ROUNDING = 2.0**-7
"""Relative difference that a cast to bfloat16 and back leaves at most, twice over."""


def check_model(passport: Passport, model: object) -> PassportResult:
    """Compare a live model's weights with those that were trained on.

    Args:
        passport: of the dictionary.
        model: a module, or a wrapper of one.
    """
    if not passport.weights:
        return PassportResult(cautions=("the passport has no sketch of the model: not checked",))
    return _of_weights(passport, weight_sketch(model))


def check_site(passport: Passport, sites: Sequence[str]) -> PassportResult:
    """Compare names of sites with those that were trained on; a base model's are the whole's.

    Args:
        passport: of the dictionary.
        sites: paths of submodules of a model that is not at hand.
    """
    return _of_sites(passport, sites, is_same_site)


def check_live_site(passport: Passport, model: object, sites: Sequence[str]) -> PassportResult:
    """Compare sites of a live model with those that were trained on.

    Args:
        passport: of the dictionary.
        model: a module, or a wrapper of one.
        sites: paths in it.
    """
    root = unwrapped(model)
    return _of_sites(passport, sites, lambda one, other: is_site_of(root, one, other))


def check_recording(
    passport: Passport, spec: RecordingSpec, sites: Sequence[str]
) -> PassportResult:
    """Compare a recording with the one that was trained on, by what it says of itself.

    Args:
        passport: of the dictionary.
        spec: of the recording.
        sites: those whose rows are used, in the order of the wiring.
    """
    found = check_site(passport, sites)
    widths = tuple(spec.sites[spec.site_index(site)].width for site in sites)
    if passport.widths and widths != passport.widths:
        found += _other("width", f"widths {list(widths)}, trained on {list(passport.widths)}")
    if passport.tokenizer and spec.tokenizer and spec.tokenizer != passport.tokenizer:
        found += _other("tokenizer", f"tokenizer {spec.tokenizer}, trained on {passport.tokenizer}")
    found += check_begin(passport, spec.provenance.get("begins"))
    sketch = spec.model.ancestry.get("weights")
    if not isinstance(sketch, dict) or not passport.weights:
        return found + PassportResult(cautions=("the model's weights are not known: not checked",))
    return found + _of_weights(passport, WeightSketch.from_dict(sketch))


def check_begin(passport: Passport, begins: str | None) -> PassportResult:
    """Compare what stands before each text with what stood there in training.

    Args:
        passport: of the dictionary.
        begins: token ids before the text, joined by spaces; empty: none; None: not known.
    """
    if passport.begins is None or begins is None or begins == passport.begins:
        return PassportResult()
    return _other(
        "begin",
        f"texts begin with tokens {begins or 'of their own'}, in training with "
        f"{passport.begins or 'tokens of their own'} (a beginning token is missing or too many)",
    )


def check_rows(passport: Passport, rows: Tensor) -> PassportResult:
    """Compare the scale of rows with that of the rows trained on.

    Args:
        passport: of the dictionary.
        rows: activations at the first site of the wiring, ``[..., width]``; fewer than
            :data:`LEAST_ROWS` are not compared.
    """
    width = passport.widths[0] if passport.widths else 0
    if not passport.norms or passport.norms[0] is None or rows.numel() < LEAST_ROWS * width:
        return PassportResult()
    wanted = passport.norms[0]
    flat = rows.detach().to(torch.float32).reshape(-1, width)
    found = float(flat.norm(dim=1).nanmedian())
    if not math.isfinite(found) or wanted / _SCALE <= found <= wanted * _SCALE:
        return PassportResult()
    return _other(
        "scaling",
        f"the median norm of the rows is {found:.3g}, of those trained on {wanted:.3g} (rows that "
        "were normalised, or should have been)",
    )


def check_weights(passport: Passport, dictionary: SparseDictionary) -> PassportResult:
    """Compare a dictionary at hand with what its passport says of it.

    What is found are a threshold or an activation that was lost on the way, another k, and tensors
    that are transposed, reordered or of another dictionary.

    Args:
        passport: that came with the dictionary.
        dictionary: as it was read, in whatever format it came.
    """
    found = PassportResult()
    own = (("kind", dictionary.kind, passport.kind), ("wiring", dictionary.wiring, passport.wiring))
    for name, has, wanted in own:
        if wanted and has != wanted:
            found += _other("activation", f"{name} {has!r}, the passport says {wanted!r}")
    here = activation_of(dictionary)
    for name, wanted in passport.activation.items():
        has = here.get(name)
        if not _agree(has, wanted):
            found += _other("activation", f"{name} is {has}, the passport says {wanted}")
    samples = tensor_samples(dictionary.tensors)
    for name, numbers in passport.tensors.items():
        if name not in samples:
            found += _other("tensors", f"there is no tensor {name!r}, the passport has one")
        elif not _is_same(samples[name], numbers):
            found += _other(
                "tensors",
                f"{name!r} holds other numbers than its passport (transposed, reordered or of "
                "another dictionary)",
            )
    return found


def _of_weights(passport: Passport, found: WeightSketch) -> PassportResult:
    identity = compare_weights(WeightSketch.from_dict(passport.weights), found)
    if identity.answer == "other":
        return _other(
            "model", f"the model is not {passport.model or 'that of the training'}: {identity.why}"
        )
    if identity.answer == "same":
        return PassportResult()
    return PassportResult(
        cautions=(f"the model is {identity.answer}: {identity.why}",),
        descended=identity.answer == "descended",
    )


def _other(part: PassportPart, text: str) -> PassportResult:
    return PassportResult(differences=(Difference(part=part, text=text),))


def _agree(found: object, wanted: object) -> bool:
    if isinstance(found, int | float) and isinstance(wanted, int | float):
        return math.isclose(found, wanted, rel_tol=_ROUNDING, abs_tol=1e-9)
    return found == wanted


def _is_same(found: Sequence[float], wanted: Sequence[float]) -> bool:
    """Return whether numbers agree, up to a cast."""
    return np.allclose(np.asarray(found), np.asarray(wanted), rtol=_ROUNDING, atol=1e-12)


def _of_sites(
    passport: Passport, sites: Sequence[str], is_same: Callable[[str, str], bool]
) -> PassportResult:
    known = passport.sites
    if not known or (len(sites) == len(known) and all(map(is_same, sites, known))):
        return PassportResult()
    return _other("site", f"sites {list(sites)}, trained on {list(passport.sites)}")
