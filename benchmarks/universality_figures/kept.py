"""Cells of long figures, kept beside the hash of the code that they were measured on.

A figure that takes many minutes is measured cell by cell. Each cell is a pure function of its seed,
and is written to ``benchmarks/results/universality_<name>.json`` as it is done: a run that was
stopped goes on where it was. Cells of other code are measured anew. ``kept_cells`` measures the
quickest cell of each file again and compares.
"""

import hashlib
import json
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypedDict

import numpy as np
import scipy

_ROOT = Path(__file__).resolve().parents[2]
_PRODUCT = ("universality/nulls", "universality/correlation")
_LAWS = "benchmarks/universality_figures/laws.py"

Numbers = list[float]
"""What a cell says, in an order that its figure knows."""


class _Cell(TypedDict):
    numbers: list[float]
    cpu_s: float


class _Document(TypedDict):
    made_by: dict[str, str]
    cells: dict[str, _Cell]


class Kept:
    """The cells of one figure.

    Args:
        name: of the file.
        module: ``__file__`` of what measures them.
    """

    def __init__(self, name: str, module: str) -> None:
        self.name = name
        self._path = _ROOT / "benchmarks" / "results" / f"universality_{name}.json"
        self._module = Path(module)

    def cell(self, key: str, measure: Callable[[], Numbers]) -> Numbers:
        """Return a cell that is kept, or measure and keep it.

        Args:
            key: names the cell, with all that it depends on but the code.
            measure: a pure function.
        """
        document = self._read()
        cells = document["cells"]
        if key not in cells:
            before = time.process_time()
            numbers = [round(float(number), 6) for number in measure()]
            cells[key] = {"numbers": numbers, "cpu_s": round(time.process_time() - before, 1)}
            self._path.parent.mkdir(exist_ok=True)
            self._path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")
        return list(cells[key]["numbers"])

    def again(self, measures: Mapping[str, Callable[[], Numbers]]) -> dict[str, object]:
        """Measure the quickest of kept cells again, and say by how much it differs.

        Args:
            measures: by key, as for :meth:`cell`.
        """
        cells = self._read()["cells"]
        known = [key for key in measures if key in cells]
        if not known:
            return {"cell": None, "difference": None}
        key = min(known, key=lambda name: cells[name]["cpu_s"])
        found = np.array([float(number) for number in measures[key]()])
        return {
            "cell": key,
            "difference": float(np.abs(found - np.array(cells[key]["numbers"])).max()),
        }

    def _read(self) -> _Document:
        if self._path.exists():
            document = json.loads(self._path.read_text())
            if document["made_by"] == self._made_by():
                return document
        return {"made_by": self._made_by(), "cells": {}}

    def _made_by(self) -> dict[str, str]:
        digest = hashlib.sha256()
        files = [self._module, _ROOT / _LAWS]
        files += [path for folder in _PRODUCT for path in sorted((_ROOT / folder).glob("*.py"))]
        for path in files:
            digest.update(path.read_bytes())
        versions = {"numpy": np.__version__, "scipy": scipy.__version__}
        return {"code": digest.hexdigest()[:16], **versions, "python": platform.python_version()}
