"""Commands that look after a store: describe, read, verify, compress, delete, gc."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    StoreOption,
    checked_file,
    connect,
    progressing,
    telling,
)

if TYPE_CHECKING:
    from isogloss.service.client.client import Client
    from isogloss.service.values.results import RecordingInfo

app = typer.Typer()

RecordingArgument = Annotated[str, typer.Argument(help="Id of the recording.")]


@app.command()
def describe(
    recording: RecordingArgument,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Show a recording: model, sites, dictionaries, cautions."""
    from isogloss.service.cli.describe import cautions, repeated, write_description
    from isogloss.service.cli.output import plain, write_json

    with connect(store, read_only=True) as client:
        info, lanes = client.recording(recording), client.lanes(recording)
        steps = client.steps(recording, revision=info.revision) if info.has_steps else ()
        found = [*repeated(steps), *cautions(client, info, lanes)]
        trained = [
            one
            for one in client.dictionaries()
            if any(source.recording == info.id for source in one.sources)
        ]
    if is_json:
        facts = {"rows": info.rows, "steps": plain(steps), "lanes": plain(lanes)}
        facts["dictionaries"] = [
            {"id": one.id, "kind": one.kind, "metrics": dict(one.metrics)} for one in trained
        ]
        write_json({"recording": plain(info), **facts, "cautions": found})
    else:
        write_description(info, lanes, steps, found, trained)


