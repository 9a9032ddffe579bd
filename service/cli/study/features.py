"""Commands about features: what one does, which are like it, which two dictionaries share."""

import contextlib
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar, cast

import typer

from isogloss.errors import InvalidInput, NotPermitted
from isogloss.service.cli.jobs import DetachOption, outcome
from isogloss.service.cli.kinds import read_settings
from isogloss.service.cli.options import (
    DEFAULT_STORE,
    CsvOption,
    JsonOption,
    ParquetOption,
    StepsOption,
    StoreOption,
    connect,
)
from isogloss.service.cli.study.effects import shown_tokens

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from isogloss.models import LoadedModel
    from isogloss.service.client.client import Client
    from isogloss.service.values.arguments import Setting
    from isogloss.service.values.results import FeatureContext, FeatureInfo, PairInfo

AnswerT = TypeVar("AnswerT")

app = typer.Typer()

_FEW = 5
"""Places that `feature` shows."""
_SHOWN_PAIRS = 30
"""Pairs that a terminal shows where nobody says how many."""
_MOST = (1 << 63) - 1
"""The largest number that a message holds."""
_BEFORE, _AFTER = 60, 40
"""Characters of text around a place."""

ProbeOption = Annotated[
    str | None, typer.Option("--probe", help="Id of the probe; by default the newest that fits.")
]
DictionaryArgument = Annotated[str, typer.Argument(help="Id of the feature's dictionary.")]
FeatureArgument = Annotated[int, typer.Argument(help="Index of the feature.", min=0, max=_MOST)]

_WHERE = {"dictionary": "dictionary", "feature": "feature"}
_OF_CODES = {
    **_WHERE,
    "r": "r",
    "excess": "excess",
    "given token": "partial_token",
    "margin": "margin",
    "together": "cofires",
}
_OF_FEATURE = {**_OF_CODES, "mutual": "mutual"}
_OF_TEXT = {
    **_WHERE,
    "activation": "activation",
    "of its highest": "share",
    "token": "row",
    "tokens": "rows",
}
_OF_DIRECTION = {**_WHERE, "cosine": "cosine", "read cosine": "read_cosine"}
"""Titles of columns, and the fields of a hit that they show, by what was asked."""

_A_FEATURE = "DICTIONARY FEATURE"
_WITH = {
    _A_FEATURE: ("--probe",),
    "--text": ("--model",),
    "--direction": ("--recording", "--site"),
    "--codes": ("--probe",),
}
"""Options that say more of each thing that features are like."""


_TextOption = Annotated[
    str | None, typer.Option("--text", help="Which features fire on this text of --model.")
]
_ModelOption = Annotated[
    str | None, typer.Option("--model", help="Hub id, local directory, or packaged:NAME.")
]
_DirectionOption = Annotated[
    Path | None,
    typer.Option("--direction", help=".npy of one row: which features write it in --recording."),
]
_RecordingOption = Annotated[
    str | None, typer.Option("--recording", help="Recording whose model the direction is of.")
]
_CodesOption = Annotated[
    Path | None,
    typer.Option("--codes", help=".npy of a number per segment of --probe: what fires so."),
]
_AmongOption = Annotated[
    list[str] | None, typer.Option("--among", help="Dictionary to search; by default all others.")
]


