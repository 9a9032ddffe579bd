"""The command line: what the client can do, on a store's path or a server's address.

Exit codes: 0 done; 1 an error of ours, written as one line with its remedy; 2 wrong usage; 130
interrupted. What is heavy is imported inside the commands, so that ``--help`` is quick.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.models import CommandInfo

from isogloss.errors import InvalidInput, IsoglossError, from_os_error, missing_extra
from isogloss.service.cli import (
    experiments,
    files,
    info,
    jobs,
    kinds,
    lanes,
    mechanisms,
    probes,
    serve,
    standards,
    upkeep,
)
from isogloss.service.cli.jobs import DetachOption, outcome
from isogloss.service.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    StepsOption,
    StoreOption,
    connect,
)
from isogloss.version import __version__

if TYPE_CHECKING:
    from isogloss.service.values.arguments import Setting
    from isogloss.service.values.results import DictionaryInfo

app = typer.Typer(
    name="isogloss",
    help="Which features do two models share? Record activations, train dictionaries on them, and "
    "match their features across models.",
    no_args_is_help=True,
    add_completion=False,
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
) -> None:
    """Take the options that stand before a command."""
    del version  # its callback has shown it


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
ProbeOption = Annotated[
    str | None, typer.Option("--probe", help="Id of the probe; by default the newest that fits.")
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
def recordings(store: StoreOption = DEFAULT_STORE, is_json: JsonOption = False) -> None:
    """List recordings."""
    from isogloss.service.cli.output import when, write_json, write_table

    with connect(store, run_workers=False) as client:
        found = client.recordings()
    if is_json:
        write_json(found)
        return
    rows = [
        (r.id, r.spec.model.name, r.rows, ", ".join(s.name for s in r.spec.sites), when(r.created))
        for r in found
    ]
    write_table(("recording", "model", "rows", "sites", "created"), rows, "no recordings yet")


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
    typer.Option("--init", help="Where weights start: directions=rows, bias=median."),
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
        "init": kinds.read_settings(init, "--init") if init else None,
    }
    runs = kinds.each_of(common, {"features": features, "k": k, "kind": kind, "seed": seed})
    with connect(store) as client:
        job = client.train_many(
            recording,
            site=first.site,
            runs=runs,
            more_sources=others,
            rows_seed=0 if len(runs) > 1 else None,
        )
        found = outcome(job, detach=detach, is_json=is_json)
    _show_trained(found or [], is_json=is_json)


@app.command()
def dictionaries(store: StoreOption = DEFAULT_STORE, is_json: JsonOption = False) -> None:
    """List dictionaries."""
    from isogloss.service.cli.output import when, write_json, write_table

    with connect(store, run_workers=False) as client:
        found = client.dictionaries()
    if is_json:
        write_json([_with_first_source(info) for info in found])
        return
    rows = [
        (
            *(d.id, ", ".join(dict.fromkeys(source.recording for source in d.sources))),
            *(", ".join(source.site for source in d.sources), d.kind, d.wiring, d.features),
            *(d.metrics.get("fvu", "–"), d.metrics.get("usual_fvu", "–"), when(d.created)),
        )
        for d in found
    ]
    places = ("dictionary", "recording", "site", "kind", "wiring")
    titles = (*places, "features", "fvu", "usual fvu", "created")
    write_table(titles, rows, "no dictionaries yet")


@app.command()
def nearest(
    dictionary: Annotated[str, typer.Argument(help="Id of the feature's dictionary.")],
    feature: Annotated[int, typer.Argument(help="Index of the feature.", min=0)],
    among: Annotated[
        list[str] | None, typer.Option(help="Dictionary to search; repeat for several.")
    ] = None,
    count: Annotated[int, typer.Option(help="Hits per dictionary.", min=1)] = 5,
    probe: ProbeOption = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Find features that fire where a given feature does.

    The features are of other dictionaries than the given one.
    """
    from isogloss.service.cli.output import progress, write_json, write_table

    with connect(store, run_workers=False) as client:
        ref = client.dictionary_info(dictionary).feature(feature)
        others = among or [d.id for d in client.dictionaries() if d.id != dictionary]
        if not others:
            raise InvalidInput(f"no dictionary but {dictionary!r} to search: train another one")
        needed = {dictionary, *others}
        has_probe = probe is not None or any(
            needed <= set(known.dictionaries) for known in client.probes()
        )
        hits = client.nearest(ref, others, count, probe=probe) if has_probe else None
    if hits is None:
        with connect(store) as client, progress(is_quiet=is_json) as show:
            show("building the probe of these dictionaries", 0, 0)
            hits = client.nearest(ref, others, count, probe=probe)
    if is_json:
        write_json(hits)
        return
    titles = ("dictionary", "feature", "r", "excess", "given token", "margin", "mutual", "together")
    rows = [
        (h.dictionary, h.feature, h.r, h.excess, h.partial_token, h.margin, h.mutual, h.cofires)
        for h in hits
    ]
    write_table(titles, rows, "no feature of these dictionaries fires where this one does")


