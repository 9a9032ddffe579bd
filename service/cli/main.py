"""The command line: what the client can do, on a store's path or a server's address.

Exit codes: 0 done; 1 an error of ours, written as one line with its remedy; 2 wrong usage; 130
interrupted. What is heavy is imported inside the commands, so that ``--help`` is quick.
"""

import math
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.models import CommandInfo

from isogloss.errors import InvalidInput, IsoglossError, from_os_error, missing_extra
from isogloss.service.cli import files, info, jobs, kinds, lanes, probes, serve, upkeep
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
from isogloss.service.cli.study import (
    bench,
    effects,
    feature_circuits,
    features,
    floor,
    mechanisms,
    sweep,
)
from isogloss.service.values.addresses import TOKEN_FILE_VARIABLE, TOKEN_VARIABLE
from isogloss.version import __version__

if TYPE_CHECKING:
    from isogloss.service.values.results import DictionaryInfo

TRACEBACK_VARIABLE = "ISOGLOSS_TRACEBACK"
"""Where this is set, an error that nobody expected is shown with where it came from."""

app = typer.Typer(
    name="isogloss",
    help="Which features do two models share? Record activations, train dictionaries on them, and "
    "match their features across models.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(is_wanted: bool) -> None:
    if is_wanted:
        typer.echo(f"isogloss {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and end.", callback=_show_version, is_eager=True
        ),
    ] = False,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            help="File of the token of a server on TCP, which only you may read; or name it in "
            f"{TOKEN_FILE_VARIABLE}.",
        ),
    ] = None,
) -> None:
    """Take the options that stand before a command."""
    del version  # its callback has shown it
    if token_file is not None:  # before what the environment says, as what is given always is
        os.environ.pop(TOKEN_VARIABLE, None)
        os.environ[TOKEN_FILE_VARIABLE] = str(token_file)


StepOption = Annotated[
    int, typer.Option("--step", help="Training step; a text is recorded once a step.")
]
SkipFirstOption = Annotated[
    int,
    typer.Option("--skip-first", help="Content tokens at each text's start that have no row."),
]
SampleOption = Annotated[
    float, typer.Option("--sample", help="Share of the texts, the same ones for each model.")
]
CallOption = Annotated[
    int | None,
    typer.Option("--call", help="Which call to read of a site that runs several times: 0, -1."),
]
DirectOption = Annotated[
    bool, typer.Option("--direct", help="Write past the server, to storage that both see.")
]
RootOption = Annotated[
    Path | None, typer.Option("--root", help="The store as this machine sees it; means --direct.")
]


@app.command()
def record(
    model: Annotated[
        str, typer.Argument(help="Hub id, local directory, or packaged:NAME such as minilm-l6.")
    ],
    site: Annotated[
        list[str], typer.Option("--site", help="Module path or glob; repeat for several.")
    ],
    recording: Annotated[str, typer.Option(help="Id of the recording.")],
    texts: Annotated[
        list[Path] | None, typer.Argument(help="Text files, or folders of them.")
    ] = None,
    standard_library: Annotated[
        bool, typer.Option("--standard-library", help="Record this Python's own documentation.")
    ] = False,
    words: Annotated[int, typer.Option(help="Most words of a passage.")] = 128,
    step: StepOption = 0,
    skip_first: SkipFirstOption = 0,
    sample: SampleOption = 1.0,
    call: CallOption = None,
    direct: DirectOption = False,
    root: RootOption = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Run a model over texts and store its activations.

    The same command goes on where it was interrupted.
    """
    from isogloss.service.cli.output import progress, say, write_json
    from isogloss.service.cli.texts import read_texts

    documents = read_texts(texts or [], standard_library=standard_library, words=words)
    corpus, direct = _corpus(texts or [], standard_library), direct or root is not None
    routes: list[str] = []
    with connect(store, may_create=True) as client, progress(is_quiet=is_json) as show:
        from isogloss.models import RecordProgress, load_model
        from isogloss.service.recording.documents import DocumentOptions

        where = DocumentOptions(corpus=corpus, direct=direct, root=root)
        options = replace(where, step=step, skip_first=skip_first, sample=sample, call=call)

        def on_progress(at: RecordProgress) -> None:
            show(f"{recording}: {at.rows:,} rows", at.documents, at.total_documents)

        show(f"loading {model}", 0, 0)
        made = client.record_documents(
            load_model(model),
            documents,
            sites=site,
            recording=recording,
            options=options,
            on_progress=on_progress,
            on_route=routes.append,
        )
    if is_json:
        write_json(made)
    else:
        way = f", written {routes[0]}" if direct else ""
        say(f"recording {made.id}: {made.rows:,} rows at {len(made.spec.sites)} site(s){way}")


@app.command()
def recordings(
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List recordings."""
    from isogloss.service.cli.output import TableForm, time_of, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    with connect(store, read_only=True) as client:
        found = client.recordings()
    rows = [
        (
            *(r.id, r.spec.model.name, r.rows, ", ".join(s.name for s in r.spec.sites)),
            time_of(r.created),
        )
        for r in found
    ]
    titles = ("recording", "model", "rows", "sites", "created")
    write_list(form, found, titles, rows, "no recordings yet")


_AlsoOption = Annotated[
    list[str] | None,
    typer.Option(help="RECORDING:SITE, a site of another recording; repeat for several."),
]
_LeaveOutOption = Annotated[
    list[str] | None,
    typer.Option(help="Rows not to train on: max_norm=N, positions=N, document_starts=true."),
]

_SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="NAME=VALUE, a setting of kind or wiring; repeat for several."),
]
_WiringOption = Annotated[
    str | None, typer.Option(help="Which sites go in and come out; see `isogloss kinds`.")
]
_TargetOption = Annotated[
    str | None, typer.Option(help="Site to reconstruct from --site: a transcoder.")
]
_SeedOption = Annotated[
    list[int] | None, typer.Option(help="Of initial weights and order of rows.")
]
_InitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--init",
        help="Where weights start: a dictionary's id; directions=rows, bias=median.",
    ),
]
_ProcessesOption = Annotated[
    int | None, typer.Option(min=1, help="Processes that train together on the server's machine.")
]
_ControlOption = Annotated[
    list[str] | None,
    typer.Option(help="Train a control beside it: frozen_decoder, frozen_encoder, ..."),
]


