"""What a client gets back: plain values, the same in this process and over the network."""

import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from isogloss.dictionaries import TokenEffect, TokenEffects
from isogloss.errors import InvalidInput
from isogloss.service.values import html
from isogloss.service.values.arguments import check_text, check_whole
from isogloss.short_repr import short_repr
from isogloss.store import RecordingSpec, Revision


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordingInfo:
    """A recording as it stands."""

    uid: str
    """Never given twice; an id may be, after its recording was deleted."""
    etag: str
    """Names this version of it; deleting asks for it."""
    spec: RecordingSpec
    """Model, tokenizer, corpus, sites."""
    revision: Revision
    """Its committed rows now."""
    created: float
    """Seconds since the epoch."""
    has_steps: bool = False
    """Whether rows may be of a training step other than 0; ``client.steps`` tells which."""

    __repr__ = short_repr

    @property
    def id(self) -> str:
        """Resource id."""
        return self.spec.recording

    @property
    def rows(self) -> int:
        """Committed rows."""
        return self.revision.rows

    def _repr_html_(self) -> str:
        facts = {
            "model": self.spec.model.name,
            "corpus": self.spec.corpus,
            "rows": self.rows,
            "created": html.when(self.created),
        }
        sites = [(site.name, site.width, site.dtype) for site in self.spec.sites]
        shown = html.table(("site", "width", "stored as"), sites)
        return html.card(f"Recording {self.id}", facts, shown)


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureRef:
    """Names one feature of one dictionary."""

    dictionary: str
    """Id of the dictionary."""
    feature: int
    """Index, from 0."""

    def __post_init__(self) -> None:
        check_whole("feature", self.feature, 0)
        object.__setattr__(self, "feature", operator.index(self.feature))  # of numpy and torch too

    def __str__(self) -> str:
        return f"{self.dictionary}/{self.feature}"


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteRef:
    """Names one site of one recording."""

    recording: str
    """Id of the recording."""
    site: str
    """Name of the site."""

    def __post_init__(self) -> None:
        check_text("recording", self.recording, "minilm-docs")
        check_text("site", self.site, "encoder.layer.3")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceInfo:
    """A site whose rows a dictionary was trained on."""

    recording: str
    """Id of the recording."""
    recording_uid: str
    """Uid of that recording: its id may be given to another one later."""
    site: str
    """Name of the site."""
    revision: Revision
    """The rows that were trained on."""
    steps: tuple[int, ...] = (0,)
    """Training steps of the recorded model that these rows are of; 0: outside training."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class KindInfo:
    """A kind of dictionary that can be trained."""

    name: str
    """What ``client.train(kind=...)`` takes."""
    summary: str
    """What it is, in a line."""
    schema: Mapping[str, object]
    """JSON schema of its settings: names, types, ranges, defaults, descriptions."""
    is_default: bool
    """Whether it is trained where no kind is named."""
    problem: str
    """Why it cannot be trained, such as a package that does not import; empty: it can."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class DictionaryInfo:
    """A trained dictionary."""

    id: str
    """Resource id."""
    uid: str
    """Never given twice."""
    etag: str
    """Names this version of it; deleting asks for it."""
    kind: str
    """Name of its kind: activation, loss and state."""
    settings: Mapping[str, object]
    """Settings of its kind, written out in full, such as ``{"features": 4096, "k": 32}``."""
    wiring: str
    """Name of its wiring: which sites go in and which come out."""
    features: int
    """Number of features."""
    width: int
    """Numbers in a row that it reads."""
    sources: tuple[SourceInfo, ...]
    """What it was trained on, in the order in which the wiring takes sites; at least one."""
    metrics: Mapping[str, float]
    """Figures of the finished run, such as ``fvu``."""
    provenance: Mapping[str, object]
    """Configuration, seed, hashes and training curve, as JSON values."""
    created: float
    """Seconds since the epoch."""

    __repr__ = short_repr

    @property
    def recording(self) -> str:
        """Id of the recording of its first source."""
        return self.sources[0].recording

    @property
    def site(self) -> str:
        """Site of its first source."""
        return self.sources[0].site

    def _repr_html_(self) -> str:
        facts = {
            "trained on": ", ".join(f"{one.site} of {one.recording}" for one in self.sources),
            "kind": f"{self.kind}, {self.wiring}",
            "features": self.features,
            "active a row": self.metrics.get("l0"),
            "variance unexplained": self.metrics.get("fvu"),
            "of usual rows": self.metrics.get("usual_fvu"),
            "dead": self.metrics.get("dead_fraction"),
            "created": html.when(self.created),
        }
        return html.card(f"Dictionary {self.id}", facts)

    def feature(self, feature: int) -> FeatureRef:
        """Return a reference to one feature, as :meth:`Client.nearest` and others take it.

        Args:
            feature: number of the feature, from 0.

        Returns:
            The id of this dictionary and the number.

        Raises:
            InvalidInput: ``feature`` is not in ``[0, features)``.
        """
        check_whole("feature", feature, None)
        if not 0 <= feature < self.features:
            raise InvalidInput(
                f"feature {feature} is not in [0, {self.features}) of dictionary {self.id!r}"
            )
        return FeatureRef(dictionary=self.id, feature=feature)


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeInfo:
    """A pinned set of documents on which features are compared."""

    id: str
    """Resource id."""
    uid: str
    """Never given twice."""
    etag: str
    """Names this version of it."""
    recordings: tuple[str, ...]
    """Ids of the recordings whose shared documents it holds."""
    dictionaries: tuple[str, ...]
    """Ids of the dictionaries encoded on it."""
    grid: str
    """``tokens`` or ``word_ends``: what the segments are."""
    documents: int
    """Number of documents."""
    segments: int
    """Number of segments."""
    created: float
    """Seconds since the epoch."""
    steps: tuple[int, ...] = ()
    """Training steps that it compares at, of recordings that have several; empty: each dictionary
    at the one that it was trained on."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class Hit:
    """A feature that fires like another one, or on a text, or that writes a direction.

    What was not asked for is 0.
    """

    dictionary: str
    """Id of its dictionary."""
    feature: int
    """Its index."""
    r: float
    """Pearson correlation over the probe."""
    excess: float
    """``r`` less what the tokens alone explain."""
    margin: float
    """``r`` less the next best of the same dictionary."""
    mutual: bool
    """Whether each is the other's best."""
    cofires: int
    """Segments on which both fire."""
    fires: int
    """Segments on which this one fires."""
    partial_token: float
    """Correlation among segments of the same token; NaN where neither varies there."""
    activation: float = 0.0
    """Of a text: its highest activation there."""
    row: int = 0
    """Of a text: the token on which that is, from 0."""
    rows: int = 0
    """Of a text: tokens on which it fires."""
    share: float = 0.0
    """Of a text: ``activation`` over its highest on the newest probe; 0 where it is on none."""
    cosine: float = 0.0
    """Of a direction: its cosine with the direction that the feature writes."""
    read_cosine: float = 0.0
    """Of a direction: its cosine with the direction that the feature reads; 0 where it has none."""

    @property
    def ref(self) -> FeatureRef:
        """The feature's name."""
        return FeatureRef(dictionary=self.dictionary, feature=self.feature)


