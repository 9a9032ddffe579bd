"""Commands that train many dictionaries to learn something: sweeps, and rows of known truth."""

import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli import kinds
from isogloss.service.cli.jobs import DetachOption, watch
from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption, connect

if TYPE_CHECKING:
    from isogloss.dictionaries import Superposition, TrainProgress

app = typer.Typer()


_KindOption = Annotated[
    list[str] | None, typer.Option(help="Kind; repeat. By default that of `isogloss train`.")
]
_SeedOption = Annotated[
    list[int] | None, typer.Option(help="Seed; repeat to see what reseeding changes.")
]


class Bench(StrEnum):
    """What can be measured here."""

    SYNTHETIC = "synthetic"


@app.command()
def bench(
    what: Annotated[Bench, typer.Argument(help="What to measure.")],
    kind: Annotated[
        list[str] | None, typer.Option(help="Kind to train; by default all of this package.")
    ] = None,
    world: Annotated[
        list[str] | None,
        typer.Option(help="uniform, zipf, correlated or hierarchical; by default all."),
    ] = None,
    features: Annotated[
        int | None, typer.Option(help="Features of each dictionary; by default twice the planted.")
    ] = None,
    planted: Annotated[int, typer.Option(help="Planted directions.")] = 256,
    width: Annotated[int, typer.Option(help="Columns of a row.")] = 64,
    fires: Annotated[float, typer.Option(help="Planted features on a row.")] = 8.0,
    rows: Annotated[int, typer.Option(help="Rows of each world, a multiple of 4096.")] = 131_072,
    epochs: Annotated[float, typer.Option(help="Passes over the rows.")] = 8.0,
    seed: Annotated[int, typer.Option(help="Of initial weights and order of rows.")] = 0,
    is_json: JsonOption = False,
) -> None:
    """Train kinds on rows of known truth, and show how much of it each finds.

    Nothing is kept. Planted features are matched one to one with features of the dictionary:
    `recovered` is the share found at a cosine above 0.9, `mcc` the mean cosine; precision, recall
    and F1 say how well a feature fires where its planted one does.
    """
    from isogloss.dictionaries import TRIAL_KINDS, run_trials
    from isogloss.service.cli.output import progress, write_json, write_table

    del what  # there is one
    worlds = _worlds(world or [], planted, width, fires)
    with (
        tempfile.TemporaryDirectory(prefix="isogloss-bench-") as place,
        progress(is_quiet=is_json) as show,
    ):

        def told(name: str, trained: str, at: "TrainProgress") -> None:
            show(f"{name}: {trained}, fvu {at.fvu:.3f}", at.step, at.total_steps)

        trials = run_trials(
            worlds,
            kind or TRIAL_KINDS,
            Path(place),
            features=features,
            rows=rows,
            epochs=epochs,
            seed=seed,
            on_progress=told,
        )
    found = [trial.to_dict() for trial in trials]
    if is_json:
        write_json({"trials": found})
        return
    titles = ("world", "kind", "recovered", "mcc", "precision", "recall", "f1", "l0")
    write_table(titles, [[row[name] for name in titles] for row in found], "nothing was trained")


def _worlds(
    names: list[str], features: int, width: int, fires: float
) -> "dict[str, Superposition]":
    """Return the named worlds, or all, of so many directions."""
    from dataclasses import replace

    from isogloss.dictionaries import PLANTED

    if unknown := sorted({*names} - {*PLANTED}):
        raise InvalidInput(f"world {unknown[0]!r} is none of {', '.join(PLANTED)}")
    return {
        name: replace(PLANTED[name], features=features, width=width, fires=fires)
        for name in names or PLANTED
    }


@app.command()
def sweep(
    recording: Annotated[str, typer.Argument(help="Id of the recording.")],
    site: Annotated[list[str], typer.Option(help="Site to train on; repeat for several.")],
    features: Annotated[list[int], typer.Option(help="Number of features; repeat.")],
    k: Annotated[list[float], typer.Option(help="Features that are to fire on a row; repeat.")],
    kind: _KindOption = None,
    seed: _SeedOption = None,
    epochs: Annotated[
        list[float] | None, typer.Option(help="Passes over the training rows; repeat.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE, a setting of every kind.")
    ] = None,
    batch_rows: Annotated[int | None, typer.Option(help="Rows of an optimiser step.")] = None,
    plot: Annotated[Path | None, typer.Option(help="SVG file of the frontier to write.")] = None,
    detach: DetachOption = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Train every combination, and show what each explains for its features a row.

    The dictionaries of a site are one job and share its read. The same command goes on where it was
    interrupted, and trains only what is missing. Differences that reseeding explains are shown as
    "not distinguishable"; without a second --seed nothing is known of that.
    """
    from isogloss.service.cli.output import say, write_json, write_table
    from isogloss.service.pages.swept import TITLES, SweepGrid, Swept

    grid = SweepGrid(
        sites=site,
        features=features,
        asked=k,
        kinds=kind or [],
        seeds=seed or [0],
        epochs=epochs or [None],
        settings=kinds.read_settings(set_ or []),
        batch_rows=batch_rows,
    )
    with connect(store) as client:
        runs = grid.runs(client.kinds())
        jobs = [client.train_many(recording, site=one, runs=runs) for one in site]
        if detach:
            names = [job.name for job in jobs]
            if is_json:
                write_json({"jobs": names})
            else:
                say(f"jobs {', '.join(names)}; the same command without --detach waits for them")
            return
        for job in jobs:
            watch(job, is_json=is_json)
        swept = Swept.of([job.result() for job in jobs])
    if plot is not None:
        swept.write_plot(plot)
    if is_json:
        write_json(swept.to_dict())
    else:
        write_table(TITLES, swept.rows(), "nothing was trained")
        for remark in swept.remarks():
            say(remark)