@app.command()
def read(
    recording: RecordingArgument,
    site: Annotated[
        str | None, typer.Option(help="Site to read; needed where there are several.")
    ] = None,
    start: Annotated[int, typer.Option(help="First row.", min=0)] = 0,
    count: Annotated[int, typer.Option(help="How many rows.", min=1)] = 10,
    output: Annotated[
        Path | None,
        typer.Option(
            *("--output", "-o"),
            callback=checked_file,
            help="Write the rows to this .npy file, as float32.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Show rows of a site with their tokens, or save them."""
    from isogloss.service.cli.describe import save_rows, write_rows
    from isogloss.service.cli.output import say, write_json

    with connect(store, read_only=True) as client:
        info = client.recording(recording)
        name = site or _only_site(info)
        stop = min(start + count, info.rows)
        if start >= stop:
            raise InvalidInput(
                f"row {start} is not one of the {info.rows:,} rows of {recording!r}: "
                "choose --start below that"
            )
        rows = client.read(recording, name, start, stop, revision=info.revision)
        columns = client.tokens(recording, start, stop, revision=info.revision)
        vocabulary = client.vocabulary(recording)
    values = rows.astype("float32")
    tokens = [
        vocabulary[token] if token < len(vocabulary) else f"#{token}" for token in columns.token_id
    ]
    if output is not None:
        save_rows(values, output)
    if is_json:
        found = {"recording": recording, "site": name, "start": start, "tokens": tokens}
        write_json(
            {**found, "saved": str(output)} if output else {**found, "rows": values.tolist()}
        )
    elif output is not None:
        say(f"{output}: rows [{start}, {stop}) of {name}, {values.shape[1]} numbers each")
    else:
        write_rows(start, tokens, columns.position.tolist(), values)


@app.command()
def verify(
    recording: Annotated[
        str | None, typer.Argument(help="Id of the recording; by default all.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Check every stored byte against its checksum.

    The exit code is 1, and the problems are listed, when there are any.
    """
    from isogloss.service.cli.describe import counted
    from isogloss.service.cli.output import say, write_json, write_table

    with connect(store, run_workers=False) as client, progressing(is_quiet=is_json) as show:
        names = [recording] if recording else [found.id for found in client.recordings()]
        rows = sum(client.recording(name).rows for name in names)
        problems = [
            problem
            for name in names
            for problem in client.verify(name, on_progress=telling(show, f"verifying {name}"))
        ]
    if is_json:
        write_json({"recordings": names, "rows": rows, "problems": problems})
    elif problems:
        lines = [(p.recording, p.lane or "–", p.message) for p in problems]
        write_table(("recording", "lane", "problem"), lines, "")
    else:
        found = f"{rows:,} rows of {counted(len(names), 'recording')} are what was recorded"
        say(found if names else "no recordings yet")
    if problems:
        raise typer.Exit(1)


@app.command()
def compact(
    recording: RecordingArgument,
    max_rows: Annotated[
        int | None,
        typer.Option(help="Join lanes up to so many rows; by default about 1 GiB.", min=1),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Join a recording's short lanes.

    Its rows, their numbers and its revisions stay.
    """
    from isogloss.service.cli.output import say, write_json

    with connect(store, run_workers=False) as client, progressing(is_quiet=is_json) as show:
        on_progress = telling(show, f"compacting {recording}")
        done = client.compact(recording, max_rows=max_rows, on_progress=on_progress)
    if is_json:
        write_json(done)
    elif done.lanes:
        say(f"recording {recording}: {done.lanes:,} lanes became {done.into:,}, {done.rows:,} rows")
    else:
        say(f"recording {recording}: no neighbouring short lanes to join")


@app.command()
def compress(
    recording: RecordingArgument,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Compress a recording's sealed lanes without loss.

    Its rows stay exactly what they are.
    """
    from isogloss.service.cli.describe import size
    from isogloss.service.cli.output import say, write_json

    with connect(store, run_workers=False) as client, progressing(is_quiet=is_json) as show:
        done = client.compress(recording, on_progress=telling(show, f"compressing {recording}"))
    if is_json:
        write_json(done)
    elif done.sites:
        before, after = size(done.bytes_before), size(done.bytes_after)
        say(f"recording {recording}: {before} became {after}")
    else:
        say(f"recording {recording}: nothing to compress")


@app.command()
def quantise(
    recording: RecordingArgument,
    site: Annotated[
        list[str] | None, typer.Option("--site", help="Site; repeat for several; by default all.")
    ] = None,
    accepts_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Do not ask: rounded rows stay rounded.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Round sealed rows to 8 bits a number, for good.

    The measured error is shown.
    """
    from isogloss.service.cli.describe import error_text, size
    from isogloss.service.cli.output import say, write_json, write_table

    with connect(store, run_workers=False) as client, progressing(is_quiet=is_json) as show:
        rows = client.recording(recording).rows
        if not accepts_loss:
            question = f"Round the {rows:,} rows of {recording} to 8 bits a number, for good?"
            _ask(question, "--accept-loss", is_json=is_json)
        on_progress = telling(show, f"quantising {recording}")
        done = client.quantise(recording, site or None, accept_loss=True, on_progress=on_progress)
    if is_json:
        write_json(done)
        return
    found = [(name, error.rows, error_text(error)) for name, error in done.errors.items()]
    write_table(("site", "rows", "error"), found, "no sites")
    say(f"\nrecording {recording}: {size(done.bytes_before)} became {size(done.bytes_after)}")


@app.command("give-up")
def give_up(
    recording: RecordingArgument,
    accepts_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Do not ask: what is given up stays lost.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Go on without lanes whose files are gone (see verify)."""
    from isogloss.service.cli.describe import counted
    from isogloss.service.cli.output import say, write_json, write_table

    with connect(store, run_workers=False) as client:
        client.recording(recording)
        if not accepts_loss:
            question = f"Give up the lanes that {recording} lacks, and their rows, for good?"
            _ask(question, "--accept-loss", is_json=is_json)
        given_up = client.give_up_lanes(recording, accept_loss=True)
    if is_json:
        write_json(given_up)
    elif given_up:
        lines = [
            (lane.name or "–", "unknown" if lane.rows is None else lane.rows, lane.reason)
            for lane in given_up
        ]
        write_table(("lane", "rows", "reason"), lines, "")
        say(f"\nrecording {recording} goes on without {counted(len(given_up), 'lane')}")
    else:
        say(f"recording {recording}: no lane is missing")


@app.command()
def gc(
    older_s: Annotated[
        float, typer.Option("--older-s", help="Leave what is younger than so many seconds.", min=0)
    ] = 24 * 3600.0,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Remove what crashes, deletions and ended jobs left behind."""
    from isogloss.service.cli.describe import counted
    from isogloss.service.cli.output import say, write_json

    with connect(store, run_workers=False) as client, progressing(is_quiet=is_json) as show:
        done = client.collect_garbage(older_s, on_progress=telling(show, "sweeping"))
    if is_json:
        write_json(done)
    else:
        found = f"{counted(done.files, 'leftover')} and {counted(done.logs, 'log')} of jobs"
        say(f"removed {found}" if done.files or done.logs else "nothing to remove")


@app.command()
def delete(
    name: Annotated[
        str,
        typer.Argument(
            help="Id of a recording, or dictionaries/ID, probes/ID, matches/ID.", metavar="NAME"
        ),
    ],
    etag: Annotated[str, typer.Option(help="Delete this version only, as describe shows it.")] = "",
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Also what mentions a dictionary or a probe.")
    ] = False,
    is_sure: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Delete a recording, dictionary, probe or match; asks first."""
    from isogloss.service.cli.output import say, write_json

    with connect(store, run_workers=False) as client:
        collection, _, id_ = name.rpartition("/")
        found = _Doomed(client, collection or "recordings", id_)
        if not is_sure:
            _ask(f"Delete {found.text}?", "--yes", is_json=is_json)
        also = found.delete(etag or found.etag, cascade=cascade)
    if is_json:
        write_json({"deleted": [f"{found.collection}/{id_}", *also]})
    else:
        say(f"deleted {', '.join([f'{found.collection}/{id_}', *also])}")


class _Doomed:
    """A resource that the user wants deleted."""

    def __init__(self, client: "Client", collection: str, name: str) -> None:
        self._client = client
        self._name = name
        self.collection = collection
        match collection:
            case "recordings":
                recording = client.recording(name)
                self.etag = recording.etag
                self.text = f"recording {name} with its {recording.rows:,} rows"
            case "dictionaries":
                dictionary = client.dictionary_info(name)
                self.etag = dictionary.etag
                self.text = f"dictionary {name} of {dictionary.features:,} features"
            case "probes":
                probe = client.probe(name)
                self.etag = probe.etag
                self.text = f"probe {name} of {probe.documents:,} documents"
            case "matches":
                match = client.get_match(name)
                self.etag = match.etag
                self.text = f"match {name} of {match.a} and {match.b}"
            case _:
                raise InvalidInput(
                    f"{collection}/{name} cannot be deleted: give the id of a recording, or "
                    "dictionaries/ID, probes/ID or matches/ID"
                )

    def delete(self, etag: str, *, cascade: bool) -> list[str]:
        """Delete it in a version; return the names of what went with it."""
        match self.collection:
            case "dictionaries":
                return self._client.delete_dictionary(self._name, etag, cascade=cascade)
            case "probes":
                return self._client.delete_probe(self._name, etag, cascade=cascade)
            case "matches":
                self._client.delete_match(self._name, etag)
            case _:
                self._client.delete_recording(self._name, etag)
        return []


def _ask(question: str, option: str, *, is_json: bool) -> None:
    """Ask whether to go on; refuse where nobody can answer, naming the option that does."""
    if is_json or not sys.stdin.isatty():
        raise InvalidInput(f"{question} nobody is here to answer: pass {option}")
    # on standard error, so that standard output holds nothing but the answer
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        sys.stderr.write("nothing was changed\n")
        raise typer.Exit(1)


def _only_site(recording: "RecordingInfo") -> str:
    names = [site.name for site in recording.spec.sites]
    if len(names) > 1:
        raise InvalidInput(
            f"recording {recording.id!r} has {len(names)} sites: choose one with --site "
            f"({', '.join(names[:8])})"
        )
    return names[0]
