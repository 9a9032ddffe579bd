"""Commands for probes: the documents on which features are compared."""

from typing import Annotated

import typer

from isogloss.service.cli.jobs import DetachOption, outcome
from isogloss.service.cli.options import (
    DEFAULT_STORE,
    CsvOption,
    JsonOption,
    ParquetOption,
    StepsOption,
    StoreOption,
    connect,
)

app = typer.Typer()


@app.command()
def probe(
    recordings: Annotated[list[str], typer.Argument(help="Ids of the recordings.")],
    dictionary: Annotated[
        list[str] | None, typer.Option(help="Dictionary to encode; repeat for several.")
    ] = None,
    probe_id: Annotated[
        str | None, typer.Option("--probe", help="Id of the probe; by default made up.")
    ] = None,
    holdout: Annotated[
        float | None, typer.Option(help="Share of the documents; by default 0.25, or less.")
    ] = None,
    grid: Annotated[
        str | None, typer.Option(help="tokens or word_ends; by default what fits.")
    ] = None,
    steps: StepsOption = None,
    detach: DetachOption = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Build a probe: held-out documents to compare features on.

    No dictionary was trained on these documents.
    """
    from isogloss.service.cli.output import say, write_json

    with connect(store) as client:
        job = client.create_probe(
            recordings,
            dictionaries=dictionary or (),
            probe=probe_id,
            holdout=holdout,
            grid=grid,
            steps=steps or None,
        )
        made = outcome(client, job, detach=detach, is_json=is_json)
        if made is None:
            return
    if is_json:
        write_json(made)
    else:
        encoded = ", ".join(made.dictionaries) or "no dictionary yet"
        say(
            f"probe {made.id}: {made.documents:,} documents, {made.segments:,} {made.grid}; "
            f"{encoded}"
        )


@app.command()
def probes(
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List probes."""
    from isogloss.service.cli.output import TableForm, time_of, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    with connect(store, read_only=True) as client:
        found = client.probes()
    rows = [
        (
            *(p.id, ", ".join(p.recordings), ", ".join(p.dictionaries), p.grid),
            *(p.documents, p.segments, time_of(p.created)),
        )
        for p in found
    ]
    titles = ("probe", "recordings", "dictionaries", "grid", "documents", "segments", "created")
    write_list(form, found, titles, rows, "no probes yet")
