"""The client for asyncio: the verbs of :class:`isogloss.Client`, awaited."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from isogloss.dictionaries import DEFAULT_KIND
from isogloss.service.client import requests
from isogloss.service.client.job import AsyncJob
from isogloss.service.client.rows import (
    codes_of,
    documents_of,
    documents_request,
    read_request,
    rows_of,
    rows_to_encode,
    statistics_of,
    tokens_of,
    tokens_request,
)
from isogloss.service.client.rows_client import AsyncRowsClient
from isogloss.service.client.streaming import AsyncStreamingClient
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
from isogloss.service.wire import methods
from isogloss.store import (
    Document,
    RecordingSpec,
    Revision,
    SiteStatistics,
    TokenColumns,
)


class AsyncClient(AsyncRowsClient, AsyncStreamingClient):
    """Everything that can be done with a store, within one event loop. Not across fork."""

    # Recordings.

    async def create_recording(
        self, spec: RecordingSpec, vocabulary: Sequence[str]
    ) -> RecordingInfo:
        """Create a recording, or return the equal one that exists."""
        return await self.run(requests.create_recording(spec, vocabulary))

    async def recording(self, recording: str) -> RecordingInfo:
        """Return a recording as it stands; NotFound where there is none."""
        return await self.run(requests.recording(recording))

    async def recordings(self) -> list[RecordingInfo]:
        """Return all recordings, by id."""
        return await self.run(requests.recordings())

    async def delete_recording(self, recording: str, etag: str) -> None:
        """Delete a recording and its rows; Conflict where ``etag`` is not its newest."""
        await self.run(requests.delete_recording(recording, etag))

    async def vocabulary(self, recording: str) -> tuple[str, ...]:
        """Return the token strings of a recording, by token id."""
        return await self.run(requests.vocabulary(recording))

    async def statistics(
        self, recording: str, site: str, revision: Revision | None = None
    ) -> SiteStatistics:
        """Return count, mean and spread of a site's rows."""
        return statistics_of(await self.run(requests.statistics(recording, site, revision)))

    async def read(
        self,
        recording: str,
        site: str,
        start: int = 0,
        stop: int | None = None,
        *,
        revision: Revision | None = None,
    ) -> NDArray[np.generic]:
        """Return rows ``[start, stop)`` of a site, ``[rows, width]`` in its dtype."""
        self._check_usable()
        request = read_request(recording, site, start, stop, revision)
        return rows_of([block async for block in self._transport.stream(methods.READ, request)])

    async def tokens(
        self,
        recording: str,
        start: int = 0,
        stop: int | None = None,
        *,
        revision: Revision | None = None,
    ) -> TokenColumns:
        """Return what is known of rows ``[start, stop)`` beside their activations."""
        self._check_usable()
        request = tokens_request(recording, start, stop, revision)
        found = self._transport.stream(methods.READ_TOKENS, request)
        return tokens_of([block.head async for block in found])

    async def documents(
        self, recording: str, *, with_text: bool = True, revision: Revision | None = None
    ) -> dict[int, Document]:
        """Return the documents of which rows are committed, by id."""
        self._check_usable()
        request = documents_request(recording, with_text=with_text, revision=revision)
        found = self._transport.stream(methods.READ_DOCUMENTS, request)
        return documents_of([block.head async for block in found])

    # Dictionaries.

    async def train(
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
    ) -> AsyncJob[DictionaryInfo]:
        """Train a dictionary on a site, as a job; arguments as for :meth:`Client.train`."""
        given = {"features": features, "k": k, "kind": kind, "epochs": epochs, "seed": seed}
        config = ids.train_config(given, more)
        name = dictionary or ids.dictionary_id(recording, site, config)
        made = await self.run(
            requests.train(recording, site=site, name=name, config=config, request=request_id)
        )
        return AsyncJob(self, made.name, made.kind, "dictionaries", requests.dictionary)

    async def dictionary(self, dictionary: str) -> DictionaryInfo:
        """Return a dictionary; NotFound where there is none."""
        return await self.run(requests.dictionary(dictionary))

    async def dictionaries(self) -> list[DictionaryInfo]:
        """Return all dictionaries, by id."""
        return await self.run(requests.dictionaries())

    async def encode(
        self, dictionary: DictionaryInfo | str, rows: NDArray[np.generic]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Return the features active on rows: values and indices, both ``[rows, k]``."""
        dtype, count, width, data = rows_to_encode(rows)
        plan = requests.encode(ids.id_of(dictionary), dtype, count, width, data)
        return codes_of(await self.run(plan))

    # Universality.

    async def create_probe(
        self,
        recordings: Sequence[str],
        *,
        dictionaries: Sequence[DictionaryInfo | str] = (),
        probe: str | None = None,
        holdout: float | None = None,
        grid: str | None = None,
        request_id: str | None = None,
    ) -> AsyncJob[ProbeInfo]:
        """Pin held-out documents and encode dictionaries; as :meth:`Client.create_probe`."""
        made = await self.run(
            requests.create_probe(
                recordings,
                dictionary_names=[ids.id_of(d) for d in dictionaries],
                name=probe,
                holdout=holdout,
                grid=grid,
                request=request_id,
            )
        )
        return AsyncJob(self, made.name, made.kind, "probes", requests.probe)

    async def probe(self, probe: str) -> ProbeInfo:
        """Return a probe; NotFound where there is none."""
        return await self.run(requests.probe(probe))

    async def probes(self) -> list[ProbeInfo]:
        """Return all probes, by id."""
        return await self.run(requests.probes())

    async def nearest(
        self,
        feature: FeatureRef,
        among: Sequence[DictionaryInfo | str],
        count: int = 5,
        *,
        probe: str | None = None,
    ) -> list[Hit]:
        """Return the features that fire most like one; arguments as :meth:`Client.nearest`."""
        names = [ids.id_of(dictionary) for dictionary in among]
        return await self.run(requests.nearest(feature, names, count, probe))

    async def feature(
        self, feature: FeatureRef, *, probe: str | None = None, contexts: int = 8
    ) -> FeatureInfo:
        """Return how often, how strongly and where a feature fires on a probe."""
        return await self.run(requests.feature(feature, probe, contexts))

    async def match(
        self,
        a: DictionaryInfo | str,
        b: DictionaryInfo | str,
        *,
        match: str | None = None,
        probe: str | None = None,
        settings: Mapping[str, Setting] | None = None,
        request_id: str | None = None,
    ) -> AsyncJob[MatchInfo]:
        """Match all features of two dictionaries, as a job; as :meth:`Client.match`."""
        names = ids.id_of(a), ids.id_of(b)
        made = await self.run(
            requests.create_match(
                *names,
                name=match or ids.match_id(*names, probe, settings or {}),
                probe_name=probe,
                settings=settings or {},
                request=request_id,
            )
        )
        return AsyncJob(self, made.name, made.kind, "matches", requests.match)

    async def get_match(self, match: str) -> MatchInfo:
        """Return a match with its summary and details; NotFound where there is none."""
        return await self.run(requests.match(match))

    async def matches(self) -> list[MatchInfo]:
        """Return all matches, by id, without their details."""
        return await self.run(requests.matches())

    async def pairs(self, match: MatchInfo | str, *, min_r: float | None = None) -> list[PairInfo]:
        """Return the mutual pairs of a match, highest r first, from ``min_r`` up."""
        name = match if isinstance(match, str) else match.id
        return await self.run(requests.pairs(name, min_r))
