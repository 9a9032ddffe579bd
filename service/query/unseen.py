"""Questions about what no dictionary of the store made: rows of a text, a direction, codes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from isogloss import universality
from isogloss.errors import InvalidInput, NotFound, ShapeError
from isogloss.service.query.queries import Queries, newest_probe, to_hit
from isogloss.service.values.dictionary_bodies import sources_of, wiring_of
from isogloss.service.values.json_fields import texts_of
from isogloss.service.values.results import Hit, Hits, Skipped, SourceInfo
from isogloss.site_names import is_same_site
from isogloss.store import CatalogEntry

if TYPE_CHECKING:
    from isogloss.dictionaries import SparseDictionary

MOST = 100
"""Hits per dictionary at most."""


@dataclass(frozen=True, kw_only=True)
class SiteRows:
    """Activations of some tokens at a site."""

    recording: str
    """Id of the recording whose model and site they are of."""
    site: str
    """Name of the site; of a direction, empty: any site of its width."""
    rows: NDArray[np.float32]
    """``[rows, width]``."""


class UnseenQueries:
    """Answers which features fire on rows, write a direction, or fire like codes. Thread-safe."""

    def __init__(self, queries: Queries) -> None:
        self._queries = queries
        self._catalog = queries.store.catalog

    def firing(self, rows: Sequence[SiteRows], among: Sequence[str] = (), count: int = 5) -> Hits:
        """Return the features that fire on rows, such as those of a text.

        Args:
            rows: activations, at one or several sites.
            among: ids of the dictionaries to ask; none: all that read one of these sites.
            count: most hits per dictionary.

        Returns:
            The features with the largest share of their highest activation on the newest probe;
            where a dictionary is on none, those that are most active.

        Raises:
            NotFound: there is no such dictionary.
            InvalidInput: no dictionary reads these sites, or ``count`` is out of range.
            ShapeError: rows have another width than the site.
        """
        _check_count(count)
        hits: list[Hit] = []
        skipped: list[Skipped] = []
        asked = self._asked(among)
        for entry in asked:
            sources = sources_of(entry.body)
            given = _rows_of(rows, sources[0])
            if len(sources) != 1:
                skipped.append(Skipped(dictionary=entry.id, why=_several(entry)))
            elif given is None:
                (source,) = sources
                why = (
                    f"it reads {source.site!r} of {source.recording!r}, of which no rows were given"
                )
                skipped.append(Skipped(dictionary=entry.id, why=why))
            else:
                hits += self._firing(entry, given.rows, count)
        _check_any(asked, skipped)
        hits.sort(key=lambda hit: (-hit.share, -hit.activation, hit.dictionary))
        return Hits(hits, skipped=skipped)

    def _firing(self, entry: CatalogEntry, rows: NDArray[np.float32], count: int) -> list[Hit]:
        # torch takes a second to import, and the first question loads it
        import torch

        screened = self._queries.screened(entry)
        width = screened.dictionary.width
        if rows.shape[1] != width:
            raise ShapeError(
                f"rows have width {rows.shape[1]}, and dictionary {entry.id!r} reads {width}"
            )
        codes = screened.encode(torch.from_numpy(rows)).to_fixed()
        values = codes.values.numpy(force=True)
        features, at = np.unique(codes.indices.numpy(force=True)[values > 0], return_inverse=True)
        highest = np.zeros(len(features), np.float32)
        row_of = np.nonzero(values > 0)[0]
        active = values[values > 0]
        np.maximum.at(highest, at, active)
        first = np.full(len(features), len(rows))
        np.minimum.at(first, at, np.where(active == highest[at], row_of, len(rows)))
        fires = np.bincount(at, minlength=len(features))
        known = self._highest(entry, features)
        share = np.divide(highest, known, out=np.zeros(len(known)), where=known > 0)
        order = np.lexsort((features, -highest, -share))[:count]
        return [
            _hit(
                entry.id,
                int(features[place]),
                activation=float(highest[place]),
                row=int(first[place]),
                rows=int(fires[place]),
                share=float(share[place]),
            )
            for place in order.tolist()
        ]

    def _highest(self, entry: CatalogEntry, features: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the highest activations of features on the newest probe; 0 without one."""
        probe = newest_probe(self._queries.store, {entry.id})
        if probe is None or not len(features):
            return np.zeros(len(features))
        return self._queries.peaks(entry, probe)[features].astype(np.float64)

    def writing(self, direction: SiteRows, among: Sequence[str] = (), count: int = 5) -> Hits:
        """Return the features that write a direction: those whose decoder is most like it.

        Args:
            direction: one row; its site may be empty.
            among: ids of the dictionaries to ask; none: all of that recording and width.
            count: most hits per dictionary.

        Returns:
            The features, highest cosine first, each with the cosine of what it reads beside it.

        Raises:
            NotFound: there is no such dictionary or recording.
            InvalidInput: the direction is zero or not finite, no dictionary fits it, or ``count``
                is out of range.
            ShapeError: the direction is no single row.
        """
        _check_count(count)
        self._queries.store.recording(direction.recording)
        unit = _unit(direction.rows)
        hits: list[Hit] = []
        skipped: list[Skipped] = []
        asked = self._asked(among)
        for entry in asked:
            if why := _other_space(entry, direction, len(unit)):
                skipped.append(Skipped(dictionary=entry.id, why=why))
            else:
                hits += self._writing(entry, unit, count)
        _check_any(asked, skipped)
        return Hits(
            sorted(hits, key=lambda hit: (-hit.cosine, hit.dictionary, hit.feature)),
            skipped=skipped,
        )

    def _writing(self, entry: CatalogEntry, unit: NDArray[np.float32], count: int) -> list[Hit]:
        loaded = self._queries.loaded(entry)
        written = _cosines(loaded, "decoder", unit)
        read = _cosines(loaded, "encoder", unit)
        order = np.argsort(-written, kind="stable")[:count]
        return [
            _hit(
                entry.id, feature, cosine=float(written[feature]), read_cosine=float(read[feature])
            )
            for feature in order.tolist()
        ]

    def firing_like(
        self, codes: NDArray[np.float32], probe: str, among: Sequence[str] = (), count: int = 5
    ) -> Hits:
        """Return the features that fire like given codes on a probe.

        Args:
            codes: an activation for each segment of the probe, ``[segments]``.
            probe: id of the probe.
            among: ids of the dictionaries to search; none: all on the probe.
            count: most hits per dictionary.

        Returns:
            The features, highest correlation first.

        Raises:
            NotFound: there is no such probe or dictionary, or a dictionary was not encoded on it.
            Errors of :func:`isogloss.universality.nearest_to_profile`.
        """
        _check_count(count)
        entry = self._queries.probe(among, probe)
        names = list(among) or texts_of(entry.body, "dictionaries")
        if not names:
            raise NotFound(f"probe {probe!r} has no dictionary: add some with create_probe")
        found = universality.nearest_to_profile(
            codes,
            {name: self._queries.probed(name, entry) for name in names},
            self._queries.probe_of(entry),
            count=count,
        )
        return Hits(map(to_hit, found), probe=entry.id)

    def _asked(self, among: Sequence[str]) -> list[CatalogEntry]:
        if among:
            return [self._catalog.get("dictionary", name) for name in dict.fromkeys(among)]
        found = self._catalog.list("dictionary")
        if not found:
            raise NotFound("there is no dictionary to ask: train one with client.train")
        return found