@dataclass(frozen=True, kw_only=True, slots=True)
class Skipped:
    """A dictionary that could not be compared."""

    dictionary: str
    """Its id."""
    why: str
    """Why not, and what would help."""


class Hits(list[Hit]):
    """Features that fire like something, best first, and what could not be compared with it."""

    def __init__(
        self, hits: Iterable[Hit] = (), *, skipped: Iterable[Skipped] = (), probe: str = ""
    ) -> None:
        """Make a list of hits.

        Args:
            hits: the hits, best first.
            skipped: dictionaries that were left out.
            probe: id of the probe on which features were compared; empty where none was.
        """
        super().__init__(hits)
        self.skipped = tuple(skipped)
        """Dictionaries that were left out, with the reason."""
        self.probe = probe
        """Id of the probe on which features were compared; empty where none was."""

    def __repr__(self) -> str:
        shown = ", ".join(f"{hit.ref} {_score(hit)}" for hit in self[:_SHOWN_HITS])
        more = f", and {len(self) - _SHOWN_HITS} more" if len(self) > _SHOWN_HITS else ""
        skipped = f"; skipped {', '.join(one.dictionary for one in self.skipped)}"[:200]
        return f"Hits({shown}{more}{skipped if self.skipped else ''})"

    def _repr_html_(self) -> str:
        titles = ("r", "given token", "margin", "activation", "share", "cosine")
        fields = ("r", "partial_token", "margin", "activation", "share", "cosine")
        used = [
            place
            for place, name in enumerate(fields)
            if any(not math.isnan(value := getattr(hit, name)) and value for hit in self)
        ]
        rows = [
            (hit.dictionary, hit.feature, *(getattr(hit, fields[place]) for place in used))
            for hit in self
        ]
        shown = html.table(
            ("dictionary", "feature", *(titles[place] for place in used)), rows, "no hit"
        )
        skipped = {one.dictionary: one.why for one in self.skipped}
        return html.card("Nearest features", {"probe": self.probe}, shown) + (
            html.card("Left out", skipped) if skipped else ""
        )


