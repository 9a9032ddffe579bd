"""Questions about features, answered from a store: nearest, contexts, matches, pairs.

What is read from disk is kept while it is used: probes, atlases, codes, matches. Importing this
module imports neither torch nor faiss; the first question does, since the room ``universality``
loads what is taken from it only then.
"""

import json
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from isogloss import universality
from isogloss.errors import CorruptData, InvalidInput, NotFound
from isogloss.service.query.kept import KeptReads
from isogloss.service.query.token_effects import KeptTokenEffects
from isogloss.service.values.dictionary_bodies import has_weights, sources_of
from isogloss.service.values.json_fields import (
    object_of,
    revision_of,
    steps_of,
    text_of,
    texts_of,
)
from isogloss.service.values.results import (
    FeatureContext,
    FeatureInfo,
    Hit,
    Hits,
    MatchInfo,
    PairInfo,
    Skipped,
)
from isogloss.store import CatalogEntry, Revision, Store

if TYPE_CHECKING:
    from isogloss.dictionaries import ScreenedDictionary, SparseDictionary
    from isogloss.service.query.contexts import ContextReader
    from isogloss.service.query.weights import StoredWeights
    from isogloss.universality import Atlas, Match, Neighbour, Pairs, Probe, ProbedDictionary

REPORT_FILE = "report.json"
"""In a match's directory: everything its report shows."""