@app.command()
def match(
    a: Annotated[str, typer.Argument(help="Id of the first dictionary.")],
    b: Annotated[str, typer.Argument(help="Id of the second dictionary.")],
    probe: ProbeOption = None,
    match_id: Annotated[str | None, typer.Option("--match", help="Id of the match.")] = None,
    ceiling: Annotated[
        list[str] | None, typer.Option(help="Match of one model's two seeds, to stand beside.")
    ] = None,
    floor: Annotated[
        list[str] | None, typer.Option(help="Match with nothing to share, to stand beside.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, a setting, such as one_to_one=true, subsets=2."),
    ] = None,
    steps: StepsOption = None,
    detach: DetachOption = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Match all features of two dictionaries, beside nulls."""
    from isogloss.service.cli.output import say, write_json

    with connect(store) as client:
        job = client.match(
            a,
            b,
            match=match_id,
            probe=probe,
            steps=steps or None,
            ceilings=ceiling or (),
            floors=floor or (),
            settings=cast("dict[str, Setting]", kinds.read_settings(set_ or [])),
        )
        made = outcome(job, detach=detach, is_json=is_json)
        if made is None:
            return
    if is_json:
        write_json(made)
    else:
        say(made.summary())
        say(f"\nmatch {made.id}; `isogloss report {made.id}` makes a page of it")


@app.command()
def matches(store: StoreOption = DEFAULT_STORE, is_json: JsonOption = False) -> None:
    """List matches."""
    from isogloss.service.cli.output import when, write_json, write_table

    with connect(store, run_workers=False) as client:
        found = client.matches()
    if is_json:
        write_json(found)
        return
    rows = [(m.id, m.a, m.b, m.probe, m.pairs, when(m.created)) for m in found]
    write_table(("match", "a", "b", "probe", "pairs", "created"), rows, "no matches yet")


@app.command()
def report(
    match_ids: Annotated[
        list[str] | None, typer.Argument(help="Ids of matches; by default all.")
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")] = Path(
        "report.html"
    ),
    title: Annotated[str, typer.Option(help="Title of the page.")] = "",
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Write one self-contained HTML page about matches."""
    from isogloss.service.cli.output import say, write_json
    from isogloss.service.pages.report import write_report

    with connect(store, run_workers=False) as client:
        names = match_ids or [found.id for found in client.matches()]
        if not names:
            raise InvalidInput("no match to report on: make one with `isogloss match A B`")
        details = [client.get_match(name).details for name in names]
    try:
        path = write_report(details, output, title=title)
    except OSError as error:
        raise InvalidInput(f"{output} cannot be written ({error}): choose --output") from error
    if is_json:
        write_json({"path": str(path), "matches": names})
    else:
        say(str(path))


for topic in (
    *(experiments, files, info, jobs, kinds, lanes, mechanisms, probes, serve, standards),
    upkeep,
):
    app.registered_commands += topic.app.registered_commands

PANELS = {
    "Record": ("record", "import", "recordings", "describe", "read", "export"),
    "Train and compare": (
        *("kinds", "train", "dictionaries", "probe", "probes", "import-codes", "nearest"),
        *("match", "matches", "floor", "report", "export-match", "sweep", "bench"),
    ),
    "Look into a model": ("attention", "trace"),
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
        app()
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
