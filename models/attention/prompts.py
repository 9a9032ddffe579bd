"""Texts as a model reads them, whole: what instruments of mechanisms run on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.load import LoadedModel
from isogloss.models.resolve import device_of
from isogloss.models.tokens import (
    EncodedDocument,
    Tokenizer,
    encode_token_ids,
    encoder,
    special_ids,
    token_limit,
    vocabulary,
)
from isogloss.models.wrappers import unwrapped

_LONGEST = 1 << 20

Text = str | Sequence[int]
"""A text; or token ids, for a model that comes without a tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """A text as a model reads it."""

    ids: Tensor
    """Token ids with special tokens, ``[tokens]``, int64, where the model's inputs go."""
    tokens: tuple[str, ...]
    """What each token is, as the text has it; without a tokenizer its id."""


def read_prompt(model: LoadedModel, text: Text) -> Prompt:
    """Encode a text, with the special tokens that the tokenizer puts around it.

    Args:
        model: module and tokenizer.
        text: a text, or token ids.

    Raises:
        InvalidInput: the text is empty or longer than the model's context, the model has no
            tokenizer for it, or an id is not in the model's table.
    """
    root = unwrapped(model.module)
    encoded = _encoded(model, text)
    length, limit = len(encoded.input_ids), context(model)
    if not length:
        raise InvalidInput(f"the text {str(text)[:40]!r} has no token; give a longer one")
    if limit is not None and length > limit:
        raise InvalidInput(f"the text has {length} tokens, the model reads {limit}; shorten it")
    known, highest = _table_size(model), int(encoded.input_ids.max())
    if known is not None and highest >= known:
        raise InvalidInput(f"token id {highest} is not in the model's table of {known}")
    ids = torch.from_numpy(encoded.input_ids).to(device_of(root))
    shown = str(text) if isinstance(text, str) else None
    return Prompt(ids=ids, tokens=_shown(model.tokenizer, encoded, shown))


def context(model: LoadedModel) -> int | None:
    """Return the most tokens that a model reads at once; None: nothing tells."""
    root = unwrapped(model.module)
    said: object = getattr(getattr(root, "config", None), "max_position_embeddings", None)
    cfg: object = getattr(getattr(root, "cfg", None), "n_ctx", None)
    told = [one for one in (token_limit(root, model.tokenizer), said, cfg) if isinstance(one, int)]
    return min(told, default=None)


def content_ids(model: LoadedModel) -> Tensor:
    """Return the ids of tokens that are not special, ascending, ``[ids]``.

    Raises:
        InvalidInput: neither the tokenizer nor the model tells how many there are.
    """
    known = _table_size(model)
    if model.tokenizer is not None:
        most = 1 + max(model.tokenizer.get_vocab().values(), default=-1)
        known = most if known is None else min(known, most)
    if known is None:
        raise InvalidInput(
            f"how many token ids {model.name!r} knows is not told by a configuration or a "
            "tokenizer; give the token ids to run on"
        )
    special = special_ids(model.tokenizer)
    return torch.tensor([i for i in range(known) if i not in special])


def start_ids(model: LoadedModel) -> list[int]:
    """Return the special tokens that a model's tokenizer puts before a text."""
    if model.tokenizer is None:
        return []
    content = _encoded(model, "a").content
    first = int(np.argmax(content)) if content.any() else len(content)
    return _encoded(model, "a").input_ids[:first].tolist()


def _encoded(model: LoadedModel, text: Text) -> EncodedDocument:
    if not isinstance(text, str):
        return encode_token_ids(text, None)
    if model.tokenizer is None:
        raise InvalidInput(f"{model.name!r} has no tokenizer; give token ids in place of a text")
    return encoder(model.tokenizer, _LONGEST).encode([text])[0]


def _table_size(model: LoadedModel) -> int | None:
    root = unwrapped(model.module)
    for holder, name in (("config", "vocab_size"), ("cfg", "d_vocab")):
        found: object = getattr(getattr(root, holder, None), name, None)
        if isinstance(found, int) and found > 0:
            return found
    return None


def _shown(
    tokenizer: Tokenizer | None, encoded: EncodedDocument, text: str | None
) -> tuple[str, ...]:
    if tokenizer is None:
        return tuple(str(token) for token in encoded.input_ids.tolist())
    strings = vocabulary(tokenizer)
    shown: list[str] = []
    for i, token in enumerate(encoded.input_ids.tolist()):
        piece = strings[token] if token < len(strings) else str(token)
        if text is not None and encoded.span is not None and encoded.content[i]:
            start, end = encoded.span[i].tolist()
            piece = text[start:end] or piece
            if start and text[start - 1].isspace() and not piece[0].isspace():
                piece = f" {piece}"  # spans leave out the blank that the token begins with
        shown.append(piece)
    return tuple(shown)