_SHOWN_HITS = 8


def _score(hit: Hit) -> str:
    """Write by what a hit was found."""
    for name in ("r", "cosine", "share", "activation"):
        value: float = getattr(hit, name)
        if value:
            return f"{name} {value:.3f}"
    return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureContext:
    """One place where a feature fires."""

    document: int
    """Id of the document."""
    before: str
    """Text in front."""
    peak: str
    """The segment on which it fires."""
    after: str
    """Text behind."""
    value: float
    """Activation there."""

    __repr__ = short_repr


@dataclass(frozen=True, kw_only=True, slots=True)
class FeatureInfo:
    """What a feature does on a probe."""

    dictionary: str
    """Id of its dictionary."""
    feature: int
    """Its index."""
    probe: str
    """Id of the probe."""
    fires: int
    """Segments on which it is active."""
    density: float
    """``fires`` over the segments present."""
    max_activation: float
    """Its highest activation."""
    contexts: tuple[FeatureContext, ...]
    """Where it fires most strongly, strongest first."""
    token_effects: TokenEffects | None = None
    """Which next tokens it promotes and suppresses; None: nothing was kept of it, see
    :meth:`isogloss.service.Client.keep_token_effects`."""

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        segments = "1 segment" if self.fires == 1 else f"{self.fires:,} segments"
        facts = {
            "fires on": f"{segments} of probe {self.probe}",
            "density": self.density,
            "highest activation": self.max_activation,
        }
        if self.token_effects is not None:
            for name in ("promoted", "suppressed"):
                tokens: tuple[TokenEffect, ...] = getattr(self.token_effects, name)
                facts[name] = ", ".join(f"{one.token} {one.change:+.3f}" for one in tokens)
        places = html.passages((c.before, c.peak, c.after, c.value) for c in self.contexts)
        return html.card(f"Feature {self.feature} of {self.dictionary}", facts, places)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProbeSegments:
    """The segments of a probe, in the order in which codes on it have their rows."""

    document: NDArray[np.uint64]
    """Id of the document of each segment, ``[segments]``; see ``client.documents``."""
    span: NDArray[np.uint32]
    """Code points ``[start, end)`` in its text; on the grid of tokens the token's position twice,
    ``[segments, 2]``."""
    half: NDArray[np.int8]
    """0: chooses pairs; 1: reports on them, ``[segments]``."""
    row: NDArray[np.int64] | None
    """Row of the recording that was named, -1 where it has none, ``[segments]``; None: none was."""
    revision: Revision | None
    """Revision of the recording that ``row`` counts in; give it to ``client.read``."""

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.document)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairInfo:
    """Two features of two dictionaries that are each other's best match."""

    feature_a: int
    """Feature of the first dictionary."""
    feature_b: int
    """Feature of the second dictionary."""
    r_choose: float
    """Correlation on the documents that chose the pair."""
    margin: float
    """``r_choose`` less the best that either has with another partner."""
    r: float
    """Correlation on the other documents."""
    ci_low: float
    """Lower end of the interval of ``r`` over sources of text; NaN with fewer than 20 sources."""
    ci_high: float
    """Upper end of it."""
    fires_a: int
    """Segments on which the first fires."""
    fires_b: int
    """Segments on which the second fires."""
    cofires: int
    """Segments on which both fire."""
    jaccard: float
    """``cofires`` over the segments on which either fires."""
    token_null: float
    """r expected from the tokens alone; NaN where they hardly recur."""
    position_null: float
    """r expected from positions alone."""
    document_null: float
    """r expected from documents alone."""
    partial_token: float
    """Correlation among segments of the same token."""
    explained_by: str
    """``token``, ``position``, ``document`` or ``none``."""
    ci_high_loose: bool
    """Fewer than 10 co-firings, or a few strong rows hold the variance of a feature: the truth may
    lie above ``ci_high``."""
    rank_a: int
    """Rank of ``feature_a`` among the partners of ``feature_b`` on the other documents; 1 is the
    best."""
    rank_b: int
    """Rank of ``feature_b`` among the partners of ``feature_a``."""
    eta2_token_a: float
    """Share of the first feature's variance that the token explains; NaN as ``token_null``."""
    eta2_token_b: float
    """Share of the second feature's variance that the token explains; NaN as ``token_null``."""
    replicates: str
    """``yes``, ``no`` or ``undecided``: whether the pair holds on the other documents."""
    beyond_token: str
    """``yes``, ``no`` or ``undecided``: whether it shares more than its token."""
    beyond_partial: float
    """Correlation among segments of the same token, of compressed codes."""
    beyond_low: float
    """Lower end of its 90 % interval over sources."""
    beyond_high: float
    """Upper end of it."""
    beyond_p: float
    """Chance that a shuffle among segments of the same token gives so high a partial."""
    movable: int
    """Firings on tokens that stand in other segments too, of the feature that has fewer."""
    positional: bool
    """The position explains what the pair shares beyond its token."""
    cosine: float
    """Of the codes, not centred: Σab / √(Σa² Σb²)."""
    b_given_a: float
    """Share of the segments on which the first fires where the second does too."""
    a_given_b: float
    """Share of the segments on which the second fires where the first does too."""
    decoder_cosine: float
    """Of the directions that they write; NaN where widths differ or a side has no weights."""
    encoder_cosine: float
    """Of the directions that they read; NaN as ``decoder_cosine``."""

    __repr__ = short_repr

    @property
    def replicated(self) -> bool:
        """Whether ``replicates`` is ``yes``."""
        return self.replicates == "yes"

    @property
    def excess(self) -> float:
        """``r`` less what the tokens alone explain."""
        return self.r - self.token_null if math.isfinite(self.token_null) else math.nan


