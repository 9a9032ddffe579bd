"""The command that lists lanes, with who writes them, and ends one whose writer hangs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.service.cli.options import (
    DEFAULT_STORE,
    CsvOption,
    JsonOption,
    ParquetOption,
    StoreOption,
    connect,
)

if TYPE_CHECKING:
    from isogloss.service.values.upkeep import LaneInfo

app = typer.Typer()

_SHOWN_PRODUCERS = 4


@app.command()
def lanes(
    recording: Annotated[str, typer.Argument(help="Id of the recording.")],
    end: Annotated[
        str | None,
        typer.Option("--end", help="A direct lane to end first, because its writer hangs."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List what each writer of a recording wrote.

    The list says which producers are where.
    """
    from isogloss.service.cli.output import TableForm, hint, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    with connect(store, run_workers=False, read_only=end is None) as client:
        if end is not None:
            cursors = client.end_direct_lane(recording, end)
            last = ", ".join(f"{name} {number}" for name, number in sorted(cursors.items()))
            hint(f"ended {end}; last batches that count: {last or 'none'}")
        found = client.lanes(recording)
    titles = ("lane", "rows", "state", "written", "producers")
    rows = [
        (lane.name, lane.rows, state(lane), "direct" if lane.direct else "by owner", names(lane))
        for lane in found
    ]
    write_list(form, found, titles, rows, "no lanes yet")


def state(lane: "LaneInfo") -> str:
    """Write whether a lane still grows, or how it ended."""
    if not lane.sealed:
        return "open"
    return f"{lane.reason}, damaged" if lane.damage else lane.reason


def names(lane: "LaneInfo") -> str:
    """Write the producers of a lane with their last batches, a few of them."""
    found: Sequence[str] = [f"{name}:{last:,}" for name, last in sorted(lane.cursors.items())]
    more = len(found) - _SHOWN_PRODUCERS
    return " ".join([*found[:_SHOWN_PRODUCERS], *([f"+{more:,}"] if more > 0 else [])])
