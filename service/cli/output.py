"""Output of the command line: tables and progress for people, JSON for programs."""

import json
import math
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from typing import cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

ShowProgress = Callable[[str, float, float], None]
"""Takes what is being done, how much is done, and how much there is (0 while unknown)."""


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


def write_table(titles: Sequence[str], rows: Sequence[Sequence[object]], empty: str) -> None:
    """Write a table to standard output; numbers to the right; ``empty`` where there are no rows.

    Titles that are all empty are not shown.
    """
    console = Console(highlight=False)
    if not rows:
        console.print(Text(empty))
        return
    has_titles = any(titles)
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=has_titles)
    for column, title in enumerate(titles):
        is_number = all(isinstance(row[column], int | float) for row in rows)
        table.add_column(title, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        # Text, so that nothing in a name is read as markup
        table.add_row(*(Text(cell(value)) for value in row))
    console.print(table)


def cell(value: object) -> str:
    """Write a value of a table."""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def when(seconds: float) -> str:
    """Write a time of the clock in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


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
        task = bar.add_task("", total=None)

        def show(text: str, done: float, total: float) -> None:
            bar.update(task, description=text, completed=done, total=total or None)

        yield show


def _nothing(text: str, done: float, total: float) -> None:
    del text, done, total