@dataclass(frozen=True, kw_only=True, slots=True)
class MatchInfo:
    """All features of two dictionaries, matched."""

    id: str
    """Resource id."""
    uid: str
    """Never given twice."""
    etag: str
    """Names this version of it."""
    a: str
    """Id of the first dictionary."""
    b: str
    """Id of the second dictionary."""
    probe: str
    """Id of the probe it was made on."""
    pairs: int
    """Mutual pairs."""
    created: float
    """Seconds since the epoch."""
    text: str = ""
    """The summary for people; empty in a list of matches."""
    details: Mapping[str, object] = field(default_factory=dict[str, object])
    """Curves beside their nulls, cautions and counts, as JSON values; empty in a list."""

    __repr__ = short_repr

    def _repr_html_(self) -> str:
        facts = {
            "of": self.a,
            "and": self.b,
            "probe": self.probe,
            "pairs": self.pairs,
            "made": html.when(self.created),
        }
        return html.card(f"Match {self.id}", facts, html.text_block(self.text))

    def summary(self) -> str:
        """Return how universal the features are, beside the nulls, for people."""
        return self.text


@dataclass(frozen=True, kw_only=True, slots=True)
class JobInfo:
    """A job at one moment."""

    name: str
    """Id of the job."""
    kind: str
    """Name of the kind of job, such as ``train``."""
    state: str
    """QUEUED, STARTING, RUNNING, CANCELLING, SUCCEEDED, FAILED or CANCELLED."""
    step: int
    """Steps done."""
    total_steps: int
    """Steps in all; 0 while unknown."""
    metrics: Mapping[str, float]
    """Newest figures, such as ``fvu``."""
    attempt: int
    """Workers started for it so far."""
    created: float
    """Seconds since the epoch."""
    updated: float
    """Seconds since the epoch of the last change."""
    made: str
    """Resource that it made, such as ``dictionaries/a``; empty until it succeeded."""
    error: tuple[str, str] | None
    """Reason and message, once it failed."""

    __repr__ = short_repr

    @property
    def is_done(self) -> bool:
        """Whether it will never change again."""
        return self.state in ("SUCCEEDED", "FAILED", "CANCELLED")

    def _repr_html_(self) -> str:
        facts = {
            "state": self.state.lower(),
            "step": f"{self.step:,} of {self.total_steps:,}" if self.total_steps else "",
            "fvu": self.metrics.get("fvu"),
            "made": self.made,
            "failed": "" if self.error is None else f"{self.error[0]}: {self.error[1]}"[:400],
        }
        shown = "" if self.is_done else html.bar(self.step, self.total_steps)
        return html.card(f"Job {self.name} ({self.kind})", facts, shown)
