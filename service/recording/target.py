"""The recording that a live model's rows go to: created with its first rows, and then appended to.

What can be known before the first pass is checked at once. The widths of the sites, and the mode
that the model runs in, are known with the first pass; then the recording is created.
"""

import dataclasses
import logging
import threading
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch import Tensor

from isogloss.errors import AlreadyExists, NotFound
from isogloss.models import LoadedModel, find_sites, relatedness
from isogloss.service.recording.appender import BatchStream
from isogloss.service.recording.description import (
    Precision,
    as_known,
    check_widths,
    globs_of,
    identity_of,
)
from isogloss.service.recording.documents import RecordingClient
from isogloss.service.recording.route import Direct
from isogloss.store import ModelInfo, RecordingSpec, SiteSpec, StepInfo

_log = logging.getLogger(__name__)


class TargetClient(RecordingClient, Protocol):
    """The methods of a client that a recorder uses. Called by several threads."""

    def steps(self, recording: str) -> Sequence[StepInfo]:
        """Return the training steps of which a recording has rows."""
        ...

    def check_route(self, direct: Direct, root: Path | str | None) -> None:
        """Raise an error where the storage must be written directly and cannot be."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """A recording as far as it is known before the first pass."""

    recording: str
    """Id of the recording."""
    model: ModelInfo
    """Name and fingerprint of the model."""
    tokenizer: str
    """Name or hash of the tokenizer."""
    vocabulary: tuple[str, ...]
    """The tokenizer's token strings."""
    corpus: str
    """Name of the text."""
    sites: tuple[str, ...]
    """Names of submodules."""
    dtype: Precision
    """Number format in which activations are stored."""
    has_spans: bool
    """Whether rows say which code points of their document they cover."""
    provenance: Mapping[str, str]
    """Settings on which the rows depend."""
    is_trained: bool
    """Whether the weights change between passes: their fingerprint may then differ."""
    globs: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """The sites that each glob matched, which must be of one width."""

    def spec(self, widths: Mapping[str, int], seen: Mapping[str, str]) -> RecordingSpec:
        """Return the specification of the recording.

        Args:
            widths: width of each site.
            seen: settings that the first pass showed.

        Raises:
            InvalidInput: a glob matched sites of several widths.
        """
        check_widths(self.globs, widths)
        return RecordingSpec(
            recording=self.recording,
            model=self.model,
            tokenizer=self.tokenizer,
            corpus=self.corpus,
            sites=tuple(SiteSpec(name=s, width=widths[s], dtype=self.dtype) for s in self.sites),
            has_spans=self.has_spans,
            provenance={**self.provenance, **seen},
        )

    def check(self, spec: RecordingSpec) -> None:
        """Raise an error where a recording that exists is not what is described here.

        Args:
            spec: specification of that recording. What only the first pass tells is not compared.

        Raises:
            AlreadyExists: it differs; the message says in what.
        """
        sites = [(site.name, site.dtype) for site in spec.sites]
        pairs: list[tuple[str, object, object]] = [
            ("model", spec.model.name, self.model.name),
            ("tokenizer", spec.tokenizer, self.tokenizer),
            ("corpus", spec.corpus, self.corpus),
            ("sites", sites, [(name, self.dtype) for name in self.sites]),
            ("has_spans", spec.has_spans, self.has_spans),
        ]
        known = {**dict.fromkeys(SETTINGS, ""), **self.provenance}
        pairs += [(key, spec.provenance.get(key, ""), known[key]) for key in SETTINGS]
        for what, found, wanted in pairs:
            if found != wanted:
                raise AlreadyExists(
                    f"recording {self.recording!r} exists with {what} {found!r}, not {wanted!r}: "
                    "record under another id"
                )
        self._check_weights(spec.model)

    def _check_weights(self, model: ModelInfo) -> None:
        own = as_known(self.model.ancestry, model.ancestry)
        if model.ancestry == own or not (model.ancestry and own):
            return
        if not self.is_trained:
            raise AlreadyExists(
                f"recording {self.recording!r} exists, of other weights of {model.name!r}: give "
                "step= if this model is being trained, or record under another id"
            )
        found = relatedness(model.ancestry, self.model.ancestry)
        if not found.related and not found.why.startswith("nothing to compare"):
            raise AlreadyExists(
                f"recording {self.recording!r} exists, of weights that share nothing with these "
                f"({found.why}): record under another id"
            )


def describe_live(
    model: LoadedModel,
    sites: Sequence[str],
    *,
    recording: str,
    corpus: str,
    dtype: Precision,
    has_spans: bool,
    provenance: Mapping[str, str],
    is_trained: bool,
) -> Description:
    """Describe the recording of a live model as far as it is known before its first pass.

    Args:
        model: module and tokenizer. Weights that are sharded over processes, or not in memory,
            have no fingerprint.
        sites: names of submodules, or glob patterns that match some.
        recording: id of the recording.
        corpus: name of the text.
        dtype: number format in which activations are stored.
        has_spans: whether rows say which code points of the text their token covers.
        provenance: settings on which the rows depend.
        is_trained: whether the weights change between passes.

    Raises:
        UnknownSite: a name matches nothing in the model; the message lists the nearest names.
    """
    names = find_sites(model.module, sites)
    is_whole = all(not p.is_meta and type(p.data) is Tensor for p in model.module.parameters())
    if not is_whole:
        _log.warning(
            "weights of %s are sharded, or not in memory: recording %r has no fingerprint of them, "
            "by which related models are told; call client.record before they are sharded",
            model.name,
            recording,
        )
    info, tokenizer, vocabulary = identity_of(model, has_fingerprint=is_whole)
    return Description(
        recording=recording,
        model=info,
        tokenizer=tokenizer,
        vocabulary=vocabulary,
        corpus=corpus,
        sites=names,
        dtype=dtype,
        has_spans=has_spans,
        provenance=provenance,
        is_trained=is_trained,
        globs=globs_of(model, sites),
    )


