"""What each command does unasked, read from its own options."""

from collections.abc import Iterator

import typer
from typer.main import get_command

from isogloss.service.cli.main import app


def flags(below: object, *words: str) -> Iterator[tuple[str, bool]]:
    """Yield each flag of each command, with the words that call it, and whether it is on."""
    for name, command in getattr(below, "commands", {}).items():
        yield from flags(command, *words, name)
    for option in getattr(below, "params", ()):
        if getattr(option, "is_flag", False):
            yield " ".join((*words, option.opts[0])), bool(option.default)


def flags_on() -> set[str]:
    """Return command and flag, for each flag that is on unless it is switched off."""
    found = dict(flags(get_command(app)))
    if "probes --json" not in found:
        raise AssertionError(f"typer {typer.__version__} shows its options in another way")
    return {words for words, is_on in found.items() if is_on}
