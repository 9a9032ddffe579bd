"""The command that trains many dictionaries to compare them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.service.cli import kinds
from isogloss.service.cli.jobs import DetachOption, watch
from isogloss.service.cli.options import (
    DEFAULT_STORE,
    CsvOption,
    JsonOption,
    ParquetOption,
    StoreOption,
    checked_file,
    connect,
)

if TYPE_CHECKING:
    from isogloss.service.cli.output import TableForm
    from isogloss.service.pages.swept import Swept

app = typer.Typer()


_KindOption = Annotated[
    list[str] | None, typer.Option(help="Kind; repeat. By default that of `isogloss train`.")
]
_SeedOption = Annotated[
    list[int] | None, typer.Option(help="Seed; repeat to see what reseeding changes.")
]


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
    plot: Annotated[
        Path | None, typer.Option(callback=checked_file, help="SVG file of the frontier to write.")
    ] = None,
    detach: DetachOption = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """Train every combination, and compare what they explain.

    The dictionaries of a site are one job and share its read. The same command goes on where it was
    interrupted, and trains only what is missing. Differences that reseeding explains are shown as
    "not distinguishable"; without a second --seed nothing is known of that.
    """
    from isogloss.service.cli.output import TableForm, say, write_json
    from isogloss.service.pages.swept import SweepGrid, Swept

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
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
            watch(client, job, is_json=form.is_for_programs)
        swept = Swept.of([job.result() for job in jobs])
    if plot is not None:
        swept.write_plot(plot)
    _show(swept, form)


def _show(swept: "Swept", form: "TableForm") -> None:
    from isogloss.service.cli.output import say, write_json, write_list
    from isogloss.service.pages.swept import TITLES

    if form.is_json:
        write_json(swept.to_dict())
        return
    write_list(form, [], TITLES, swept.rows(), "nothing was trained")
    if not form.is_for_programs:
        for remark in swept.remarks():
            say(remark)
