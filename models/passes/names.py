"""What the names of arguments and embeddings say: token ids, masks, positions, types, labels."""

import re

from isogloss.errors import InvalidInput
from isogloss.models.passes.inputs import OTHER_IDS, Signature

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NOT_TOKENS = frozenset((
    "pos", "position", "positions", "positional", "pe", "wpe", "ape", "rpe", "seg", "segs",
    "segment", "segments", "type", "types", "lang", "langs", "language", "languages", "rel",
    "relative", "bias", "step", "steps", "timestep", "timesteps", "turn", "turns", "tag",
    "tags", "ner", "cls", "class", "classes", "task", "label", "labels", "speaker", "speakers",
    "entity", "bucket", "buckets", "distance", "hash", "shape", "pronunciation",
))  # fmt: skip
_NOT_READ = frozenset((
    "label", "labels", "target", "targets", "y", "ys", "gold", "golds", "answer", "answers",
    "next", "weight", "weights", "length", "lengths",
))  # fmt: skip
_MASKS = frozenset(("mask", "masks"))
_IDS = frozenset(("ids", "tokens", "src", "tgt", "trg"))
_TABLES = frozenset(("tok", "token", "tokens", "word", "words", "wte", "vocab"))


def words(name: str) -> list[str]:
    """Return the words of a name in their order, in small letters: ``tokenTypeIds`` has three."""
    return [word.lower() for word in _WORDS.findall(name)]


def is_mask(name: str) -> bool:
    """Return whether an argument is named as a mask is."""
    return not _MASKS.isdisjoint(words(name))


def is_ids(name: str) -> bool:
    """Return whether an argument is named as token ids are."""
    is_named = name in OTHER_IDS or not _IDS.isdisjoint(words(name))
    return is_named and not is_no_token(name)


def is_no_token(name: str) -> bool:
    """Return whether a name calls positions, types, tags, masks and the like."""
    return not (_NOT_TOKENS | _MASKS).isdisjoint(words(name))


def is_not_read(name: str) -> bool:
    """Return whether an argument is named as what a model compares its output with."""
    return not _NOT_READ.isdisjoint(words(name))


def is_feature_table(path: str, kind: str) -> bool:
    """Return whether an embedding is of positions, types and the like, by its names.

    Args:
        path: of the embedding in the model.
        kind: name of its class.
    """
    *outer, last = path.split(".")
    own = {*words(last)}
    if own & _TABLES:
        return bool(own & {"type", "types"})
    is_named = bool((own | {*words(kind)}) & _NOT_TOKENS)
    return is_named or any("posit" in part or part == "pos" for part in outer[-1:])


def ids_parameter(signature: Signature) -> str | None:
    """Return the argument that documents are given as; None: the first, by position.

    Args:
        signature: of the model's forward pass.

    Raises:
        InvalidInput: the model wants more than token ids and what goes with them.
    """
    names = signature.by_name
    told = [name for name in names if is_ids(name)]
    first = signature.required[0] if signature.required else None
    name = names[0] if names and first in (None, *names) else None
    if signature.takes_ids:
        name = "input_ids"
    elif name is not None and (is_no_token(name) or is_not_read(name)) and told:
        name = told[0]
    known = {name, "attention_mask", "use_cache", "decoder_input_ids"}
    more = [wanted for wanted in signature.required if wanted not in known]
    if name is None:
        return None
    if more:
        raise InvalidInput(
            f"the model's forward pass wants {', '.join(more)} beside token ids, which documents "
            "do not have; record a part of the model that reads token ids alone, or a loop of your "
            "own (client.record)"
        )
    return name if signature.takes_ids or name != names[0] else None
