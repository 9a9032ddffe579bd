"""What a sweep trains, and what came of it: a table, a plot, a scaling law."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby, product
from pathlib import Path
from typing import cast

from isogloss.dictionaries import (
    Cell,
    CellKey,
    Reseeding,
    ScalingLaw,
    SweptDictionary,
    cells_of,
    fit_scaling,
    reseeding_of,
    verdicts,
)
from isogloss.errors import InvalidInput, from_os_error
from isogloss.service.pages.frontier import frontier_svg
from isogloss.service.values.results import DictionaryInfo, KindInfo

_ASKED = ("k", "target_l0")
TITLES = (
    *(
        "site",
        "kind",
        "features",
        "k",
        "epochs",
        "seeds",
        "l0",
        "fvu",
        "reseeded",
        "dead",
        "verdict",
    ),
)
"""Titles of the table of a sweep."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepGrid:
    """Every combination of some settings."""

    sites: Sequence[str]
    """Sites; each has a job of its own."""
    features: Sequence[int]
    """Numbers of features."""
    asked: Sequence[float]
    """Features that are to fire on a row."""
    kinds: Sequence[str]
    """Names of kinds; none: the default."""
    seeds: Sequence[int]
    """Seeds of the weights."""
    epochs: Sequence[float | None]
    """Passes over the rows; None: the default."""
    settings: dict[str, object] = field(default_factory=dict[str, object])
    """Settings of every kind."""
    batch_rows: int | None = None
    """Rows of a step; None: the default."""

    def runs(self, known: Sequence[KindInfo]) -> list[dict[str, object]]:
        """Return the settings of each dictionary of a site.

        Args:
            known: the kinds that the server can train; each says by which setting features a row
                are asked for: ``k``, or ``target_l0``.

        Raises:
            InvalidInput: a value is given twice, or a kind is not known or asks for neither.
        """
        axes: dict[str, Sequence[object]] = {
            "site": self.sites,
            "kind": self.kinds,
            "features": self.features,
            "k": self.asked,
            "seed": self.seeds,
            "epochs": self.epochs,
        }
        for name, values in axes.items():
            if len({*values}) < len(values):
                raise InvalidInput(f"--{name} is {list(values)}: give each value once")
        kinds = self.kinds or [kind.name for kind in known if kind.is_default]
        setting = {kind: _asking(kind, known) for kind in kinds}
        every = product(kinds, self.features, self.asked, self.seeds, self.epochs)
        return [
            {
                "kind": kind,
                "features": features,
                "settings": {**self.settings, setting[kind]: asked},
                "seed": seed,
                "epochs": epochs,
                "batch_rows": self.batch_rows,
            }
            for kind, features, asked, seed, epochs in every
        ]


