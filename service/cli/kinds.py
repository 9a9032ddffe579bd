"""The command that lists kinds of dictionary, and how their settings are written in a command."""

import json
from collections.abc import Mapping, Sequence
from typing import cast

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption, connect

app = typer.Typer()


@app.command()
def kinds(store: StoreOption = DEFAULT_STORE, is_json: JsonOption = False) -> None:
    """List kinds of dictionary to train, and their settings."""
    from isogloss.service.cli.output import say, write_json, write_table

    with connect(store, run_workers=False) as client:
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


def read_settings(given: Sequence[str]) -> dict[str, object]:
    """Return settings written as ``name=value``; a value that is not JSON is a text.

    Raises:
        InvalidInput: one has no ``=``, or a name comes twice.
    """
    found: dict[str, object] = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise InvalidInput(f"--set {text!r} is not of the form NAME=VALUE, such as l1=0.02")
        if name in found:
            raise InvalidInput(f"--set gives {name!r} twice: leave one of them out")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _properties(schema: Mapping[str, object]) -> list[tuple[str, Mapping[str, object]]]:
    found = cast("Mapping[str, Mapping[str, object]]", schema.get("properties", {}))
    return list(found.items())


def _setting(name: str, rule: Mapping[str, object]) -> str:
    """Write a setting: its name, and its default where it has one."""
    return f"{name}={json.dumps(rule['default'])}" if "default" in rule else name
