"""The wirings there are: one row each. Imports no wiring and no torch."""

from isogloss.dictionaries.registry import Registry

DEFAULT_WIRING = "sae"
"""The wiring that is trained where none is named."""

WIRINGS = Registry(
    noun="wiring",
    group="isogloss.wirings",
    built_in={
        "crosscoder": "isogloss.dictionaries.wirings.crosscoder:Crosscoder",
        "sae": "isogloss.dictionaries.wirings.sae:Sae",
        "transcoder": "isogloss.dictionaries.wirings.transcoder:Transcoder",
    },
)
"""Name -> class. A package adds a row by an entry point in the group ``isogloss.wirings``."""


def wiring_names() -> list[str]:
    """Return the names of all wirings that this environment can train, sorted."""
    return WIRINGS.names()
