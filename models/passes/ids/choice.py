"""Of the ids that rows may be of: those that the user names, and those that all sites share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from torch import Tensor, nn

from isogloss.errors import InvalidInput
from isogloss.models.passes.axes.tables import TracedAxes
from isogloss.models.passes.ids.sources import IdSource, Reading
from isogloss.models.passes.inputs import Signature, same


def checked_ids(module: nn.Module, ids: str | None) -> str | None:
    """Return the argument that holds the token ids, if the forward pass takes one of that name."""
    signature = Signature(module)
    if ids is not None and not signature.takes(ids):
        there_are = ", ".join(map(repr, signature.by_name)) or "no arguments by name"
        raise InvalidInput(
            f"ids is {ids!r}, and the model's forward pass takes {there_are}; give the name of the "
            "one that holds the token ids which the sites work on"
        )
    return ids


def chosen_ids(
    ids: str, site: str, root: Reading, traced: TracedAxes | None, found: Sequence[IdSource]
) -> list[IdSource]:
    """Return the source that the user names, in the order in which it was read.

    Raises:
        InvalidInput: this pass was given none of that name, or the site certainly works on others.
    """
    arguments = root.arguments
    table = arguments.tables.get(ids)
    if table is None:
        value = arguments.named.get(ids)
        what = "nothing" if value is None else type(value).__name__
        if isinstance(value, Tensor):
            what = f"{value.dtype} {list(value.shape)}"
        given = ", ".join(map(repr, arguments.tables)) or "none"
        raise InvalidInput(
            f"ids is {ids!r}, and this pass was given {what} as that, wanted whole numbers "
            f"[sequences, tokens]; such arguments of it are: {given}"
        )
    own = [replace(source, is_choice=False) for source in found if same(source.ids, table)]
    is_other = traced is not None and traced.is_of_others(table)
    if is_other or (found and not own and not any(source.is_choice for source in found)):
        others = sorted(
            {repr(_given_as(source, root)) for source in found if not same(source.ids, table)}
        )
        those = f": those of {' or '.join(others)}" if others else ""
        raise InvalidInput(
            f"ids is {ids!r}, and site {site!r} works on other token ids{those}; name the argument "
            "that holds them, or choose another site"
        )
    return own or [IdSource(name=ids, ids=table, reading=root)]


def _given_as(source: IdSource, root: Reading) -> str:
    """Return the argument of the model that holds some ids; their own name where none does."""
    tables = root.arguments.tables.items()
    return next((name for name, table in tables if same(table, source.ids)), source.name)


def merged_sources(
    found: Mapping[str, Sequence[IdSource]],
) -> tuple[list[IdSource], dict[str, list[int]]]:
    """Return the sources of all sites, each once, and for each site which are its own.

    Of those that are the same the innermost call is taken: what is masked or cached is told there
    or around it.

    Raises:
        InvalidInput: sites are of other ids than each other.
    """
    every: list[IdSource] = []
    places: dict[str, list[int]] = {}
    for name, some in found.items():
        for source in some:
            place = next((i for i, one in enumerate(every) if one.equals(source)), len(every))
            if place == len(every):
                every.append(source)
            elif len(source.chain) > len(every[place].chain):
                every[place] = source
            places.setdefault(name, []).append(place)
    (first, own), *others = places.items()
    odd = next((name for name, other in others if not set(own) & set(other)), None)
    if odd is not None:
        raise not_aligned(first, odd)
    return every, places


def not_aligned(first: str, other: str) -> InvalidInput:
    """Return the error for two sites that are of other ids than each other."""
    return InvalidInput(
        f"sites {first!r} and {other!r} read other token ids than each other, such as an "
        "encoder's and a decoder's: their rows do not align; record them one by one"
    )
