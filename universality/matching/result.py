"""The result of matching two dictionaries: settings, pairs, nulls, cautions; kept as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import CorruptData, InvalidInput, UnsupportedVersion
from isogloss.short_repr import short_repr
from isogloss.store import read_arrays, write_arrays
from isogloss.universality.matching.cautions import Caution
from isogloss.universality.matching.pairs import Pairs, plain
from isogloss.universality.matching.settings import MatchSettings
from isogloss.universality.nulls.labels import label_names
from isogloss.universality.nulls.shuffles import NullDraws

_KIND = "match"

_VERSION = 2


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

    @property
    def rare(self) -> int:
        """Features that fire, but less often than ``MatchSettings.min_fires``."""
        return self.features - self.dead - len(self.compared)


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
            }
        for null in self.nulls:
            arrays |= {
                f"null_{null.key}_best_a": null.best_a,
                f"null_{null.key}_best_b": null.best_b,
                f"null_{null.key}_pair_r": null.pair_r,
                f"null_{null.key}_pair_draw": null.pair_draw,
            }
        write_arrays(directory, arrays, self.describe())

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
    )
