"""Describe what a live model's recording holds: sites with widths, tokenizer, vocabulary, ancestry.

Importing this module loads no torch: the room ``models`` loads it when one of its functions is
first used.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, Protocol, cast, get_args

from isogloss import models
from isogloss.errors import InvalidInput, NotFound
from isogloss.service.values.arguments import check_one_of, check_path, check_text, found
from isogloss.service.values.results import RecordingInfo
from isogloss.store import ModelInfo, RecordingSpec, SiteSpec, check_id

Precision = Literal["bfloat16", "float16", "float32"]
"""Number format in which activations are stored."""


def check_sites(sites: object) -> None:
    """Refuse what are no names of submodules, with InvalidInput."""
    if isinstance(sites, str) or not isinstance(sites, Iterable):
        example = sites if isinstance(sites, str) else "encoder.layer.3"
        raise InvalidInput(f"sites is {found(sites)}; give a list of names: [{example!r}]")
    for name in cast("Iterable[object]", sites):
        if not isinstance(name, str):
            raise InvalidInput(f"sites holds {found(name)}; give names of submodules as text")


def check_recording(recording: object) -> None:
    """Refuse what cannot be the id of a recording, with InvalidInput or InvalidName."""
    check_text("recording", recording, "run-12")
    check_id(str(recording))


def check_place(dtype: object, direct: object, root: object) -> None:
    """Refuse what is no number format or way to the disk, with InvalidInput."""
    check_one_of("dtype", dtype, get_args(Precision))
    check_one_of("direct", direct, (True, False, "auto"))
    check_path("root", root)


class HasVocabulary(Protocol):
    """A tokenizer, as far as recording needs one."""

    def get_vocab(self) -> dict[str, int]:
        """Return the id of each token, by token string."""
        ...


class HasRecordings(Protocol):
    """The method of a client by which a recording is found."""

    def recording(self, recording: str) -> RecordingInfo:
        """Return a recording; NotFound where there is none."""
        ...


def identity_of(
    model: "models.LoadedModel", *, has_fingerprint: bool = True
) -> tuple[ModelInfo, str, tuple[str, ...]]:
    """Return what a recording says of a model: who it is, its tokenizer and its vocabulary.

    Args:
        model: module and tokenizer.
        has_fingerprint: whether its weights can be read, by which related models are told.
    """
    tokenizer = model.tokenizer
    info = ModelInfo(
        name=model.name,
        revision=model.revision,
        ancestry=models.ancestry(model.module, tokenizer) if has_fingerprint else {},
    )
    if tokenizer is None:
        return info, f"ids of {model.name}", ()
    return info, models.tokenizer_id(tokenizer), models.vocabulary(tokenizer)


def begun_with(client: HasRecordings, spec: RecordingSpec, step: int) -> RecordingSpec:
    """Return the specification under which rows of a training step go on in a recording.

    Training changes the weights, and so their fingerprint, by which a recording refuses another
    model. At a step other than 0 the fingerprint of the weights that the recording began with is
    kept. What a recording of an earlier release does not say of itself is left out. All else must
    still be equal: creating the recording refuses it.

    Args:
        client: asks the store.
        spec: of the model as it is now.
        step: training step of its weights.

    Returns:
        ``spec``, with the ancestry of the recording that exists.
    """
    try:
        begun = client.recording(spec.recording).spec
    except NotFound:
        return spec
    ancestry = begun.model.ancestry if step else as_known(spec.model.ancestry, begun.model.ancestry)
    provenance = dict(spec.provenance)
    if "begins" not in begun.provenance:
        provenance.pop("begins", None)
    return replace(spec, model=replace(spec.model, ancestry=ancestry), provenance=provenance)


def as_known(ancestry: Mapping[str, object], begun: Mapping[str, object]) -> Mapping[str, object]:
    """Return a fingerprint without what one of an earlier release does not have.

    Args:
        ancestry: taken now.
        begun: of the recording that exists.
    """
    if "weights" in begun or not begun:
        return ancestry
    return {name: value for name, value in ancestry.items() if name != "weights"}


def describe(
    model: "models.LoadedModel",
    sites: Sequence[str],
    *,
    recording: str,
    corpus: str,
    dtype: Precision,
    has_spans: bool,
    provenance: Mapping[str, str] | None = None,
) -> tuple[RecordingSpec, tuple[str, ...]]:
    """Return the specification of a recording of ``model``, and the vocabulary of its tokenizer.

    Args:
        model: module and tokenizer.
        sites: names of submodules, or glob patterns that match some.
        recording: id of the recording.
        corpus: name of the text.
        dtype: number format in which activations are stored.
        has_spans: whether rows say which code points of the text their token covers.
        provenance: other settings on which the rows depend, such as the precision of the model. A
            recording refuses rows made with other settings than it was begun with.

    Raises:
        UnknownSite: a name matches nothing in the model; the message lists the nearest names.
        InvalidInput: a glob matches sites of several widths.
    """
    found = models.document_sites(model.module, sites)
    check_widths(globs_of(model, sites), {site.name: site.width for site in found})
    info, tokenizer, vocabulary = identity_of(model)
    spec = RecordingSpec(
        recording=recording,
        model=info,
        tokenizer=tokenizer,
        corpus=corpus,
        sites=tuple(SiteSpec(name=s.name, width=s.width, dtype=dtype) for s in found),
        has_spans=has_spans,
        provenance=provenance or {},
    )
    return spec, vocabulary


def globs_of(model: "models.LoadedModel", sites: Sequence[str]) -> Mapping[str, tuple[str, ...]]:
    """Return the globs among the names of sites that match several, with what they match."""
    found = {pattern: models.find_sites(model.module, [pattern]) for pattern in sites}
    return {pattern: names for pattern, names in found.items() if len(names) > 1}


def check_widths(globs: Mapping[str, tuple[str, ...]], widths: Mapping[str, int]) -> None:
    """Refuse a glob whose sites differ in width: most of them were not meant.

    Args:
        globs: names of the sites that each glob matches.
        widths: width of each site.

    Raises:
        InvalidInput: a glob matches sites of several widths; the message names one of each.
    """
    for pattern, names in globs.items():
        first = {widths[name]: name for name in reversed(names)}
        if len(first) > 1:
            listed = ", ".join(f"{name} ({width})" for width, name in sorted(first.items()))
            raise InvalidInput(
                f"{pattern!r} matches {len(names)} sites of {len(first)} widths, such as {listed}: "
                "name each site that is meant, or give a narrower glob"
            )
