"""Commands that measure on data of which the truth is known: ``isogloss bench``."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import CsvOption, JsonOption, ParquetOption

if TYPE_CHECKING:
    from isogloss.dictionaries import Superposition, TrainProgress

app = typer.Typer(
    help="Measure on data of which the truth is known: kinds of dictionaries, labels of pairs.",
    no_args_is_help=True,
)


@app.command()
def synthetic(
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
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """Train kinds on rows of known truth, and show how much of it each finds.

    Nothing is kept. Planted features are matched one to one with features of the dictionary:
    `recovered` is the share found at a cosine above 0.9, `mcc` the mean cosine; precision, recall
    and F1 say how well a feature fires where its planted one does.
    """
    from isogloss.dictionaries import run_trials, trial_kinds
    from isogloss.service.cli.output import TableForm, progress, write_json, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    worlds = _worlds(world or [], planted, width, fires)
    with (
        tempfile.TemporaryDirectory(prefix="isogloss-bench-") as place,
        progress(is_quiet=form.is_for_programs) as show,
    ):

        def told(name: str, trained: str, at: "TrainProgress") -> None:
            show(f"{name}: {trained}, fvu {at.fvu:.3f}", at.step, at.total_steps)

        trials = run_trials(
            worlds,
            kind or trial_kinds(),
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
    rows_shown = [[row[name] for name in titles] for row in found]
    write_list(form, [], titles, rows_shown, "nothing was trained")


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
def universality(
    seeds: Annotated[int, typer.Option(help="How many pairs of dictionaries.", min=1)] = 3,
    documents: Annotated[int, typer.Option(help="Documents of 100 segments.", min=4)] = 240,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """Try the labels on features of which the truth is known.

    Planted pairs (reordered, with firings dropped, split, merged, private) stand among impostors
    that fire in the same places for another reason; how often each is labelled rightly is shown.
    """
    from isogloss.service.cli.output import TableForm, write_json, write_list
    from isogloss.universality.testing import ground_truth_rates

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    found = ground_truth_rates(range(seeds), documents=documents)
    if is_json:
        write_json({kind: {"right": right, "of": of} for kind, (right, of, _) in found.items()})
        return
    rows = [(kind, means, right, of, right / of) for kind, (right, of, means) in found.items()]
    titles = ("features", "right is", "right", "of", "share")
    write_list(form, [], titles, rows, "nothing was tried")