SETTINGS = ("skip_first", "sample", "call", "layout", "ids")
"""Settings in a recording's provenance that decide which rows it holds, or where they are read."""


class Target:
    """A recording that may not exist yet, and one producer's stream into it."""

    def __init__(
        self,
        client: TargetClient,
        description: Description,
        *,
        direct: Direct = False,
        root: Path | str | None = None,
    ) -> None:
        """Check what can be checked before the first pass.

        Args:
            client: makes the calls.
            description: the recording as far as it is known.
            direct: whether the storage is written directly.
            root: path of the store on this machine.

        Raises:
            AlreadyExists: a different recording has that id.
            NotPermitted: the storage must be written directly, and this process does not see it.
            ServerUnavailable: no server answers.
        """
        self.description = description
        self._client = client
        self._direct: Direct = direct
        self._root = root
        self._lock = threading.Lock()
        self._taken: dict[int, set[int]] = {}
        self._stored: dict[int, Mapping[int, int] | None] | None = None
        client.check_route(direct, root)
        self.spec = self._find()
        """The recording's specification; None as long as there is no such recording."""

    def create(self, widths: Mapping[str, int], seen: Mapping[str, str]) -> RecordingSpec:
        """Return the recording's specification; create the recording if it does not exist.

        Args:
            widths: width of each site.
            seen: settings that the first pass showed.

        Raises:
            AlreadyExists: a different recording has that id.
        """
        if self.spec is None:
            wanted = self.description.spec(widths, seen)
            try:
                made = self._client.create_recording(wanted, self.description.vocabulary)
                self.spec = made.spec
            except AlreadyExists:  # by another rank, a moment ago
                self.spec = self._find()
                if self.spec is None:
                    raise
        for site in self.spec.sites:
            if site.width != widths[site.name]:
                raise AlreadyExists(
                    f"recording {self.spec.recording!r} exists with site {site.name!r} of width "
                    f"{site.width}, not {widths[site.name]}: record under another id"
                )
        return self.spec

    def open(self, producer: str) -> BatchStream:
        """Open a producer's stream into the recording, which exists.

        Raises:
            Conflict: another process writes a direct lane for this producer.
            IsoglossError: the stream cannot be opened.
        """
        return self._client.stream(
            self.description.recording, producer, direct=self._direct, root=self._root
        )

    def known(self, step: int) -> AbstractSet[int]:
        """Return the ids of the documents that are not stored again at a training step.

        Those that the recording held when it was opened; and, in training, those that were sent
        since. Outside training (step 0, and no step was named) a loop that shows a document again
        means it.
        """
        if self.spec is None:
            return frozenset()
        with self._lock:
            held = self._stored_at(step).keys()
            if not self.is_once(step):
                return held
            return held | self._taken.get(step, set())

    def is_once(self, step: int) -> bool:
        """Say whether a document that is shown again at a step is not meant to be stored again."""
        return step != 0 or self.description.is_trained

    def take(self, step: int, documents: AbstractSet[int]) -> None:
        """Note documents that were sent since."""
        with self._lock:
            self._taken.setdefault(step, set()).update(documents)

    def has(self, step: int, document: int) -> bool:
        """Say whether the recording held a document at a training step, or it was sent since."""
        known = self.known(step)
        with self._lock:
            return document in known or document in self._taken.get(step, ())

    def stored_rows(self, document: int, step: int) -> int:
        """Return how many rows of a document the recording held at a step when it was opened."""
        with self._lock:
            return self._stored_at(step).get(document, 0)

    def _stored_at(self, step: int) -> Mapping[int, int]:
        if self._stored is None:  # steps that come later hold nothing yet
            found = self._client.steps(self.description.recording)
            self._stored = {info.step: None for info in found}
        if step not in self._stored:
            return {}
        stored = self._stored[step]
        if stored is None:
            stored = self._client.known_documents(self.description.recording, step)
            self._stored[step] = stored
        return stored

    def _find(self) -> RecordingSpec | None:
        # checks the id too, as a recording that is created later would
        dataclasses.replace(_PLAIN, recording=self.description.recording)
        try:
            spec = self._client.recording(self.description.recording).spec
        except NotFound:
            return None
        self.description.check(spec)
        return spec


_PLAIN = RecordingSpec(
    recording="any",
    model=ModelInfo(name=""),
    tokenizer="",
    corpus="",
    sites=(SiteSpec(name="-", width=1),),
    has_spans=False,
)
