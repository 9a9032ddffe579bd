"""Options that all commands have: the store, and the form of the output."""

import os
import re
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from isogloss.service.cli.output import ShowProgress
    from isogloss.service.client.client import Client
    from isogloss.service.client.upkeep import OnUpkeep
    from isogloss.service.values.upkeep import UpkeepProgress


def checked_file(param: typer.CallbackParam, value: Path | None) -> Path | None:
    """Return the path that an option names, checked by :func:`check_file`."""
    return None if value is None else check_file(value, param.opts[0])


def check_file(path: Path, option: str = "--output") -> Path:
    """Return the path of a file to write, before the work that ends in it begins.

    Args:
        path: of the file.
        option: that names it.

    Raises:
        InvalidInput: it is a folder, or in none, or may not be written.
    """
    folder, why = path.absolute().parent, ""
    if path.is_dir():
        why = "it is a folder"
    elif not folder.is_dir():
        why = f"there is no folder {path.parent}"
    elif not os.access(path if path.exists() else folder, os.W_OK):
        why = "permission denied"
    if why:
        raise InvalidInput(f"{path} cannot be written ({why}): choose {option}")
    return path


StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        "-s",
        envvar="ISOGLOSS_STORE",
        help="A store's path or s3://BUCKET/PREFIX; unix:/SOCKET or HOST:PORT of a server.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")]
CsvOption = Annotated[
    bool, typer.Option("--csv", help="Write comma-separated values to standard output.")
]
ParquetOption = Annotated[
    Path | None,
    typer.Option(
        "--parquet", metavar="FILE", callback=checked_file, help="Write the table to this file."
    ),
]
GraphOption = Annotated[
    Path | None,
    typer.Option(callback=checked_file, help="Graph file of circuit-tracer to write, JSON."),
]
StepsOption = Annotated[
    list[int] | None,
    typer.Option(
        "--steps", help="Training step whose rows to read, if there are several; repeat for more."
    ),
]
DEFAULT_STORE = "isogloss-store"


_ADDRESS = re.compile(r"unix:.*|[a-z0-9]+://.*|[^/]+:[0-9]+")
"""Servers and object stores, which are not directories of this machine."""


def connect(
    store: str, *, run_workers: bool = True, may_create: bool = False, read_only: bool = False
) -> "Client":
    """Connect to a store.

    Args:
        store: its path, or its address.
        run_workers: whether this process runs the jobs in the queue of a store that it opens.
        may_create: whether a store is made where there is none. Only commands that record do so: a
            path that was mistyped would become an empty store.
        read_only: whether a store that nobody serves is only read: also while another process, such
            as a notebook, owns it.

    Raises:
        NotFound: there is no store at the path.
        InvalidInput: ``store`` is empty.
    """
    import isogloss

    if not store:
        raise InvalidInput("--store is empty: give a path, s3://BUCKET/PREFIX or HOST:PORT")
    is_there = _ADDRESS.fullmatch(store) or (Path(store) / "isogloss.json").exists()
    if not is_there and not may_create:
        raise NotFound(
            f"no store at {store!r}: give its path with --store, or make one with "
            "`isogloss record`, `import` or `serve`"
        )
    return isogloss.connect(store, run_workers=run_workers, read_only=read_only)


@contextmanager
def progressing(*, is_quiet: bool) -> "Generator[ShowProgress]":
    """Show a bar while something runs, from the first time that it says how far it is.

    So nothing is drawn where it fails at once, or while a question is asked.
    """
    with ExitStack() as stack:
        shown: list[ShowProgress] = []

        def show(text: str, done: float, total: float) -> None:
            if not shown:
                # rich takes a tenth of a second to import
                from isogloss.service.cli.output import progress

                shown.append(stack.enter_context(progress(is_quiet=is_quiet)))
            shown[0](text, done, total)

        yield show


def telling(show: "ShowProgress", text: str) -> "OnUpkeep":
    """Return what shows how far a call of upkeep is."""

    def on_progress(at: "UpkeepProgress") -> None:
        show(text, at.done, at.total)

    return on_progress
