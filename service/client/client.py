"""The client: one API over a store in this process and over a server."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from isogloss.dictionaries import DEFAULT_KIND
from isogloss.service.client import requests
from isogloss.service.client.job import Job
from isogloss.service.client.rows import codes_of, rows_to_encode, statistics_of
from isogloss.service.client.rows_client import RowsClient
from isogloss.service.client.streaming import StreamingClient
from isogloss.service.recording.description import Precision, Tokenizer, describe
from isogloss.service.recording.documents import DocumentOptions, record_documents
from isogloss.service.recording.route import Direct
from isogloss.service.values import ids
from isogloss.service.values.results import (
    DictionaryInfo,
    FeatureInfo,
    FeatureRef,
    Hit,
    MatchInfo,
    PairInfo,
    ProbeInfo,
    RecordingInfo,
)
from isogloss.service.values.settings import Setting
from isogloss.store import RecordingSpec, Revision, SiteStatistics

if TYPE_CHECKING:
    from torch import nn

    from isogloss.models import LoadedModel, RecordProgress, TextDocument
    from isogloss.service.recording.live import Recorder, RecorderOptions

T = TypeVar("T")


class Client(RowsClient, StreamingClient):
    """Everything that can be done with a store. Safe from several threads, not across fork."""

    # Recordings.

    def create_recording(self, spec: RecordingSpec, vocabulary: Sequence[str]) -> RecordingInfo:
        """Create a recording, or return the equal one that exists.

        Args:
            spec: model, tokenizer, corpus and sites.
            vocabulary: the tokenizer's token strings, by id.

        Raises:
            AlreadyExists: a different recording has that id.
        """
        return self.run(requests.create_recording(spec, vocabulary))

    def recording(self, recording: str) -> RecordingInfo:
        """Return a recording as it stands; NotFound where there is none."""
        return self.run(requests.recording(recording))

    def recordings(self) -> list[RecordingInfo]:
        """Return all recordings, by id."""
        return self.run(requests.recordings())

    def delete_recording(self, recording: str, etag: str) -> None:
        """Delete a recording and its rows; Conflict where ``etag`` is not its newest."""
        self.run(requests.delete_recording(recording, etag))

    def vocabulary(self, recording: str) -> tuple[str, ...]:
        """Return the token strings of a recording, by token id."""
        return self.run(requests.vocabulary(recording))

    def statistics(
        self, recording: str, site: str, revision: Revision | None = None
    ) -> SiteStatistics:
        """Return count, mean and spread of a site's rows."""
        return statistics_of(self.run(requests.statistics(recording, site, revision)))

    def record(
        self,
        model: "nn.Module",
        tokenizer: Tokenizer | None = None,
        *,
        sites: Sequence[str],
        recording: str,
        name: str = "",
        corpus: str = "live",
        producer: str = "rank-0",
        dtype: Precision = "bfloat16",
        options: "RecorderOptions | None" = None,
        direct: Direct = False,
        root: Path | str | None = None,
    ) -> "Recorder":
        """Record what a live model computes while the returned recorder is entered.

        Args:
            model: any module whose forward takes ``input_ids``.
            tokenizer: names the tokens and says which are special; None: ids only.
            sites: names or globs of submodules.
            recording: its id; made where there is none.
            name: what the model is called; empty: the class of the module.
            corpus: what the text is, for people.
            producer: name of this stream, stable over restarts, one per process.
            dtype: how a number is kept.
            options: what to do when the server is slower than the loop.
            direct: True: rows go to the disk past the server, which needs its storage here, or an
                error; ``auto``: so if that can be, and the recorder's ``route`` says what was done.
            root: the store as this machine sees it, for ``direct``; None: where its owner says.

        Raises:
            UnknownSite: a name matches nothing; the message lists the nearest names.
            NotPermitted: it must be direct, and this process does not see the storage.
        """
        # torch takes a second to import, and only recording needs it
        from isogloss.models import LoadedModel
        from isogloss.service.recording.live import Recorder

        loaded = LoadedModel(module=model, tokenizer=tokenizer, name=name or type(model).__name__)
        spec, vocabulary = describe(
            loaded, sites, recording=recording, corpus=corpus, dtype=dtype, has_spans=False
        )
        self.create_recording(spec, vocabulary)
        special: Sequence[int] = getattr(tokenizer, "all_special_ids", ())
        stream = self.stream(recording, producer, direct=direct, root=root)
        return Recorder(stream, model, spec, special_ids=special, options=options)

    def record_documents(
        self,
        model: "LoadedModel",
        documents: "Sequence[TextDocument] | Sequence[Sequence[int]]",
        *,
        sites: Sequence[str],
        recording: str,
        options: DocumentOptions | None = None,
        on_progress: "Callable[[RecordProgress], None] | None" = None,
        on_route: Callable[[str], None] | None = None,
    ) -> RecordingInfo:
        """Run a model over documents and record its sites; goes on where an earlier run ended.

        Args:
            model: from :func:`isogloss.models.load_model`.
            documents: texts, or token ids for a model without tokenizer; each is recorded once.
            sites: names or globs of submodules.
            recording: its id; made where there is none.
            options: batch size, precision, names.
            on_progress: called after each batch was captured.
            on_route: told which way rows go, and why, before the first does.

        Raises:
            UnknownSite: a name matches nothing; the message lists the nearest names.
            AlreadyExists: a different recording has that id.
        """
        return record_documents(
            self,
            model,
            documents,
            sites=sites,
            recording=recording,
            options=options or DocumentOptions(),
            on_progress=on_progress,
            on_route=on_route,
        )

    # Dictionaries.

    def train(
        self,
        recording: str,
        *,
        site: str,
        features: int,
        k: int = 32,
        kind: str = DEFAULT_KIND,
        dictionary: str | None = None,
        epochs: float | None = None,
        seed: int | None = None,
        more: Mapping[str, Setting] | None = None,
        request_id: str | None = None,
    ) -> Job[DictionaryInfo]:
        """Train a dictionary on a site, as a job.

        Args:
            recording: id of the recording.
            site: name of the site.
            features: number of features.
            k: features that may fire on one row.
            kind: architecture.
            dictionary: its id; None makes one up, equal for equal settings.
            epochs: passes over the training rows; None: the default.
            seed: of the initial weights and the order of rows; None: the default.
            more: other fields of :class:`isogloss.dictionaries.TrainConfig`, by name.
            request_id: a second call with it gives the first job again.

        Raises:
            NotFound: no such recording.
            UnknownSite: no such site; the message lists the nearest names.
            InvalidInput: a setting that there is not.
        """
        given = {"features": features, "k": k, "kind": kind, "epochs": epochs, "seed": seed}
        config = ids.train_config(given, more)
        name = dictionary or ids.dictionary_id(recording, site, config)
        made = self.run(
            requests.train(recording, site=site, name=name, config=config, request=request_id)
        )
        return Job(self, made.name, made.kind, "dictionaries", requests.dictionary)

    def dictionary(self, dictionary: str) -> DictionaryInfo:
        """Return a dictionary; NotFound where there is none."""
        return self.run(requests.dictionary(dictionary))

    def dictionaries(self) -> list[DictionaryInfo]:
        """Return all dictionaries, by id."""
        return self.run(requests.dictionaries())

    def encode(
        self, dictionary: DictionaryInfo | str, rows: NDArray[np.generic]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return the features active on rows: values and indices, both ``[rows, k]``.

        Raises:
            ShapeError: the rows are not ``[rows, width]`` of the dictionary's width.
        """
        dtype, count, width, data = rows_to_encode(rows)
        return codes_of(self.run(requests.encode(ids.id_of(dictionary), dtype, count, width, data)))

    # Universality.

    def create_probe(
        self,
        recordings: Sequence[str],
        *,
        dictionaries: Sequence[DictionaryInfo | str] = (),
        probe: str | None = None,
        holdout: float | None = None,
        grid: str | None = None,
        request_id: str | None = None,
    ) -> Job[ProbeInfo]:
        """Pin the held-out documents that recordings share, and encode dictionaries on them.

        Args:
            recordings: ids.
            dictionaries: what to encode; a probe that exists gains those it lacks.
            probe: its id; None: the default probe of these recordings.
            holdout: share of the documents; None: what the dictionaries were not trained on.
            grid: ``tokens`` or ``word_ends``; None chooses by the tokenizers.
            request_id: a second call with it gives the first job again.
        """
        made = self.run(
            requests.create_probe(
                recordings,
                dictionary_names=[ids.id_of(d) for d in dictionaries],
                name=probe,
                holdout=holdout,
                grid=grid,
                request=request_id,
            )
        )
        return Job(self, made.name, made.kind, "probes", requests.probe)

    def probe(self, probe: str) -> ProbeInfo:
        """Return a probe; NotFound where there is none."""
        return self.run(requests.probe(probe))

    def probes(self) -> list[ProbeInfo]:
        """Return all probes, by id."""
        return self.run(requests.probes())

    def nearest(
        self,
        feature: FeatureRef,
        among: Sequence[DictionaryInfo | str],
        count: int = 5,
        *,
        probe: str | None = None,
    ) -> list[Hit]:
        """Return the features of other dictionaries that fire most like one feature.

        Args:
            feature: such as ``client.dictionary("a").feature(1207)``.
            among: the dictionaries to search.
            count: hits per dictionary.
            probe: id of the probe; None: the newest that has all of them, else the default probe
                of their recordings, built now.

        Raises:
            DeadFeature: the feature fires too rarely on the probe.
        """
        names = [ids.id_of(dictionary) for dictionary in among]
        return self.run(requests.nearest(feature, names, count, probe))

    def feature(
        self, feature: FeatureRef, *, probe: str | None = None, contexts: int = 8
    ) -> FeatureInfo:
        """Return how often, how strongly and where a feature fires on a probe."""
        return self.run(requests.feature(feature, probe, contexts))

    def match(
        self,
        a: DictionaryInfo | str,
        b: DictionaryInfo | str,
        *,
        match: str | None = None,
        probe: str | None = None,
        settings: Mapping[str, Setting] | None = None,
        request_id: str | None = None,
    ) -> Job[MatchInfo]:
        """Match all features of two dictionaries, as a job.

        Args:
            a: first dictionary.
            b: second dictionary.
            match: id of the match; None makes one up, equal for equal settings.
            probe: id of the probe; None: as in :meth:`nearest`.
            settings: fields of :class:`isogloss.universality.MatchSettings`, by name.
            request_id: a second call with it gives the first job again.
        """
        names = ids.id_of(a), ids.id_of(b)
        made = self.run(
            requests.create_match(
                *names,
                name=match or ids.match_id(*names, probe, settings or {}),
                probe_name=probe,
                settings=settings or {},
                request=request_id,
            )
        )
        return Job(self, made.name, made.kind, "matches", requests.match)

    def get_match(self, match: str) -> MatchInfo:
        """Return a match with its summary and details; NotFound where there is none."""
        return self.run(requests.match(match))

    def matches(self) -> list[MatchInfo]:
        """Return all matches, by id, without their details."""
        return self.run(requests.matches())

    def pairs(self, match: MatchInfo | str, *, min_r: float | None = None) -> list[PairInfo]:
        """Return the mutual pairs of a match, highest r first, from ``min_r`` up."""
        return self.run(requests.pairs(match if isinstance(match, str) else match.id, min_r))
