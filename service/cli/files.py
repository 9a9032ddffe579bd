"""Commands that take rows out of a store and into one: export, import."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from isogloss.service.cli.jobs import DetachOption, outcome
from isogloss.service.cli.options import (
    DEFAULT_STORE,
    JsonOption,
    StoreOption,
    connect,
    progressing,
)

if TYPE_CHECKING:
    from isogloss.store import ImportPlan

app = typer.Typer()


@app.command()
def export(
    recording: Annotated[str, typer.Argument(help="Id of the recording.")],
    directory: Annotated[Path, typer.Argument(help="Directory to make.")],
    form: Annotated[
        Literal["zarr", "safetensors", "numpy"], typer.Option(help="What kind of files.")
    ] = "zarr",
    site: Annotated[
        list[str] | None, typer.Option("--site", help="Site; repeat for several; by default all.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Write a recording as files that other tools read.

    Tokens and documents are written too.
    """
    from isogloss.service.cli.output import say, write_json

    with connect(store, read_only=True) as client, progressing(is_quiet=is_json) as show:
        rows = client.recording(recording).rows
        client.export(
            recording,
            directory,
            form=form,
            sites=site or None,
            on_rows=lambda done, of: show(f"exporting {recording}", done, of),
        )
    if is_json:
        write_json({"recording": recording, "form": form, "rows": rows, "path": str(directory)})
    else:
        say(f"{directory}: {rows:,} rows of {recording} as {form}")


@app.command("export-match")
def export_match(
    match: Annotated[str, typer.Argument(help="Id of the match.")],
    path: Annotated[Path, typer.Argument(help="File to write: .csv, .json or .parquet.")],
    figures: Annotated[
        Path | None, typer.Option(help="Directory for the charts as SVG files.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Write the pairs of a match as a table.

    What the match was made of (hashes, revisions, settings) goes with it.
    """
    from isogloss.service.cli.output import say, write_json

    with connect(store, run_workers=False) as client:
        made_of = client.export_match(match, path, figures=figures)
    if is_json:
        write_json({"path": str(path), "provenance": made_of})
    else:
        charts = f", charts in {figures}" if figures else ""
        say(f"{path}: the pairs of {match}{charts}")


@app.command("import-codes")
def import_codes(
    probe: Annotated[str, typer.Argument(help="Id of the probe.")],
    codes: Annotated[
        Path,
        typer.Argument(help=".npz of scipy.sparse.save_npz, or .parquet: segment, feature, value."),
    ],
    dictionary: Annotated[str, typer.Option(help="Id of the dictionary to make.")],
    features: Annotated[
        int | None, typer.Option(help="Number of features; needed for .parquet.", min=1)
    ] = None,
    recording: Annotated[
        str | None, typer.Option(help="The probe's recording of the features' model, if it is one.")
    ] = None,
    site: Annotated[str, typer.Option(help="Site of that recording.")] = "",
    origin: Annotated[str, typer.Option(help="What made the codes, for people.")] = "",
    detach: DetachOption = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Make a dictionary of codes that another tool computed.

    The codes have a row for each segment of the probe. The dictionary can be matched and searched.
    """
    from isogloss.service.cli.output import say, write_json

    with connect(store) as client:
        job = client.import_codes(
            probe,
            codes,
            dictionary=dictionary,
            features=features,
            recording=recording,
            site=site,
            origin=origin,
        )
        made = outcome(client, job, detach=detach, is_json=is_json)
    if made is None:
        return
    if is_json:
        write_json(made)
    else:
        say(f"dictionary {made.id}: {made.features:,} features, codes on probe {probe}")


SiteFilesOption = Annotated[
    list[str] | None,
    typer.Option("--site", help="NAME=FILE of a site's rows (.npy, .safetensors); repeat."),
]
IdOption = Annotated[str, typer.Option(help="Id of the recording; of an export its own.")]
TokenIdOption = Annotated[Path | None, typer.Option(help="File of the rows' token ids.")]
DocumentOption = Annotated[
    Path | None, typer.Option(help="File of the rows' document ids; needs --documents.")
]
RowsOption = Annotated[int | None, typer.Option(help="Each so many rows are one document.", min=1)]
DocumentsOption = Annotated[
    Path | None, typer.Option(help="JSON lines: text or key, and group, of each document.")
]
VocabularyOption = Annotated[
    Path | None, typer.Option(help="JSON list of token strings, by token id.")
]
TokenizerOption = Annotated[
    str, typer.Option(help="Equal names: same token ids; by default the model's.")
]


@app.command("import")
def import_(
    source: Annotated[Path | None, typer.Argument(help="What `isogloss export` made.")] = None,
    recording: IdOption = "",
    site: SiteFilesOption = None,
    token_id: TokenIdOption = None,
    document: DocumentOption = None,
    rows_per_document: RowsOption = None,
    documents: DocumentsOption = None,
    vocabulary: VocabularyOption = None,
    model: Annotated[str, typer.Option(help="Name of the model.")] = "",
    tokenizer: TokenizerOption = "",
    corpus: Annotated[str, typer.Option(help="What the text is, for people.")] = "imported",
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Record rows from an export or from files.

    The same command goes on where it was interrupted.
    """
    from isogloss.service.cli.import_plans import NamedFiles, plan_of_export, plan_of_files

    if (source is None) == (not site):
        raise typer.BadParameter("give the directory of an export, or files with --site NAME=FILE")
    if source is not None:
        plan = plan_of_export(source, recording)
    elif not recording or not model or token_id is None:
        raise typer.BadParameter("files need --recording, --model and --token-id beside --site")
    else:
        files = NamedFiles(
            recording=recording,
            sites=dict(_named(text) for text in site or ()),
            token_id=token_id,
            document=document,
            rows_per_document=rows_per_document,
            documents=documents,
            vocabulary=vocabulary,
            model=model,
            tokenizer=tokenizer or f"ids of {model}",
            corpus=corpus,
        )
        plan = plan_of_files(files)
    _import(plan, store, is_json=is_json)


def _import(plan: "ImportPlan", store: str, *, is_json: bool) -> None:
    """Record what a plan names, and say what came of it."""
    from isogloss.service.cli.output import say, write_json

    name = plan.spec.recording
    with (
        connect(store, run_workers=False, may_create=True) as client,
        progressing(is_quiet=is_json) as show,
    ):
        made = client.import_rows(
            plan.spec,
            plan.vocabulary,
            plan.sources,
            columns=plan.columns,
            on_rows=lambda done, of: show(f"importing {name}", done, of),
        )
    if is_json:
        write_json(made)
    else:
        sites = ", ".join(found.name for found in made.spec.sites)
        say(f"recording {made.id}: {made.rows:,} rows of {sites}")


def _named(text: str) -> tuple[str, Path]:
    """Read NAME=FILE."""
    name, sign, path = text.rpartition("=")
    if not sign or not name or not path:
        raise typer.BadParameter(f"--site {text} is not of the form NAME=FILE")
    return name, Path(path)
