"""The result of matching two dictionaries: settings, pairs, nulls, cautions; kept as arrays."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, UnsupportedVersion
from isogloss.short_repr import short_repr
from isogloss.store import read_arrays, write_arrays
from isogloss.universality.matching.cautions import Caution
from isogloss.universality.matching.directions import MatchedCosine
from isogloss.universality.matching.pairs import Pairs, plain
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.matching.subsets import Subsets
from isogloss.universality.nulls.labels import label_names
from isogloss.universality.nulls.shuffles import NullDraws

_KIND = "match"

_VERSION = 3

_OF_SUBSETS = ("members", "r2_choose", "r2", "r2_single")


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchedDictionary:
    """One of the two dictionaries, as matching saw it."""

    dictionary: str
    """Id of the dictionary."""
    features: int
    """How many features the dictionary has."""
    dead: int
    """Features that never fire on the choose half."""
    compared: NDArray[np.int32]
    """Features that fire often enough and were compared, ascending."""
    fires: NDArray[np.int64]
    """Segments of the choose half on which each compared feature fires."""
    best: NDArray[np.float32]
    """Best r of each compared feature on the choose half."""
    mass: NDArray[np.float64]
    """Sum of the activations of each compared feature on the choose half."""

    @property
    def mean_best(self) -> tuple[float, float, float]:
        """Mean of ``best``: over features (MPPC, Wang et al., arXiv 2410.06672), weighted by how
        often they fire, and by the sum of their activations.

        All three are optimistic, since each is the largest of many: read them beside those of the
        nulls (``NullDraws.best_a``, ``best_b``), of a ceiling and of a floor.
        """
        return mean_best(self.best, self)

    @property
    def rare(self) -> int:
        """Features that fire, but less often than ``MatchSettings.min_fires``."""
        return self.features - self.dead - len(self.compared)


def mean_best(best: NDArray[np.floating], side: MatchedDictionary) -> tuple[float, float, float]:
    """Return the mean of a best r of each compared feature: plain, by firings, by mass.

    Args:
        best: ``[compared]``, or ``[draws, compared]`` of a null, whose draws are averaged.
        side: the dictionary of these features.
    """
    of_feature = best.reshape(-1, len(side.compared)).mean(axis=0, dtype=np.float64)
    plain_mean, by_fires, by_mass = (
        float(np.average(of_feature, weights=weights)) for weights in (None, side.fires, side.mass)
    )
    return plain_mean, by_fires, by_mass


@dataclass(frozen=True, kw_only=True, eq=False)
class OneToOne:
    """Features assigned one to one so that the sum of r on the choose half is largest."""

    feature_a: NDArray[np.int32]
    """Feature of the first dictionary, ``[pairs]``, ascending."""
    feature_b: NDArray[np.int32]
    """Feature of the second, ``[pairs]``."""
    r_choose: NDArray[np.float64]
    """Correlation on the choose half, above 0."""
    r: NDArray[np.float64]
    """Correlation on the report half."""
    mutual: NDArray[np.bool_]
    """Whether each is the other's best too, on the choose half."""