@app.command()
def feature(
    dictionary: DictionaryArgument,
    feature: FeatureArgument,
    probe: ProbeOption = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Show how often and strongly a feature fires, and on what.

    `isogloss contexts` lists more places.
    """
    from isogloss.service.cli.output import say, write_json

    found = _feature(store, (dictionary, feature), probe, _FEW, is_quiet=is_json)
    if is_json:
        write_json(found)
        return
    say(f"feature {found.feature} of {found.dictionary}: {_how_often(found)}")
    for place in found.contexts:
        say(f"{place.value:8.2f}  {_line(place)}")
    if found.token_effects is not None:
        for line in shown_tokens(found.token_effects):
            say(line)


def _how_often(found: "FeatureInfo") -> str:
    """Say on how many segments a feature fires, and how strongly."""
    if not found.fires:
        return f"fires on no segment of probe {found.probe}"
    return (
        f"fires on {found.fires:,} segment{'s' if found.fires > 1 else ''} of probe {found.probe} "
        f"(1 in {1 / found.density:,.0f}), at most {found.max_activation:.2f}"
    )


@app.command()
def contexts(
    dictionary: DictionaryArgument,
    feature: FeatureArgument,
    count: Annotated[int, typer.Option(help="Most places to list.", min=1, max=100)] = 20,
    probe: ProbeOption = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List the places where a feature fires most strongly."""
    from isogloss.service.cli.output import TableForm, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    named = dictionary, feature
    found = _feature(store, named, probe, count, is_quiet=form.is_for_programs).contexts
    if form.is_for_programs:
        titles = ("value", "document", "before", "peak", "after")
        rows = [(c.value, f"{c.document:016x}", c.before, c.peak, c.after) for c in found]
    else:
        titles = ("value", "document", "text")
        rows = [(c.value, f"{c.document:016x}", _line(c)) for c in found]
    write_list(form, found, titles, rows, "the feature fires nowhere on the probe")


@app.command()
def nearest(
    dictionary: Annotated[
        str | None, typer.Argument(help="Id of the feature's dictionary.")
    ] = None,
    feature: Annotated[
        int | None, typer.Argument(help="Index of the feature.", min=0, max=_MOST)
    ] = None,
    text: _TextOption = None,
    model: _ModelOption = None,
    direction: _DirectionOption = None,
    recording: _RecordingOption = None,
    site: Annotated[str, typer.Option(help="Site that the direction is of; else any.")] = "",
    codes: _CodesOption = None,
    among: _AmongOption = None,
    count: Annotated[int, typer.Option(help="Hits per dictionary.", min=1, max=100)] = 5,
    probe: ProbeOption = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """Find features like a feature, a text, a direction or codes."""
    from isogloss.service.cli.output import TableForm, hint, write_list

    _check_asked(
        {_A_FEATURE: dictionary, "--text": text, "--direction": direction, "--codes": codes},
        {"--model": model, "--recording": recording, "--site": site or None, "--probe": probe},
    )
    if (dictionary is None) != (feature is None):
        raise typer.BadParameter("say which feature: isogloss nearest DICTIONARY FEATURE")
    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    if dictionary is not None and feature is not None:
        hits = _asked(
            store,
            lambda client: client.nearest(
                client.dictionary_info(dictionary).feature(feature), among, count, probe=probe
            ),
            is_quiet=form.is_for_programs,
        )
        columns = _OF_FEATURE
    elif text is not None:
        live = _live(model)
        with connect(store, read_only=True) as client:
            hits = client.nearest(None, among, count, text=text, model=live)
        columns = _OF_TEXT
    elif direction is not None:
        row = _numbers(direction)
        with connect(store, read_only=True) as client:
            hits = client.nearest(None, among, count, direction=row, model=recording, site=site)
        columns = _OF_DIRECTION
    else:
        row = _numbers(cast("Path", codes))
        with connect(store, read_only=True) as client:
            hits = client.nearest(None, among, count, codes=row, probe=probe)
        columns = _OF_CODES
    for left_out in hits.skipped:
        hint(f"{left_out.dictionary} is left out: {left_out.why}")
    rows = [[getattr(hit, field) for field in columns.values()] for hit in hits]
    write_list(form, hits, list(columns), rows, "no feature of these dictionaries is like it")


def _check_asked(asked: Mapping[str, object], told: Mapping[str, object]) -> None:
    """Refuse to look for nothing or several things at once, and options that say nothing of it."""
    given = [name for name, value in asked.items() if value is not None]
    if len(given) != 1:
        raise typer.BadParameter(f"give {_A_FEATURE}, --text, --direction or --codes")
    (what,) = given
    odd = [name for name, value in told.items() if value is not None and name not in _WITH[what]]
    if odd:
        raise typer.BadParameter(
            f"{odd[0]} says nothing of {what}, which goes with {' and '.join(_WITH[what])}"
        )


def _live(model: str | None) -> "LoadedModel":
    """Load the model that runs a text."""
    if model is None:
        raise typer.BadParameter("--text needs --model, which runs it here")
    from isogloss.models import load_model

    return load_model(model)


def _numbers(path: Path) -> "NDArray[np.generic]":
    """Read an array of numbers."""
    import numpy as np

    try:
        found: object = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InvalidInput(f"{path} holds no array of numbers ({error}): np.save one") from error
    if isinstance(found, np.ndarray):
        return cast("NDArray[np.generic]", found)
    raise InvalidInput(f"{path} holds several arrays, as np.savez writes them: np.save one")


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
            settings=cast("dict[str, Setting]", read_settings(set_ or [])),
        )
        made = outcome(client, job, detach=detach, is_json=is_json)
        if made is None:
            return
    if is_json:
        write_json(made)
    else:
        say(made.summary())
        say(f"\nmatch {made.id}; `isogloss report {made.id}` makes a page of it")


@app.command()
def matches(
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List matches."""
    from isogloss.service.cli.output import TableForm, time_of, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    with connect(store, read_only=True) as client:
        found = client.matches()
    rows = [(m.id, m.a, m.b, m.probe, m.pairs, time_of(m.created)) for m in found]
    titles = ("match", "a", "b", "probe", "pairs", "created")
    write_list(form, found, titles, rows, "no matches yet")


@app.command()
def pairs(
    match_id: Annotated[str, typer.Argument(metavar="MATCH", help="Id of the match.")],
    min_r: Annotated[
        float | None, typer.Option(help="Leave out pairs that correlate less.")
    ] = None,
    beyond_token: Annotated[
        bool, typer.Option("--beyond-token", help="Only pairs that share more than their token.")
    ] = False,
    count: Annotated[
        int | None, typer.Option(help="Most pairs to list; by default all, 30 on a terminal.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List the pairs of a match, highest correlation first.

    A file or JSON holds all that is known of each pair.
    """
    from isogloss.service.cli.output import TableForm, fields_of, hint, is_terminal, write_list
    from isogloss.service.values.results import PairInfo

    if count is not None and count < 1:
        raise typer.BadParameter(f"--count is {count}, wanted 1 or more")
    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    with connect(store, read_only=True) as client:
        found = client.pairs(match_id, min_r=min_r)
    if beyond_token:
        found = [pair for pair in found if pair.beyond_token == "yes"]
    most = count or (len(found) if form.is_for_programs or not is_terminal() else _SHOWN_PAIRS)
    shown = found[:most]
    if form.is_for_programs:
        titles, rows = fields_of(shown, PairInfo)
    else:
        titles = [
            "a",
            "b",
            "r",
            "from",
            "to",
            "given token",
            "replicates",
            "beyond token",
            "together",
        ]
        rows = [
            [
                *(p.feature_a, p.feature_b, p.r, p.ci_low, _upper(p), p.partial_token),
                *(p.replicates, p.beyond_token, p.cofires),
            ]
            for p in shown
        ]
    write_list(form, shown, titles, rows, "no pair of this match is so")
    if len(shown) < len(found) and not form.is_for_programs:
        hint(f"{len(found) - len(shown):,} more pairs: --count N, --csv or --json")
    if not form.is_for_programs and any(_is_marked(p) for p in shown):
        hint("+ behind an upper end: few firings decide, and r may lie above it")


def _upper(pair: "PairInfo") -> str | float:
    """Return the upper end of a pair's interval, with a sign where it is no claim."""
    from isogloss.service.cli.output import cell

    return f"{cell(pair.ci_high)}+" if _is_marked(pair) else pair.ci_high


def _is_marked(pair: "PairInfo") -> bool:
    """Return whether a pair has an interval whose upper end is no claim."""
    return pair.ci_high_loose and not math.isnan(pair.ci_high)


def _feature(
    store: str, named: tuple[str, int], probe: str | None, count: int, *, is_quiet: bool
) -> "FeatureInfo":
    """Ask what a feature does; build the probe where there is none."""

    def ask(client: "Client") -> "FeatureInfo":
        dictionary, feature = named
        found = client.dictionary_info(dictionary).feature(feature)
        return client.feature(found, probe=probe, contexts=count)

    return _asked(store, ask, is_quiet=is_quiet)


def _asked(store: str, ask: "Callable[[Client], AnswerT]", *, is_quiet: bool) -> AnswerT:
    """Ask something of a store that is only read, and again as its owner if a job is needed."""
    from isogloss.service.cli.output import progress

    with connect(store, read_only=True) as client, contextlib.suppress(NotPermitted):
        return ask(client)
    with connect(store) as client, progress(is_quiet=is_quiet) as show:
        show("building a probe first, which later questions use", 0, 0)
        return ask(client)


def _line(place: "FeatureContext") -> str:
    """Write a place in one line, with the segment on which the feature fires in brackets."""
    before, after = place.before[-_BEFORE:], place.after[:_AFTER]
    return " ".join(f"{before}[{place.peak}]{after}".split())