class Queries:
    """Answers questions about one store. Thread-safe; any process that has the store attached."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.RLock()
        self._kept = KeptReads()
        self._effects = KeptTokenEffects()
        self._read_weights: StoredWeights | None = None

    @property
    def store(self) -> Store:
        """The store that is asked."""
        return self._store

    def nearest(
        self,
        dictionary: str,
        feature: int,
        among: Sequence[str] = (),
        count: int = 5,
        probe: str | None = None,
    ) -> Hits:
        """Return the features of other dictionaries that fire most like one feature.

        Args:
            dictionary: id of the feature's dictionary.
            feature: number of the feature.
            among: ids of the dictionaries to search; none: all others on the probe.
            count: most hits per dictionary.
            probe: id of the probe; None: the newest on which all these dictionaries were encoded,
                or, where ``among`` is empty, the one on which the most others were.

        Returns:
            The hits of all dictionaries in one list, highest correlation first; and the
            dictionaries that could not be compared.

        Raises:
            NotFound: there is no such dictionary or probe, or a dictionary was not encoded on it.
            InvalidInput: there is no such feature, or ``count`` is out of range.
            DeadFeature: the feature fires too rarely on the probe to be compared.
        """
        entries = {
            name: self._store.catalog.get("dictionary", name) for name in {dictionary, *among}
        }
        skipped: list[Skipped] = []
        if among:
            entry = self._probe_of(set(entries), probe)
        else:
            entry = self._fullest(dictionary, probe)
            here = set(texts_of(entry.body, "dictionaries"))
            for found in self._store.catalog.list("dictionary"):
                if found.id in here:
                    entries[found.id] = found
                elif found.id != dictionary:
                    skipped.append(Skipped(dictionary=found.id, why=_not_encoded(entry)))
        apart = f"its recording shares no segment with that of {dictionary!r}"
        neighbours = universality.nearest(
            self._atlas(entry),
            {name: self._probed(found, entry) for name, found in entries.items()},
            self.probe_of(entry),
            dictionary=dictionary,
            feature=feature,
            among=list(among) or [name for name in entries if name != dictionary],
            count=count,
            on_skipped=lambda name: skipped.append(Skipped(dictionary=name, why=apart)),
        )
        return Hits(map(to_hit, neighbours), skipped=skipped, probe=entry.id)

    def _atlas(self, entry: CatalogEntry) -> "Atlas":
        index = self._store.catalog.find("atlas", entry.id)
        while index is not None:
            key, directory = ("atlas", index.uid), self._store.artifact("atlas", index.uid)
            try:
                found = self._kept.keep(key, lambda at=directory: universality.Atlas.load(at))
            except NotFound:
                # a job put a new atlas in its place between the two lines: open that one
                before, index = index, self._store.catalog.find("atlas", entry.id)
                if index is not None and index.uid == before.uid:
                    raise
            else:
                self._kept.forget_older(found)
                return found
        raise NotFound(
            f"probe {entry.id!r} is being indexed anew: wait for its job (`isogloss jobs`), or "
            "make one with create_probe(..., probe=...)"
        )

    def _fullest(self, dictionary: str, probe: str | None) -> CatalogEntry:
        """Return the probe on which a dictionary stands beside the most others."""
        if probe:
            return self._probe_of({dictionary}, probe)
        having = [
            entry
            for entry in self._store.catalog.list("probe")
            if {dictionary} < set(texts_of(entry.body, "dictionaries"))
        ]
        if not having:
            raise NotFound(
                f"no probe has {dictionary} and another dictionary: make one with "
                "create_probe(recordings, dictionaries=[...])"
            )
        return max(
            having,
            key=lambda entry: (len(texts_of(entry.body, "dictionaries")), entry.created_s),
        )

    def feature(
        self, dictionary: str, feature: int, probe: str | None = None, contexts: int = 8
    ) -> FeatureInfo:
        """Return how often, how strongly and where a feature fires on a probe.

        Raises:
            NotFound: no such dictionary or probe, or the probe lacks the dictionary.
            InvalidInput: no such feature, or ``contexts`` below 1.
        """
        known = self._store.catalog.get("dictionary", dictionary)
        entry = self._probe_of({dictionary}, probe)
        probed = self._probed(known, entry)
        probed.check_feature(feature, min_fires=0)
        found = self._contexts(known, entry).read(probed, feature, contexts)
        _, values = probed.codes.feature(feature)
        fires = int(probed.moments.fires[feature])
        effects = self._effects.of(self._store.artifact("dictionary", known.uid))
        return FeatureInfo(
            dictionary=dictionary,
            feature=feature,
            probe=entry.id,
            fires=fires,
            density=fires / max(probed.moments.rows, 1),
            max_activation=float(values.max(initial=0.0)),
            contexts=tuple(
                FeatureContext(
                    document=context.document,
                    before=context.text_before,
                    peak=context.text_peak,
                    after=context.text_after,
                    value=context.value,
                )
                for context in found
            ),
            token_effects=effects.get(feature),
        )

    def segments(
        self, probe: str, recording: str | None = None, step: int | None = None
    ) -> tuple["Probe", NDArray[np.int64] | None, Revision | None]:
        """Return a probe, and the row of a recording that stands for each of its segments.

        Args:
            probe: id of the probe.
            recording: id of one of its recordings; None: no rows are asked for.
            step: training step of the rows; None: the one that the recording has.

        Raises:
            NotFound: there is no such probe or recording, or the probe was not made of it.
            InvalidInput: the recording has rows of several steps, and none was named.
        """
        entry = self._store.catalog.get("probe", probe)
        found = self.probe_of(entry)
        if recording is None:
            return found, None, None
        known = texts_of(entry.body, "recordings")
        if recording not in known:
            raise NotFound(
                f"probe {probe!r} was made of {', '.join(known)}, not of {recording!r}: name one "
                "of these"
            )
        revision = revision_of(object_of(entry.body, "revisions"), recording)
        steps = None if step is None else [step]
        rows = self._kept.keep(
            ("rows", f"{recording}/{step}/{entry.uid}"),
            lambda: universality.segment_rows(
                found, self._store.recording(recording).reader(revision), steps
            ),
        )
        return found, rows, revision

    def encode(
        self,
        dictionary: str,
        rows: NDArray[np.float32],
        recording: str | None = None,
        site: str | None = None,
        allow: Sequence[str] = (),
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return the sparse codes of rows: values and feature indices, both ``[rows, k]``.

        Strongest first. Where a kind lets rows differ in their number of features, ``k`` is that
        of the fullest row, and values of 0 fill up the others.

        Args:
            dictionary: id of the dictionary.
            rows: activations ``[rows, width]``.
            recording: id of the one that they are of, which is compared with the passport.
            site: of that recording; None: the one that was trained on.
            allow: parts of the passport that may differ.

        Raises:
            NotFound: no such dictionary or recording.
            InvalidInput: the dictionary was imported as codes, and has no weights.
            ShapeError: the rows are not of its width.
            PassportRefused: the recording, site or scale is another than in training.
        """
        entry = self._store.catalog.get("dictionary", dictionary)
        if not has_weights(entry.body):
            raise InvalidInput(
                f"dictionary {dictionary!r} was imported as codes on a probe and has no weights: "
                "encode with the tool that made the codes"
            )
        return self._weights().encode(entry, rows, recording, site, allow)

    def decode(
        self, dictionary: str, values: NDArray[np.float32], indices: NDArray[np.int32]
    ) -> NDArray[np.float32]:
        """Return the rows that codes stand for, without the part of a linear map.

        Args:
            dictionary: id of the dictionary.
            values: activation of each feature, ``[rows, k]``.
            indices: which features.

        Raises:
            NotFound: no such dictionary.
            InvalidInput: an index is not that of a feature.
        """
        entry = self._store.catalog.get("dictionary", dictionary)
        return self._weights().decode(entry, values, indices)

    def loaded(self, entry: CatalogEntry) -> "SparseDictionary":
        """Return the weights of a dictionary."""
        return self._weights().of(entry)

    def screened(self, entry: CatalogEntry) -> "ScreenedDictionary":
        """Return a dictionary that encodes a few rows quickly."""
        return self._weights().screened(entry)

    def _weights(self) -> "StoredWeights":
        # torch takes a second to import, and only what computes with weights needs it
        from isogloss.service.query.weights import StoredWeights

        with self._lock:
            if self._read_weights is None:
                self._read_weights = StoredWeights(self._store)
            return self._read_weights

    def match(self, match: str) -> MatchInfo:
        """Return a match with its summary and everything its report shows.

        ``details`` is what :func:`isogloss.service.pages.report.render_report` takes. Raises
        ``NotFound``.
        """
        entry = self._store.catalog.get("match", match)
        return match_info(entry, details=self._report(entry))

    def matches(self) -> list[MatchInfo]:
        """Return all matches without their details, by id."""
        return [match_info(entry) for entry in self._store.catalog.list("match")]

    def pairs(
        self, match: str, *, min_r: float = -1.0, start: int = 0, count: int | None = None
    ) -> list[PairInfo]:
        """Return the mutual pairs of a match, highest r on the report half first.

        Args:
            match: id of the match.
            min_r: leave out pairs below this.
            start: skip so many.
            count: return at most so many; None: all.

        Raises:
            NotFound: no such match.
            InvalidInput: ``start`` or ``count`` is negative.
        """
        if start < 0 or (count is not None and count < 0):
            raise InvalidInput(f"start is {start} and count {count}; both must be 0 or more")
        pairs = self._match(self._store.catalog.get("match", match)).pairs
        stop = int((pairs.r >= min_r).sum())
        if count is not None:
            stop = min(stop, start + count)
        explained = pairs.explained_by
        return [_pair(pairs, row, explained[row]) for row in range(start, stop)]

    def pair_count(self, match: str, *, min_r: float = -1.0) -> int:
        """Return how many mutual pairs of a match have r of at least ``min_r``."""
        return int((self._match(self._store.catalog.get("match", match)).pairs.r >= min_r).sum())

    def probe(self, dictionaries: Sequence[str], probe: str | None = None) -> CatalogEntry:
        """Return the probe on which dictionaries can be compared.

        Args:
            dictionaries: ids; each must be encoded on the probe.
            probe: id of the probe; None: the newest on which all the dictionaries were encoded.

        Returns:
            The probe's entry in the catalog.

        Raises:
            NotFound: a dictionary or the probe does not exist, or no probe has all the
                dictionaries.
        """
        for name in dictionaries:
            self._store.catalog.get("dictionary", name)
        return self._probe_of(set(dictionaries), probe)

    def _probe_of(self, dictionaries: set[str], probe: str | None) -> CatalogEntry:
        """Return the probe of dictionaries that are known to exist."""
        if probe:
            entry = self._store.catalog.get("probe", probe)
            lacking = sorted(dictionaries - set(texts_of(entry.body, "dictionaries")))
            if lacking:
                raise NotFound(
                    f"probe {probe!r} lacks {', '.join(lacking)}: add them with "
                    "create_probe(..., dictionaries=[...])"
                )
            return entry
        entry = newest_probe(self._store, dictionaries)
        if entry is None:
            raise NotFound(
                f"no probe has {', '.join(sorted(dictionaries))}: make one with "
                "create_probe(recordings, dictionaries=[...])"
            )
        return entry

    # What is kept between questions.

    def probe_of(self, entry: CatalogEntry) -> "Probe":
        """Return the probe of an entry of the catalog: its documents and segments."""
        return self._kept.keep(
            ("probe", entry.uid),
            lambda: universality.Probe.load(self._store.artifact("probe", entry.uid)),
        )

    def probed(self, dictionary: str, entry: CatalogEntry) -> "ProbedDictionary":
        """Return the codes of a dictionary on a probe; NotFound where there is no such one."""
        return self._probed(self._store.catalog.get("dictionary", dictionary), entry)

    def _probed(self, found: CatalogEntry, entry: CatalogEntry) -> "ProbedDictionary":
        return self._kept.keep(
            ("codes", f"{found.uid}/{entry.uid}"),
            lambda: universality.load_probed(
                self._store.artifact("codes", found.uid, entry.uid), found.id
            ),
        )

    def peaks(self, found: CatalogEntry, entry: CatalogEntry) -> NDArray[np.float32]:
        """Return the highest activation of each feature of a dictionary on a probe."""
        return self._kept.keep(
            ("peaks", f"{found.uid}/{entry.uid}"), lambda: self._probed(found, entry).peaks()
        )

    def _contexts(self, found: CatalogEntry, entry: CatalogEntry) -> "ContextReader":
        from isogloss.service.query.contexts import ContextReader

        recording = self._store.recording(sources_of(found.body)[0].recording)
        revisions = object_of(entry.body, "revisions")
        revision = revision_of(revisions, recording.id)
        return self._kept.keep(
            ("contexts", f"{recording.uid}/{entry.uid}"),
            lambda: ContextReader(self.probe_of(entry), recording, revision),
        )

    def _match(self, entry: CatalogEntry) -> "Match":
        return self._kept.keep(
            ("match", entry.uid),
            lambda: universality.Match.load(self._store.artifact("match", entry.uid)),
        )

    def _report(self, entry: CatalogEntry) -> dict[str, object]:
        path = self._store.artifact("match", entry.uid) / REPORT_FILE
        try:
            found: object = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise CorruptData(
                f"{path} cannot be read ({error}): delete match {entry.id!r} and match again"
            ) from error
        if not isinstance(found, dict):
            raise CorruptData(
                f"{path} holds a {type(found).__name__}: delete match {entry.id!r} and match again"
            )
        return cast("dict[str, object]", found)