@dataclass(frozen=True, kw_only=True)
class MatchedProbe:
    """On what the dictionaries were matched."""

    probe: str
    """Id of the probe."""
    grid: str
    """What is compared: each token (``tokens``) or each word (``word_ends``)."""
    segments: tuple[int, int]
    """Segments that both recordings have, on the choose and the report half."""
    documents: tuple[int, int]
    """Documents of those."""
    sources: tuple[int, int]
    """Sources of those documents: files, books, pages. Intervals rest on how these differ."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Match:
    """The matched features of two dictionaries, with how sure each pair is."""

    a: MatchedDictionary
    """The first dictionary."""
    b: MatchedDictionary
    """The second dictionary."""
    on: MatchedProbe
    """On what they were matched."""
    settings: MatchSettings
    """The settings of the matching."""
    pairs: Pairs
    """Mutual pairs, highest r on the report half first."""
    chance: float
    """At most so many pairs are expected to be labelled beyond their token by chance."""
    nulls: tuple[NullDraws, ...]
    """Results of the same matching on shuffled rows, for each key: token, position, document, none.
    """
    cautions: tuple[Caution, ...]
    """Reasons to doubt."""
    one_to_one: OneToOne | None = None
    """The features assigned one to one; None: not asked for (``MatchSettings.one_to_one``)."""
    decoders: MatchedCosine | None = None
    """Mean cosine of decoder rows assigned one to one; None: not asked for, or widths differ."""
    split: Subsets | None = None
    """For each compared feature of the first dictionary the subset of the second's that predicts it
    best; None: not asked for (``MatchSettings.subsets``)."""
    merged: Subsets | None = None
    """For each compared feature of the second dictionary the subset of the first's."""

    __repr__ = short_repr

    def null(self, key: str) -> NullDraws:
        """Return the null of a key.

        Args:
            key: one of ``settings.keys``.

        Returns:
            Its draws.

        Raises:
            InvalidInput: it was not drawn.
        """
        for null in self.nulls:
            if null.key == key:
                return null
        drawn = ", ".join(null.key for null in self.nulls)
        raise InvalidInput(f"null {key!r} was not drawn; this match has: {drawn}")

    def to_dict(self) -> dict[str, object]:
        """Return the match as JSON values: ``describe`` and every pair, column by column."""
        columns = self.pairs.columns()
        pairs: dict[str, object] = {
            name: [plain(value) for value in column] for name, column in columns.items()
        }
        pairs |= {name: label_names(column) for name, column in self.pairs.labels().items()}
        return {**self.describe(), "pairs": pairs}

    def describe(self) -> dict[str, object]:
        """Return what was matched, how, and the cautions, as JSON values without the arrays."""
        return {
            "kind": _KIND,
            "version": _VERSION,
            "a": _describe_side(self.a),
            "b": _describe_side(self.b),
            "probe": self.on.probe,
            "grid": self.on.grid,
            "segments": list(self.on.segments),
            "documents": list(self.on.documents),
            "sources": list(self.on.sources),
            "chance": self.chance,
            "settings": self.settings.to_dict(),
            "nulls": [
                {"key": null.key, "movable": null.movable, "draws": null.draws}
                for null in self.nulls
            ],
            "cautions": [caution.to_dict() for caution in self.cautions],
            "decoders": None if self.decoders is None else asdict(self.decoders),
        }

    def save(self, directory: Path) -> None:
        """Write the match to a directory, whole or not at all.

        Args:
            directory: where to; replaced if it is there.

        Raises:
            StorageError: the disk refused.
        """
        arrays: dict[str, NDArray[np.generic]] = {
            f"pairs_{name}": column for name, column in self.pairs.columns().items()
        }
        for name, side in (("a", self.a), ("b", self.b)):
            arrays |= {
                f"{name}_compared": side.compared,
                f"{name}_fires": side.fires,
                f"{name}_best": side.best,
                f"{name}_mass": side.mass,
            }
        for null in self.nulls:
            arrays |= {
                f"null_{null.key}_best_a": null.best_a,
                f"null_{null.key}_best_b": null.best_b,
                f"null_{null.key}_pair_r": null.pair_r,
                f"null_{null.key}_pair_draw": null.pair_draw,
            }
        write_arrays(directory, arrays | self._asked_for(), self.describe())

    def _asked_for(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays of what only some settings ask for."""
        arrays: dict[str, NDArray[np.generic]] = {}
        if self.one_to_one is not None:
            found = self.one_to_one
            arrays |= {f"one_to_one_{f.name}": getattr(found, f.name) for f in fields(found)}
        for name, subsets in (("split", self.split), ("merged", self.merged)):
            if subsets is not None:
                arrays |= {f"{name}_{part}": getattr(subsets, part) for part in _OF_SUBSETS}
                arrays |= {f"{name}_null_{key}": r2 for key, r2 in subsets.null_r2.items()}
        return arrays

    @classmethod
    def load(cls, directory: Path) -> "Match":
        """Read a match from the directory to which :meth:`save` wrote it.

        Args:
            directory: the directory.

        Returns:
            The match.

        Raises:
            NotFound: the directory holds no match.
            UnsupportedVersion: the files are no match, or one of another version.
            CorruptData: a file does not match its checksum.
        """
        arrays, described = read_arrays(directory)
        if described.get("kind") != _KIND or described.get("version") != _VERSION:
            found = f"{described.get('kind')!r} version {described.get('version')!r}"
            raise UnsupportedVersion(
                f"{directory} holds {found}; this release reads {_KIND} version {_VERSION}: "
                "delete the match and match the dictionaries again"
            )
        try:
            return _restore(arrays, described)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(
                f"{directory} is not a whole match ({error}); match the dictionaries again"
            ) from error


def _describe_side(side: MatchedDictionary) -> dict[str, object]:
    return {
        "dictionary": side.dictionary,
        "features": side.features,
        "compared": len(side.compared),
        "rare": side.rare,
        "dead": side.dead,
    }


def _restore(arrays: Mapping[str, NDArray[np.generic]], described: Mapping[str, object]) -> Match:
    # JSON written by `describe`: a wrong type raises in the constructors and becomes CorruptData.
    columns = {
        name.removeprefix("pairs_"): array
        for name, array in arrays.items()
        if name.startswith("pairs_")
    }
    return Match(
        a=_restore_side("a", arrays, described),
        b=_restore_side("b", arrays, described),
        on=MatchedProbe(
            probe=described["probe"],  # pyright: ignore[reportArgumentType]
            grid=described["grid"],  # pyright: ignore[reportArgumentType]
            segments=tuple(described["segments"]),  # pyright: ignore[reportArgumentType]
            documents=tuple(described["documents"]),  # pyright: ignore[reportArgumentType]
            sources=tuple(described["sources"]),  # pyright: ignore[reportArgumentType]
        ),
        settings=MatchSettings.from_dict(
            described["settings"]  # pyright: ignore[reportArgumentType]
        ),
        pairs=Pairs.from_columns(columns),
        chance=float(described["chance"]),  # pyright: ignore[reportArgumentType]
        nulls=tuple(
            NullDraws(
                key=null["key"],
                movable=float(null["movable"]),
                best_a=arrays[f"null_{null['key']}_best_a"].astype(np.float32),
                best_b=arrays[f"null_{null['key']}_best_b"].astype(np.float32),
                pair_r=arrays[f"null_{null['key']}_pair_r"].astype(np.float32),
                pair_draw=arrays[f"null_{null['key']}_pair_draw"].astype(np.int32),
            )
            for null in described["nulls"]  # pyright: ignore[reportGeneralTypeIssues]
        ),
        cautions=tuple(
            Caution.from_dict(caution)
            for caution in described["cautions"]  # pyright: ignore[reportGeneralTypeIssues]
        ),
        one_to_one=_restore_one_to_one(arrays),
        decoders=_restore_decoders(described["decoders"]),
        split=_restore_subsets("split", arrays),
        merged=_restore_subsets("merged", arrays),
    )


def _restore_one_to_one(arrays: Mapping[str, NDArray[np.generic]]) -> OneToOne | None:
    if "one_to_one_r" not in arrays:
        return None
    # each array has the type of its field because the same class wrote it
    found = {field.name: arrays[f"one_to_one_{field.name}"] for field in fields(OneToOne)}
    return OneToOne(**found)  # pyright: ignore[reportArgumentType]


def _restore_decoders(described: object) -> MatchedCosine | None:
    if described is None:
        return None
    return MatchedCosine(**described)  # pyright: ignore[reportCallIssue]


def _restore_subsets(name: str, arrays: Mapping[str, NDArray[np.generic]]) -> Subsets | None:
    if f"{name}_r2" not in arrays:
        return None
    prefix = f"{name}_null_"
    return Subsets(
        **{part: arrays[f"{name}_{part}"] for part in _OF_SUBSETS},  # pyright: ignore[reportArgumentType]
        null_r2={
            key.removeprefix(prefix): array.astype(np.float64)
            for key, array in arrays.items()
            if key.startswith(prefix)
        },
    )


def _restore_side(
    name: str, arrays: Mapping[str, NDArray[np.generic]], described: Mapping[str, object]
) -> MatchedDictionary:
    side = described[name]
    return MatchedDictionary(
        dictionary=side["dictionary"],  # pyright: ignore[reportIndexIssue]
        features=int(side["features"]),  # pyright: ignore[reportIndexIssue]
        dead=int(side["dead"]),  # pyright: ignore[reportIndexIssue]
        compared=arrays[f"{name}_compared"].astype(np.int32),
        fires=arrays[f"{name}_fires"].astype(np.int64),
        best=arrays[f"{name}_best"].astype(np.float32),
        mass=arrays[f"{name}_mass"].astype(np.float64),
    )
