"""When two names are of one site: what a model's own paths may have before them.

One submodule has several names. A compiled or distributed model holds it under ``_orig_mod`` or
``module``, and a model with a head holds its base model under one name more (``model.layers.3``,
``transformer.h.3``). A live model says what that name is; a recording and a passport have the names
alone. Both ask here, so that what a model takes for one site is one site to a store.
"""

import re

_HELD = ("_orig_mod", "module", "_module")
_GUESSED = re.compile(r"(?!encoder\.|decoder\.|vision|audio)[a-z_]\w*\.(?=\D)")


def without_wrappers(name: str) -> str:
    """Return a site's name without the components that wrappers put before it."""
    while name.partition(".")[0] in _HELD and "." in name:
        name = name.partition(".")[2]
    return name


def without_prefix(name: str, prefix: str) -> str:
    """Return a site's name as the base model has it.

    Args:
        name: path of a submodule, such as ``gpt_neox.layers.3``.
        prefix: under what the whole model holds its base model, such as ``gpt_neox``; empty: it is
            not known, or there is none.
    """
    return name.removeprefix(f"{prefix}.") if prefix else name


def is_same_site(one: str, other: str, prefix: str = "") -> bool:
    """Return whether two names mean one site of a model, with or without what stands before it.

    Of the two one may begin with ``prefix``, or with any one component but such as are places of
    their own beside others: an encoder, a decoder, what sees and what hears.

    Args:
        one: path of a submodule, such as ``layers.3``.
        other: another path.
        prefix: under what the model holds its base model; empty: no model is at hand, or it has
            none.
    """
    short, long = sorted(map(without_wrappers, (one, other)), key=len)
    if without_prefix(long, prefix) == without_prefix(short, prefix):
        return True
    found = _GUESSED.match(long)
    return found is not None and long[found.end() :] == short


__all__ = ["is_same_site", "without_prefix", "without_wrappers"]