def _hit(
    dictionary: str,
    feature: int,
    *,
    activation: float = 0.0,
    row: int = 0,
    rows: int = 0,
    share: float = 0.0,
    cosine: float = 0.0,
    read_cosine: float = 0.0,
) -> Hit:
    """Return a hit that was compared with no other feature."""
    return Hit(
        dictionary=dictionary,
        feature=feature,
        **dict.fromkeys(("r", "excess", "margin", "partial_token"), 0.0),
        mutual=False,
        cofires=0,
        fires=0,
        activation=activation,
        row=row,
        rows=rows,
        share=share,
        cosine=cosine,
        read_cosine=read_cosine,
    )


def _check_count(count: int) -> None:
    if not 1 <= count <= MOST:
        raise InvalidInput(f"count is {count}, wanted 1 to {MOST}")


def _check_any(asked: Sequence[CatalogEntry], skipped: Sequence[Skipped]) -> None:
    """Raise InvalidInput where none of the dictionaries that were asked fits."""
    if len(skipped) == len(asked):
        reasons = "; ".join(f"{one.dictionary}: {one.why}" for one in skipped)
        raise InvalidInput(f"no dictionary fits what was given: {reasons}")


def _rows_of(rows: Sequence[SiteRows], source: SourceInfo) -> SiteRows | None:
    """Return the rows of a dictionary's site; of its exact name before another name of it."""
    of_it = [one for one in rows if one.recording == source.recording]
    exact = [one for one in of_it if one.site == source.site]
    alike = exact or [one for one in of_it if is_same_site(one.site, source.site)]
    return alike[-1] if alike else None


def _several(entry: CatalogEntry) -> str:
    sites = len(sources_of(entry.body))
    return f"it is a {wiring_of(entry.body)} of {sites} sites: encode its rows with client.encode"


def _other_space(entry: CatalogEntry, direction: SiteRows, width: int) -> str:
    """Return why a direction is none of a dictionary's; empty where it is one."""
    sources = sources_of(entry.body)
    if len(sources) != 1:
        return _several(entry)
    (source,) = sources
    if source.recording != direction.recording:
        return f"it was trained on recording {source.recording!r}, not {direction.recording!r}"
    if direction.site and not is_same_site(source.site, direction.site):
        return f"it was trained on site {source.site!r}, not {direction.site!r}"
    if entry.body.get("width") != width:
        return f"its rows have width {entry.body.get('width')}, the direction {width}"
    return ""


def _unit(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    if rows.shape[0] != 1:
        raise ShapeError(f"a direction is {list(rows.shape)}, wanted one row [1, width]")
    length = float(np.linalg.norm(rows[0].astype(np.float64)))
    if not np.isfinite(length) or length == 0:
        raise InvalidInput(f"a direction has length {length}, wanted one above 0")
    return (rows[0] / length).astype(np.float32)


def _cosines(
    loaded: "SparseDictionary", name: str, unit: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the cosine of each feature's weights with a direction; 0 where it has none."""
    if name not in loaded.tensors:
        return np.zeros(loaded.features, np.float32)
    weights = loaded.tensors[name].numpy(force=True)
    lengths = np.sqrt(np.einsum("ij,ij->i", weights, weights))
    found = (weights @ unit) / np.where(lengths > 0, lengths, 1.0)
    return found.astype(np.float32)
