"""Rows that are made of known directions, at one site or at two, and training on them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import torch
from torch import Tensor

from isogloss.dictionaries.initialise import initial_decoder, initial_weights
from isogloss.dictionaries.kinds.kind import Kind, Normalisation, StepBatch
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.dictionaries.wirings.crosscoder import feature_owners
from isogloss.dictionaries.wirings.load import make_wiring
from isogloss.dictionaries.wirings.wiring import WiredColumns, site_columns
from isogloss.kernels import StepResult, Workspace

WIDTH, DIRECTIONS, BATCH = 20, 16, 128
"""Columns of a site, directions that rows are made of, rows of a step."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wired:
    """A wiring of sites of equal width, as the contract tries it."""

    wiring: str
    """Name of the wiring."""
    sites: int
    """How many sites it is given."""
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    """Settings of the wiring."""

    def connect(self, width: int = WIDTH) -> WiredColumns:
        """Return the columns, where each site has so many."""
        return make_wiring(self.wiring, self.settings).connect([width] * self.sites)

    def columns(self, features: int, width: int = WIDTH) -> Tensor | None:
        """Return the columns of each feature, where some belong to one site."""
        connection = self.connect(width)
        if not connection.dedicated:
            return None
        parts = (*site_columns([width] * self.sites), connection.reads)
        owners = feature_owners(features, connection.dedicated)
        return torch.tensor([(parts[one].start, parts[one].stop) for one in owners])

    def parts(self, width: int = WIDTH) -> tuple[range, ...]:
        """Return the columns of the target by site, where there are several."""
        every = site_columns([width] * self.sites)
        return every if len(every) > 1 and self.connect(width).reads_what_it_writes else ()


WIRINGS = {
    "sae": Wired(wiring="sae", sites=1),
    "transcoder": Wired(wiring="transcoder", sites=2),
    "crosscoder": Wired(wiring="crosscoder", sites=2),
    "dedicated crosscoder": Wired(wiring="crosscoder", sites=2, settings={"dedicated": 0.25}),
}
"""The wirings that the contract tries with every kind."""


@cache
def planted(count: int, seed: int, sites: int) -> tuple[Tensor, Tensor]:
    """Return rows that are sums of 1.5 of 16 directions on average, and the directions.

    Args:
        count: number of rows.
        seed: of what fires and how strongly.
        sites: so many sites of width 20 lie side by side. The same directions fire at all of them;
            the directions of each are its own, and of norm 1.
    """
    directions = torch.cat([initial_decoder(DIRECTIONS, WIDTH, 77 + n) for n in range(sites)], 1)
    generator = torch.Generator().manual_seed(seed)
    fires = torch.rand(count, DIRECTIONS, generator=generator) < 1.5 / DIRECTIONS
    strength = torch.where(fires, 1 + torch.rand(count, DIRECTIONS, generator=generator), 0.0)
    return strength @ directions + 0.3, directions


@dataclass(kw_only=True, slots=True)
class PlantedRun:
    """A kind that is trained on planted rows, without a recording."""

    kind: Kind
    """The kind."""
    wired: Wired
    """How it is wired."""
    steps: int
    """Steps of the whole run."""
    learning_rate: float = 1e-2
    """Peak step size: it rises over 20 steps, and falls to 0 over the last three tenths."""
    tensors: dict[str, Tensor] = field(init=False)
    """State of the kind."""
    normalisation: Normalisation = field(init=False)
    """How the rows are scaled."""
    _connection: WiredColumns = field(init=False)
    _columns: Tensor | None = field(init=False)
    _parts: tuple[range, ...] = field(init=False)
    _rows: Tensor = field(init=False)
    _silent: Tensor = field(init=False)
    _workspace: Workspace = field(init=False, default_factory=Workspace)

    def __post_init__(self) -> None:
        """Scale the rows as a run scales them, and start the kind."""
        rows, _ = planted(BATCH * 40, 0, self.wired.sites)
        variance = float((rows - rows.mean(0)).square().sum(1).mean())
        scale = (rows.shape[1] / variance) ** 0.5
        connection, features = self.wired.connect(), self.kind.features
        self._connection, self._parts = connection, self.wired.parts()
        self._columns = self.wired.columns(features)
        self._rows, mean = rows * scale, (rows * scale).double().mean(0)
        written = self._rows[:, connection.writes.start : connection.writes.stop]
        self.normalisation = Normalisation(
            scale=scale,
            variance=float((written - written.mean(0)).square().sum(1).mean()),
            mean=mean,
        )
        self.tensors = self.kind.start(
            initial_weights(
                features=features,
                seed=3,
                connection=connection,
                mean=mean,
                columns=self._columns,
            )
        )
        self._silent = torch.zeros(features, dtype=torch.int64)

    def batch(self, step: int) -> StepBatch:
        """Return the rows of a step, counted from 1; features are dead after 2,560 silent rows."""
        connection = self._connection
        part = self._rows[(step - 1) % 40 * BATCH :][:BATCH]
        rows, target = (
            part[:, own.start : own.stop].contiguous()
            for own in (connection.reads, connection.writes)
        )
        dead = self._silent >= 20 * BATCH
        rise, fall = step / 20, (self.steps - step + 1) / (0.3 * self.steps)
        return StepBatch(
            rows=rows,
            target=rows if connection.reads_what_it_writes else target,
            step=step,
            total_steps=self.steps,
            learning_rate=self.learning_rate * min(1.0, rise, fall),
            variance=self.normalisation.variance,
            dead=dead if bool(dead.any()) else None,
            workspace=self._workspace,
            columns=self._columns,
            parts=self._parts,
        )

    def take(self, first: int, last: int) -> list[StepResult]:
        """Take the steps ``first`` to ``last``, counted from 1."""
        results: list[StepResult] = []
        for step in range(first, last + 1):
            results.append(self.kind.step(self.tensors, self.batch(step)))
            self._silent = torch.where(results[-1].fired > 0, 0, self._silent + BATCH)
        return results

    def finish(self) -> SparseDictionary:
        """Return the dictionary."""
        return SparseDictionary(
            kind="under test",
            settings=self.kind,
            wiring=self.wired.wiring,
            tensors=self.kind.export(self.tensors, self.normalisation),
            provenance=DictionaryProvenance(),
        )


def found_directions(decoder: Tensor, directions: Tensor) -> Tensor:
    """Return to which directions a decoder row comes within cosine 0.9, bool ``[directions]``."""
    rows, wanted = (torch.nn.functional.normalize(one, dim=1) for one in (decoder, directions))
    return (rows @ wanted.T).max(0).values > 0.9


def found_share(decoder: Tensor, directions: Tensor) -> float:
    """Return the share of directions to which a decoder row comes within cosine 0.9."""
    return float(found_directions(decoder, directions).float().mean())
