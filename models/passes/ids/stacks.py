"""Which modules around the sites read token ids: the model, and stacks inside of it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from torch import nn

from isogloss.models.passes.inputs import Signature

_DECODER, _DECODER_IDS = "decoder", "decoder_input_ids"
# a layer that is given hidden states and also the ids, such as to route by them, reads what the
# stack around it reads; its mask and its cache are made there, and others have written into it
_HIDDEN_STATES = "hidden_states"


@dataclass(frozen=True, kw_only=True, eq=False)
class Stack:
    """A module that reads token ids."""

    name: str
    """Its path in the model; empty for the model itself."""
    signature: Signature
    is_pair: bool
    """Whether it takes ids for a decoder beside those of an encoder."""
    is_decoder: bool
    """Whether it is the decoder in such a module."""
    is_known: bool
    """Whether its library says that rows are of its ``input_ids``."""


_LIBRARY = "transformers."


def is_of_library(module: nn.Module) -> bool:
    """Return whether a module is a model of transformers, of which ``input_ids`` are the tokens."""
    is_model = any(kind.__name__ == "PreTrainedModel" for kind in type(module).__mro__)
    return is_model and type(module).__module__.startswith(_LIBRARY)


def stacks_around(
    module: nn.Module, sites: Iterable[nn.Module], embeddings: Sequence[str] = ()
) -> dict[nn.Module, Stack]:
    """Return the modules that read ids for some sites.

    Args:
        module: the model; it is always among them.
        sites: submodules; one may have several paths.
        embeddings: paths of the embeddings of tokens; what holds one and a site reads ids.

    Returns:
        Parents before their children.
    """
    paths = dict(module.named_modules(remove_duplicate=False))
    wanted = set(sites)
    around = {""} | {
        ".".join(parts[:n])
        for name, found in paths.items()
        if found in wanted
        for parts in [name.split(".")]
        for n in range(1, len(parts) + 1)
    }
    readers = {name: Signature(paths[name]) for name in paths if name in around}
    pairs = {name for name, found in readers.items() if _DECODER_IDS in found.names}
    decoders = {name for pair in pairs for name in _decoders(paths[pair], pair)}
    readers |= {name: Signature(paths[name]) for name in decoders}
    pairs = {
        pair
        for pair in pairs
        if is_of_library(paths[pair]) or any(_is_within(name, pair) for name in decoders)
    }
    holders = {outer for path in embeddings for outer in _around(path)}
    known = {name for name in readers if is_of_library(paths[name])}
    stacks: dict[nn.Module, Stack] = {}
    for name, signature in readers.items():
        holds = name in holders and not any(outer in known for outer in _around(name))
        if not name or _reads_ids(signature) or name in pairs or holds:
            stacks.setdefault(
                paths[name],
                Stack(
                    name=name,
                    signature=signature,
                    is_pair=name in pairs,
                    is_decoder=name in decoders,
                    is_known=is_of_library(paths[name]) and signature.takes_ids,
                ),
            )
    return stacks


def _around(name: str) -> list[str]:
    """Return the paths that a path lies within, that of the model first."""
    parts = name.split(".")
    return [".".join(parts[:n]) for n in range(len(parts))] if name else []


def _is_within(name: str, other: str) -> bool:
    """Return whether a path lies within another, and is not it."""
    return name != other and (not other or name.startswith(f"{other}."))


def _reads_ids(signature: Signature) -> bool:
    return signature.takes_ids and _HIDDEN_STATES not in signature.names


def _decoders(pair: nn.Module, name: str) -> list[str]:
    get = getattr(pair, "get_decoder", None)
    told = get() if callable(get) else None
    found = [
        path
        for path, module in pair.named_modules(remove_duplicate=False)
        if (module is told or _DECODER in path.split("."))
        and _reads_ids(signature := Signature(module))
        and _DECODER_IDS not in signature.names
    ]
    outer = [path for path in found if not any(path.startswith(f"{other}.") for other in found)]
    return [f"{name}.{path}" if name else path for path in outer]
