"""Output of the command line: tables and progress for people, JSON and files for programs."""

import csv
import json
import math
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from isogloss.errors import InvalidInput, StorageError
from isogloss.store import write_parquet

ShowProgress = Callable[[str, float, float], None]
"""Takes what is being done, how much is done, and how much there is (0 while unknown)."""

_MINUTE = "%Y-%m-%d %H:%M"
_WIDEST = 1 << 20
"""Columns of a terminal that are enough for any table."""
_SMALLEST = 0.0005
"""Below it three decimals would say 0."""


def write_json(value: object) -> None:
    """Write a value to standard output as one JSON document."""
    sys.stdout.write(json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n")


def plain(value: object) -> object:
    """Return a value as JSON holds it: results become objects, NaN becomes null."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        items = cast("Mapping[object, object]", value).items()
        return {str(name): plain(item) for name, item in items}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


@dataclass(frozen=True, kw_only=True)
class TableForm:
    """The form in which a command writes a table: for people where nothing else is asked for."""

    is_json: bool = False
    """As JSON, with everything that is known."""
    is_csv: bool = False
    """As comma-separated values."""
    parquet: Path | None = None
    """As a Parquet file here."""

    def __post_init__(self) -> None:
        if self.is_json + self.is_csv + (self.parquet is not None) > 1:
            raise InvalidInput("--json, --csv and --parquet exclude one another: give one of them")

    @property
    def is_for_programs(self) -> bool:
        """Whether programs read it."""
        return self.is_json or self.is_csv or self.parquet is not None


def is_terminal() -> bool:
    """Return whether standard output is a terminal."""
    return Console().is_terminal


def write_list(
    form: TableForm,
    found: Sequence[object],
    titles: Sequence[str],
    rows: Sequence[Sequence[object]],
    empty: str,
) -> None:
    """Write what a command found, in the form that was asked for.

    Args:
        form: the form.
        found: dataclasses; JSON shows all their fields.
        titles: titles of the table's columns.
        rows: the table's cells, a row for each of ``found``.
        empty: what people read where nothing was found.

    Raises:
        MissingExtra: a Parquet file is asked for, and pyarrow is not installed.
        InvalidInput: the Parquet file cannot be written.
    """
    if form.is_json:
        write_json(found)
    elif form.is_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(map(_column, titles))
        writer.writerows([_value(cell) for cell in row] for row in rows)
    elif form.parquet is not None:
        _write_parquet(form.parquet, titles, rows)
    else:
        write_table(titles, rows, empty)


def fields_of(found: Sequence[object], kind: type[object]) -> tuple[list[str], list[list[object]]]:
    """Return the fields of dataclasses as a table: the names, and a row for each."""
    names = [field.name for field in fields(kind)] if is_dataclass(kind) else []
    return names, [[getattr(one, name) for name in names] for one in found]


def _column(title: str) -> str:
    return title.replace(" ", "_")


def _value(value: object) -> object:
    """Return a cell as files of tables hold it."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str | int | float) or value is None:
        return value
    return json.dumps(plain(value), ensure_ascii=False)


def _write_parquet(path: Path, titles: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    columns = {
        _column(title): [_stored(row[place]) for row in rows] for place, title in enumerate(titles)
    }
    try:
        write_parquet(path, columns, {})
    except StorageError as error:
        raise InvalidInput(f"{error}: choose another path") from error


def _stored(value: object) -> object:
    """Return a cell as Parquet holds it: truth values and times as they are."""
    return value if isinstance(value, bool | datetime) else _value(value)


def write_table(titles: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Write a table to standard output; numbers to the right; ``empty`` where there are no rows.

    A row is one line where standard output is no terminal. On a terminal, text that does not fit is
    wrapped between words; a word, such as an id, is never broken, so that it can be copied. Titles
    that are all empty are not shown.
    """
    console = Console(highlight=False)
    if not rows:
        console.print(Text(empty), soft_wrap=True)
        return
    cells = [[cell(value) for value in row] for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(titles))
    for place, title in enumerate(titles):
        is_number = all(isinstance(row[place], int | float) for row in rows)
        texts = [title, *(row[place] for row in cells)]
        table.add_column(
            title,
            justify="right" if is_number else "left",
            no_wrap=is_number or not console.is_terminal,
            min_width=max((cell_len(word) for text in texts for word in text.split()), default=0),
        )
    for row in cells:
        # Text, so that nothing in a name is read as markup
        table.add_row(*map(Text, row))
    wanted = console.measure(table, options=console.options.update(width=_WIDEST))
    needed = wanted.minimum if console.is_terminal else wanted.maximum
    Console(highlight=False, width=max(console.width, needed)).print(table)


def cell(value: object) -> str:
    """Write a value of a table."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return _decimals(value)
    if isinstance(value, datetime):
        return value.strftime(_MINUTE)
    return f"{value:,}" if isinstance(value, int) else str(value)


def _decimals(value: float) -> str:
    """Write a number of a table: three decimals, or what three decimals would show as 0."""
    if math.isnan(value):
        return "–"
    return f"{value:.1e}" if 0 < abs(value) < _SMALLEST else f"{value:.3f}"


def time_of(seconds: float) -> datetime:
    """Return a time of the clock, in this machine's zone, for a table."""
    return datetime.fromtimestamp(seconds, UTC).astimezone()


def when(seconds: float) -> str:
    """Write a time of the clock in this machine's zone."""
    return time.strftime(_MINUTE, time.localtime(seconds))


def say(text: str) -> None:
    """Write a line for people to standard output."""
    Console(highlight=False, soft_wrap=True).print(Text(text))


def hint(text: str) -> None:
    """Write a line to standard error, where it is in no program's way."""
    Console(stderr=True, highlight=False, soft_wrap=True).print(Text(text))


@contextmanager
def progress(*, is_quiet: bool) -> Generator[ShowProgress]:
    """Show a bar on standard error while something runs; nothing when that is no terminal."""
    console = Console(stderr=True)
    if is_quiet or not console.is_terminal:
        yield _nothing
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task, known = bar.add_task("", total=None), 0.0
        began_s = bar.tasks[0].start_time

        def show(text: str, done: float, total: float) -> None:
            nonlocal task, known
            if total != known:  # rich keeps a total that is not known any more, and the end's time
                bar.remove_task(task)
                task, known = bar.add_task("", total=total or None), total
                bar.tasks[0].start_time = began_s
            bar.update(task, description=text, completed=done)

        yield show


def _nothing(text: str, done: float, total: float) -> None:
    del text, done, total
