"""The command that lists kinds of dictionary, and how their settings are written in a command."""

import json
from collections.abc import Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, cast

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption, connect

if TYPE_CHECKING:
    from isogloss.service.values.results import SiteRef

app = typer.Typer()


@app.command()
def kinds(store: StoreOption = DEFAULT_STORE, is_json: JsonOption = False) -> None:
    """List kinds of dictionary to train, and their settings."""
    from isogloss.service.cli.output import say, write_json, write_table

    with connect(store, read_only=True) as client:
        found, wirings = client.kinds(), client.wirings()
    if is_json:
        write_json({"kinds": found, "wirings": wirings})
        return
    rows = [
        (
            *(kind.name, "default" if kind.is_default else ""),
            ", ".join(_setting(name, rule) for name, rule in _properties(kind.schema)),
            kind.problem or kind.summary,
        )
        for kind in found
    ]
    write_table(("kind", "", "settings", ""), rows, "no kinds")
    say(f"wirings: {', '.join(wirings)}")


def read_sources(
    recording: str,
    sites: Sequence[str],
    also: Sequence[str],
    target: str | None,
) -> "list[SiteRef]":
    """Return the sites to train on: of the recording, of others, then the one to reconstruct.

    Raises:
        InvalidInput: a site of another recording is not written as ``recording:site``.
    """
    from isogloss.service.values.results import SiteRef  # loads numpy, which --help does without

    found = [SiteRef(recording=recording, site=site) for site in sites]
    for text in also:
        other, sign, site = text.partition(":")
        if not sign or not other or not site:
            raise InvalidInput(f"--also {text!r} is not of the form RECORDING:SITE")
        found.append(SiteRef(recording=other, site=site))
    if target is not None:
        found.append(SiteRef(recording=recording, site=target))
    return found


def chosen_wiring(wiring: str | None, sites: int, target: str | None) -> str | None:
    """Return the wiring of so many sites: the named one, or that which ``--target`` means.

    Raises:
        InvalidInput: there are several sites and nothing says how they are wired.
    """
    if wiring is not None or target is not None:
        return wiring or "transcoder"
    if sites > 1:
        raise InvalidInput(
            f"{sites} sites are given and no wiring: add --wiring crosscoder to learn features of "
            "all of them together, or name the one to reconstruct by --target"
        )
    return None


def each_of(
    common: Mapping[str, object], several: Mapping[str, Sequence[object] | None]
) -> list[dict[str, object]]:
    """Return the settings of a dictionary for every combination of repeated options.

    Raises:
        InvalidInput: a value is given twice; or there are several, and an id for one.
    """
    for name, values in several.items():
        if values and len({*values}) < len(values):
            raise InvalidInput(f"--{name} is {list(values)}: give each value once")
    names = [name for name, values in several.items() if values]
    runs = [
        {**common, **dict(zip(names, chosen, strict=True))}
        for chosen in product(*(several[name] or () for name in names))
    ]
    if len(runs) > 1 and common.get("dictionary") is not None:
        raise InvalidInput(
            f"--dictionary names one, and {len(runs)} are asked for: leave it out, each gets an id"
        )
    return runs


def quality(metrics: Mapping[str, float]) -> str:
    """Return what a dictionary explains of held-out rows, and of the usual ones if others are."""
    if "fvu" not in metrics:
        return ""
    text = f", {100 * (1 - metrics['fvu']):.1f} % of held-out variance explained"
    usual, rows = metrics.get("usual_fvu"), metrics.get("rows")
    if usual is None or metrics.get("usual_rows") == rows:
        return text
    return f"{text}, {100 * (1 - usual):.1f} % of that of usual rows"


def read_settings(given: Sequence[str], option: str = "--set") -> dict[str, object]:
    """Return settings written as ``name=value``; a value that is not JSON is a text.

    Raises:
        InvalidInput: one has no ``=``, or a name comes twice.
    """
    found: dict[str, object] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidInput(f"{option} {text!r} is not of the form NAME=VALUE, such as l1=0.02")
        if name in found:
            raise InvalidInput(f"{option} gives {name!r} twice: leave one of them out")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def read_start(given: Sequence[str]) -> Mapping[str, object] | str:
    """Return where weights start: settings, or the id of a dictionary, which has no ``=``.

    Raises:
        InvalidInput: an id stands beside others, or a name comes twice.
    """
    if len(given) == 1 and "=" not in given[0]:
        return given[0]
    return read_settings(given, "--init")


def _properties(schema: Mapping[str, object]) -> list[tuple[str, Mapping[str, object]]]:
    found = cast("Mapping[str, Mapping[str, object]]", schema.get("properties", {}))
    return list(found.items())


def _setting(name: str, rule: Mapping[str, object]) -> str:
    """Write a setting: its name, and its default where it has one."""
    return f"{name}={json.dumps(rule['default'])}" if "default" in rule else name
