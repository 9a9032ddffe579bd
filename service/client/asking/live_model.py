"""What a live model makes of a text, for dictionaries that were trained on recordings of it."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from isogloss import models
from isogloss.errors import InvalidInput
from isogloss.service.client.dictionaries import dictionaries, get_dictionary
from isogloss.service.client.recordings import recording as get_recording
from isogloss.service.transport.call import Call
from isogloss.service.values.results import DictionaryInfo, Skipped
from isogloss.store import ModelInfo

if TYPE_CHECKING:
    from torch import nn

    from isogloss.models import LoadedModel

_fingerprints: "WeakKeyDictionary[nn.Module, tuple[object, Mapping[str, object]]]" = (
    WeakKeyDictionary()
)
"""Of models that were asked about: the state of their weights then, and their fingerprint."""


def check_model(model: object) -> "LoadedModel":
    """Return a live model, or raise InvalidInput with how to make one."""
    if isinstance(model, models.LoadedModel):
        return model
    raise InvalidInput(
        f"model is a {type(model).__name__}, wanted a LoadedModel, which runs the text here: give "
        "model=load_model(...), or LoadedModel(module=..., tokenizer=..., name=...)"
    )


def dictionaries_of(
    model: "LoadedModel", among: Sequence[str] | None
) -> Call[tuple[list[DictionaryInfo], list[Skipped]]]:
    """Find the dictionaries that were trained on recordings of a model.

    Args:
        model: the live model.
        among: ids of dictionaries; None: all.

    Returns:
        Those of one site of a recording of this model, by its fingerprint; and the others with the
        reason.

    Raises:
        NotFound: there is no such dictionary.
    """
    found: list[DictionaryInfo] = []
    if among is None:
        found += yield from dictionaries()
    else:
        for name in dict.fromkeys(among):
            found.append((yield from get_dictionary(name)))
    own = ModelInfo(name=model.name, revision=model.revision, ancestry=_fingerprint(model))
    reasons: dict[str, str] = {}
    for info in found:
        if info.recording not in reasons:
            recorded = yield from get_recording(info.recording)
            reasons[info.recording] = _other_model(own, recorded.spec.model)
    why = {info.id: _several(info) or reasons[info.recording] for info in found}
    return (
        [info for info in found if not why[info.id]],
        [Skipped(dictionary=name, why=reason) for name, reason in why.items() if reason],
    )


def _fingerprint(model: "LoadedModel") -> Mapping[str, object]:
    """Return the fingerprint of a model; taken again only after a weight changed.

    It took 0.4 s of a question about a text, of a model of 70 million weights.
    """
    weights = list(model.module.parameters())
    if any(weight.is_inference() for weight in weights):  # torch does not count their changes
        return models.ancestry(model.module, model.tokenizer)
    state = (
        id(model.tokenizer),
        tuple((weight.data_ptr(), weight._version) for weight in weights),
    )
    kept = _fingerprints.get(model.module)
    if kept is None or kept[0] != state:
        kept = _fingerprints[model.module] = (state, models.ancestry(model.module, model.tokenizer))
    return kept[1]


def _several(info: DictionaryInfo) -> str:
    if len(info.sources) == 1:
        return ""
    return f"it is a {info.wiring} of {len(info.sources)} sites: encode its rows with client.encode"


def _other_model(own: ModelInfo, recorded: ModelInfo) -> str:
    """Return why a recording is not of a model; empty where it is, or descends from it."""
    if not own.ancestry or not recorded.ancestry:
        is_same = own.name == recorded.name
        return "" if is_same else f"its recording is of {recorded.name!r}, not of {own.name!r}"
    found = models.relatedness(own.ancestry, recorded.ancestry)
    if found.related:
        return ""
    return f"its recording is of another model, {recorded.name!r}: {found.why}"


def rows_of(
    model: "LoadedModel", text: str | Sequence[int], sites: Sequence[str]
) -> Mapping[str, NDArray[np.float32]]:
    """Run a model over a text and return its activations, as recording it would store them.

    Args:
        model: the live model.
        text: the text, whose special tokens have no row; token ids for a model without tokenizer.
        sites: names of submodules, with or without the prefix of the model's base.

    Returns:
        ``[tokens, width]`` for each of these names.

    Raises:
        InvalidInput: the text is empty, or has no token.
        UnknownSite: the model has no such site.
    """
    # torch takes a second to import, and only who runs a model needs it
    import torch

    if isinstance(text, str) is (model.tokenizer is None):
        wanted = "token ids, as the model has no tokenizer" if isinstance(text, str) else "text"
        raise InvalidInput(f"text is {type(text).__name__}, wanted {wanted}")
    documents = [models.TextDocument(text=text)] if isinstance(text, str) else [list(text)]
    root = models.unwrapped(model)
    own = {site: models.find_sites(root, [site])[0] for site in sites}  # under its own name
    names = list(dict.fromkeys(own.values()))
    pieces = list(models.record(model, documents, names, dtype=torch.float32))
    if not sum(piece.rows for piece in pieces):
        raise InvalidInput(f"text {text[:40]!r} has no token: give some words")
    return {
        site: np.concatenate([piece.sites[name].numpy(force=True) for piece in pieces])
        for site, name in own.items()
    }