@app.command()
def train(
    recording: Annotated[str, typer.Argument(help="Id of the recording.")],
    site: Annotated[
        list[str], typer.Option(help="Site of the recording; repeat for a wiring that takes more.")
    ],
    features: Annotated[list[int], typer.Option(help="Number of features to learn.")],
    k: Annotated[list[int] | None, typer.Option(help="Features that may fire on one row.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="Kind; see `isogloss kinds`.")] = None,
    set_: _SetOption = None,
    wiring: _WiringOption = None,
    target: _TargetOption = None,
    also: _AlsoOption = None,
    leave_out: _LeaveOutOption = None,
    control: _ControlOption = None,
    init: _InitOption = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the training rows.")] = None,
    seed: _SeedOption = None,
    batch_rows: Annotated[int | None, typer.Option(help="Rows of an optimiser step.")] = None,
    holdout: Annotated[float | None, typer.Option(help="Share of documents held out.")] = None,
    dictionary: Annotated[str | None, typer.Option(help="Id of the dictionary.")] = None,
    steps: StepsOption = None,
    processes: _ProcessesOption = None,
    detach: DetachOption = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Train a dictionary on a site of a recording.

    --features, --k, --kind and --seed may be repeated: each combination is a dictionary, all of one
    job and one read.
    """
    first, *others = kinds.read_sources(recording, site, also or [], target)
    chosen = kinds.chosen_wiring(wiring, 1 + len(others), target)
    common: dict[str, object] = {
        "wiring": chosen,
        "controls": control or None,
        "epochs": epochs,
        "steps": steps or None,
        "batch_rows": batch_rows,
        "holdout": holdout,
        "dictionary": dictionary,
        "settings": kinds.read_settings(set_ or []),
        "leave_out": kinds.read_settings(leave_out, "--leave-out") if leave_out else None,
        "init": kinds.read_start(init) if init else None,
    }
    runs = kinds.each_of(common, {"features": features, "k": k, "kind": kind, "seed": seed})
    with connect(store) as client:
        job = client.train_many(
            recording,
            site=first.site,
            runs=runs,
            more_sources=others,
            rows_seed=0 if len(runs) > 1 else None,
            processes=processes,
        )
        found = outcome(client, job, detach=detach, is_json=is_json)
    _show_trained(found or [], is_json=is_json)


@app.command()
def dictionaries(
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List dictionaries."""
    from isogloss.service.cli.output import TableForm, time_of, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    with connect(store, read_only=True) as client:
        found = client.dictionaries()
    rows = [
        (
            *(d.id, ", ".join(dict.fromkeys(source.recording for source in d.sources))),
            *(", ".join(source.site for source in d.sources), d.kind, d.wiring, d.features),
            *(d.metrics.get("fvu", math.nan), d.metrics.get("usual_fvu", math.nan)),
            time_of(d.created),
        )
        for d in found
    ]
    places = ("dictionary", "recording", "site", "kind", "wiring")
    titles = (*places, "features", "fvu", "usual fvu", "created")
    shown = [_with_first_source(info) for info in found]
    write_list(form, shown, titles, rows, "no dictionaries yet")


@app.command()
def report(
    match_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of matches; by default all.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "report.html"
    ),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
    attention: Annotated[
        str | None,
        typer.Option(help="Model of a match: draw what its heads look at where features fire."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="LAYER.HEAD to draw; repeat. All of the dictionary's layer by default."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML page about matches."""
    from isogloss.service.cli.output import say, write_json
    from isogloss.service.pages.report import write_report

    with connect(store, read_only=True) as client:
        names = match_ids or [found.id for found in client.matches()]
        if not names:
            raise InvalidInput("no match to report on: make one with `isogloss match A B`")
        details = [client.get_match(name).details for name in names]
    if attention is not None:
        from isogloss.models import load_model, read_head
        from isogloss.service.cli.study.report_attention import with_attention

        heads = [read_head(one) for one in head or []]
        details = with_attention(details, load_model(attention), heads)
    elif head:
        raise InvalidInput("--head is of --attention MODEL: give both or neither")
    try:
        path = write_report(details, output, title=title)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written ({error}): choose --output") from error
    if is_json:
        write_json({"path": str(path), "matches": names})
    else:
        say(str(path))


for topic in (
    effects,
    feature_circuits,
    features,
    files,
    floor,
    info,
    jobs,
    kinds,
    lanes,
    mechanisms,
    probes,
    serve,
    sweep,
    upkeep,
):
    app.registered_commands += topic.app.registered_commands
app.add_typer(bench.app, name="bench", rich_help_panel="Train and compare")

PANELS = {
    "Record": ("record", "import", "recordings", "describe", "read", "export"),
    "Train and compare": (
        *("kinds", "train", "dictionaries", "probe", "probes", "import-codes", "feature"),
        *("contexts", "nearest", "match", "matches", "pairs", "floor", "report"),
        *("export-match", "sweep"),
    ),
    "Look into a model": (
        *("attention", "trace", "circuit", "effects", "feature-circuit", "repeat-features"),
    ),
    "Serve": ("serve", "info", "jobs"),
    "Look after a store": (
        *("lanes", "verify", "compact", "compress", "quantise", "give-up", "delete", "gc"),
    ),
}
"""The commands in the order in which a newcomer needs them, as ``--help`` shows them."""


def _arrange() -> None:
    """Put each command into its panel, and the commands into the order of the panels."""
    known = {_name(command): command for command in app.registered_commands}
    for panel, names in PANELS.items():
        for name in names:
            known[name].rich_help_panel = panel
    order = [name for names in PANELS.values() for name in names]
    app.registered_commands.sort(key=lambda command: order.index(_name(command)))


def _name(command: CommandInfo) -> str:
    return command.name or getattr(command.callback, "__name__", "")


_arrange()


def main() -> None:
    """Run the command line: the console script ``isogloss``."""
    from isogloss.service.cli.output import hint

    try:
        # under `python -m` completion would be installed for "python -m isogloss"
        app(prog_name="isogloss")
    except IsoglossError as error:
        hint(f"error: {' '.join(str(error).split())}")
        sys.exit(1)
    except ModuleNotFoundError as error:
        missing = missing_extra("this command", error)
        if missing is None:
            raise
        hint(f"error: {missing}")
        sys.exit(1)
    except KeyboardInterrupt:
        hint("interrupted")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output went away, as `| head` does.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        hint(f"error: {from_os_error(error)} ({error})")
        sys.exit(1)
    except Exception as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        hint(
            f"error: a defect in isogloss, {what}; please report it with what the same command "
            f"says under {TRACEBACK_VARIABLE}=1"
        )
        sys.exit(1)


def _corpus(texts: Sequence[Path], standard_library: bool) -> str:
    """Name the text that was read, for people."""
    names = ["standard library"] if standard_library else []
    return ", ".join([*names, *(path.name for path in texts)])


def _show_trained(made: "Sequence[DictionaryInfo]", *, is_json: bool) -> None:
    """Write what was trained: of one its object, of several a list; of none nothing."""
    from isogloss.service.cli.output import say, write_json

    if is_json and made:
        shown = [_with_first_source(one) for one in made]
        write_json(shown if len(shown) > 1 else shown[0])
        return
    for one in made:
        say(f"dictionary {one.id}: {one.features:,} features{kinds.quality(one.metrics)}")


def _with_first_source(info: "DictionaryInfo") -> dict[str, object]:
    """Return a dictionary as JSON, with recording and site of its first source."""
    from isogloss.service.cli.output import plain

    found = cast("dict[str, object]", plain(info))
    return {**found, "recording": info.recording, "site": info.site}