def _asking(kind: str, known: Sequence[KindInfo]) -> str:
    """Return the setting of a kind by which features a row are asked for."""
    found = next((one for one in known if one.name == kind), None)
    if found is None:
        names = ", ".join(one.name for one in known)
        raise InvalidInput(f"kind {kind!r} is none of {names}")
    properties = cast("dict[str, object]", found.schema.get("properties", {}))
    for name in _ASKED:
        if name in properties:
            return name
    raise InvalidInput(
        f"kind {kind!r} has neither k nor target_l0, by which features a row are asked for: leave "
        "it out of the sweep"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Swept:
    """What a sweep trained, compared."""

    dictionaries: list[tuple[str, SweptDictionary]]
    """Id and figures of each."""
    cells: list[Cell]
    """Those that differ in their seed alone, together."""
    reseeding: Reseeding | None
    """What the seed changes; None: nothing was trained with two."""
    laws: dict[tuple[str, str], ScalingLaw | str]
    """By site and kind the scaling law, or why there is none."""

    @classmethod
    def of(cls, made: Sequence[Sequence[DictionaryInfo]]) -> "Swept":
        """Compare the dictionaries of several jobs.

        Raises:
            InvalidInput: nothing was held out, so that one has no figures.
        """
        dictionaries = [(info.id, _figures(info)) for infos in made for info in infos]
        every = [figures for _, figures in dictionaries]
        laws: dict[tuple[str, str], ScalingLaw | str] = {}
        order = sorted(every, key=lambda one: one.key)
        for name, group in groupby(order, key=lambda one: (one.key.site, one.key.kind)):
            try:
                laws[name] = fit_scaling(list(group))
            except InvalidInput as error:
                laws[name] = str(error)
        return cls(
            dictionaries=dictionaries,
            cells=cells_of(every),
            reseeding=reseeding_of(every),
            laws=laws,
        )

    def rows(self) -> list[tuple[object, ...]]:
        """Return the table of cells, a row each, under ``TITLES``."""
        return [self._row(*one) for one in self._compared()]

    def remarks(self) -> list[str]:
        """Return what is to be said below the table: of reseeding, and the laws."""
        found: list[str] = []
        if self.reseeding is None:
            found.append("one seed each: what reseeding changes is not known (give --seed twice)")
        for (site, kind), law in self.laws.items():
            if isinstance(law, ScalingLaw):
                text = f"FVU ~ {_formula(law)}, deviation {law.deviation:.1%}"
            else:
                text = f"no scaling law: {law}"
            found.append(f"{site}, {kind}: {text}")
        return found

    def _compared(self) -> list[tuple[Cell, str]]:
        return list(zip(self.cells, verdicts(self.cells, self.reseeding), strict=True))

    def _row(self, cell: Cell, verdict: str) -> tuple[object, ...]:
        band = "–"
        if self.reseeding is not None:
            factor = self.reseeding.factor(cell)
            band = f"{cell.fvu / factor:.4f} to {cell.fvu * factor:.4f}"
        key = cell.key
        sizes = (key.site, key.kind, key.features, key.asked, key.epochs)
        return (*sizes, cell.seeds, cell.l0, cell.fvu, band, cell.dead_fraction, verdict)

    def to_dict(self) -> dict[str, object]:
        """Return everything as JSON."""
        reseeding = self.reseeding
        return {
            "dictionaries": [
                {
                    "dictionary": name,
                    **one.key._asdict(),
                    "seed": one.seed,
                    "l0": one.l0,
                    "fvu": one.fvu,
                    "dead_fraction": one.dead_fraction,
                    "rows": one.rows,
                }
                for name, one in self.dictionaries
            ],
            "cells": [
                {
                    **cell.key._asdict(),
                    "seeds": cell.seeds,
                    "l0": cell.l0,
                    "fvu": cell.fvu,
                    "band": None if reseeding is None else reseeding.factor(cell),
                    "verdict": verdict,
                }
                for cell, verdict in self._compared()
            ],
            "reseeding": None
            if reseeding is None
            else {"deviation": reseeding.deviation, "degrees": reseeding.degrees},
            "laws": [
                {"site": site, "kind": kind, **_law_to_dict(law)}
                for (site, kind), law in self.laws.items()
            ],
        }

    def write_plot(self, path: Path) -> None:
        """Write the frontier as an SVG file.

        Raises:
            InvalidInput: the file cannot be written.
        """
        try:
            path.write_text(frontier_svg(self.cells, self.reseeding), encoding="utf-8")
        except OSError as error:
            raise InvalidInput(
                f"{path} cannot be written ({from_os_error(error)}): choose --plot"
            ) from error


def _law_to_dict(law: ScalingLaw | str) -> dict[str, object]:
    if isinstance(law, str):
        return {"exponents": None, "reason": law}
    exponents = {
        name: {"value": one.value, "low": one.low, "high": one.high}
        for name, one in law.exponents.items()
    }
    return {"exponents": exponents, "deviation": law.deviation, "degrees": law.degrees}


def _formula(law: ScalingLaw) -> str:
    return " ".join(
        f"{name}^{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"
        for name, one in law.exponents.items()
    )


def _figures(info: DictionaryInfo) -> SweptDictionary:
    """Return what a sweep compares of a dictionary."""
    if "fvu" not in info.metrics:
        raise InvalidInput(
            f"dictionary {info.id!r} has no figures over held-out rows: sweep with a holdout"
        )
    config = cast("dict[str, float]", info.provenance["config"])
    settings = cast("dict[str, float]", dict(info.settings))
    asked = next((settings[name] for name in _ASKED if settings.get(name) is not None), 0.0)
    return SweptDictionary(
        key=CellKey(info.site, info.kind, info.features, float(asked), float(config["epochs"])),
        seed=int(cast("int", info.provenance["init_seed"])),
        l0=info.metrics["l0"],
        fvu=info.metrics["fvu"],
        dead_fraction=info.metrics["dead_fraction"],
        rows=int(cast("int", info.provenance["rows_trained"])),
    )