def to_hit(found: "Neighbour") -> Hit:
    """Return a neighbour as clients get it."""
    return Hit(
        dictionary=found.dictionary,
        feature=found.feature,
        r=found.r,
        excess=found.excess,
        margin=found.margin,
        mutual=found.mutual,
        cofires=found.cofires,
        fires=found.fires,
        partial_token=found.partial_token,
    )


def _not_encoded(entry: CatalogEntry) -> str:
    return (
        f"it is not encoded on probe {entry.id!r}: name it with among=, or add it with "
        "create_probe(..., dictionaries=[...])"
    )


def _pair(pairs: "Pairs", row: int, explained_by: str) -> PairInfo:
    return PairInfo(
        feature_a=int(pairs.feature_a[row]),
        feature_b=int(pairs.feature_b[row]),
        r_choose=float(pairs.r_choose[row]),
        margin=float(pairs.margin[row]),
        r=float(pairs.r[row]),
        ci_low=float(pairs.ci_low[row]),
        ci_high=float(pairs.ci_high[row]),
        ci_high_loose=bool(pairs.ci_high_loose[row]),
        rank_a=int(pairs.rank_a[row]),
        rank_b=int(pairs.rank_b[row]),
        fires_a=int(pairs.fires_a[row]),
        fires_b=int(pairs.fires_b[row]),
        cofires=int(pairs.cofires[row]),
        jaccard=float(pairs.jaccard[row]),
        token_null=float(pairs.token_null[row]),
        position_null=float(pairs.position_null[row]),
        document_null=float(pairs.document_null[row]),
        partial_token=float(pairs.partial_token[row]),
        eta2_token_a=float(pairs.eta2_token_a[row]),
        eta2_token_b=float(pairs.eta2_token_b[row]),
        replicates=universality.LABELS[pairs.replicates[row]],
        beyond_token=universality.LABELS[pairs.beyond_token[row]],
        beyond_partial=float(pairs.beyond_partial[row]),
        beyond_low=float(pairs.beyond_low[row]),
        beyond_high=float(pairs.beyond_high[row]),
        beyond_p=float(pairs.beyond_p[row]),
        movable=int(pairs.movable[row]),
        positional=bool(pairs.positional[row]),
        cosine=float(pairs.cosine[row]),
        b_given_a=float(pairs.b_given_a[row]),
        a_given_b=float(pairs.a_given_b[row]),
        decoder_cosine=float(pairs.decoder_cosine[row]),
        encoder_cosine=float(pairs.encoder_cosine[row]),
        explained_by=explained_by,
    )


def newest_probe(
    store: Store, dictionaries: set[str], steps: Sequence[int] = ()
) -> CatalogEntry | None:
    """Return the newest probe on which all the dictionaries are encoded, or None.

    Args:
        store: has the probes.
        dictionaries: ids of the dictionaries.
        steps: training steps that the probe compares at; none: any, those that compare each
            dictionary at its own step before others.
    """
    having = [
        entry
        for entry in store.catalog.list("probe")
        if dictionaries <= set(texts_of(entry.body, "dictionaries"))
        and (not steps or steps_of(entry.body) == tuple(steps))
    ]
    return max(having, key=lambda entry: (not steps_of(entry.body), entry.created_s), default=None)


def match_info(entry: CatalogEntry, details: dict[str, object] | None = None) -> MatchInfo:
    """Return what the catalog says of a match; without ``details``, only what lists show."""
    return MatchInfo(
        id=entry.id,
        uid=entry.uid,
        etag=entry.etag,
        a=text_of(entry.body, "a"),
        b=text_of(entry.body, "b"),
        probe=text_of(entry.body, "probe"),
        pairs=int(str(entry.body["pairs"])),
        created=entry.created_s,
        text="" if details is None else text_of(entry.body, "summary"),
        details=details or {},
    )
