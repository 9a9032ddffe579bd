"""A model, a recording of it, and a dictionary with its passport, without training."""

from dataclasses import replace

from tests.dictionaries.live.planted import WIDTH, random_dictionary
from tests.dictionaries.live.tiny_gpt import SITE, tiny_gpt

from isogloss.dictionaries import Passport, SparseDictionary
from isogloss.dictionaries.passport.passport import activation_of, tensor_samples
from isogloss.models import ancestry, weight_sketch
from isogloss.store import ModelInfo, RecordingSpec, SiteSpec


def passport_of(dictionary: SparseDictionary, **known: object) -> Passport:
    """The passport of a dictionary that was trained on the tiny model."""
    made = Passport(
        model="tiny",
        weights=weight_sketch(tiny_gpt()).to_dict(),
        tokenizer="words",
        sites=(SITE,),
        widths=(dictionary.width,),
        norms=(None,),
        dtype="float32",
        begins="0",
        kind=dictionary.kind,
        wiring=dictionary.wiring,
        activation=activation_of(dictionary),
        tensors=tensor_samples(dictionary.tensors),
    )
    return replace(made, **known)  # type: ignore[arg-type]


def recording_spec(seed: int = 0, *, site: str = SITE, begins: str | None = "0") -> RecordingSpec:
    """What a recording of the tiny model says of itself."""
    return RecordingSpec(
        recording="r",
        model=ModelInfo(name="whatever", ancestry=ancestry(tiny_gpt(seed))),
        tokenizer="words",
        corpus="c",
        sites=(SiteSpec(name=site, width=WIDTH, dtype="float32"),),
        has_spans=False,
        provenance={} if begins is None else {"begins": begins},
    )


__all__ = ["passport_of", "random_dictionary", "recording_spec"]
