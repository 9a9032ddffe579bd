"""Texts as a model reads them, whole: what instruments of mechanisms run on."""

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from isogloss.errors import InvalidInput
from isogloss.models.resolve import device_of
from isogloss.models.tokens import (
    EncodedDocument,
    Encoder,
    Tokenizer,
    encode_token_ids,
    encoder,
    special_ids,
    token_limit,
    vocabulary,
)
from isogloss.models.wrappers import LoadedModel, unwrapped

_LONGEST = 1 << 20

_READERS: "WeakKeyDictionary[Tokenizer, _Reader]" = WeakKeyDictionary()

Text = str | Sequence[int]
"""A text; or token ids, for a model that comes without a tokenizer."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Reader:
    """What is made of a tokenizer once: of a large vocabulary it takes a second."""

    encoder: Encoder
    strings: tuple[str, ...]
    special: frozenset[int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Prompt:
    """A text as a model reads it."""

    ids: Tensor
    """Token ids with special tokens, ``[tokens]``, int64, where the model's inputs go."""
    tokens: tuple[str, ...]
    """What each token is, as the text has it; without a tokenizer its id."""
    span: NDArray[np.uint32] | None
    """Code points ``[start, end)`` of each token in the text, ``[tokens, 2]``, none of a special
    one; None: the tokenizer does not tell."""


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
    if not len(encoded.input_ids):
        raise InvalidInput(f"the text {str(text)[:40]!r} has no token; give a longer one")
    ids = torch.from_numpy(encoded.input_ids)
    check_ids(model, ids)
    shown = str(text) if isinstance(text, str) else None
    span = None if encoded.span is None else np.where(encoded.content[:, None], encoded.span, 0)
    return Prompt(
        ids=ids.to(device_of(root)), tokens=_shown(model.tokenizer, encoded, shown), span=span
    )


def token_windows(
    model: LoadedModel, texts: Sequence[Text], *, tokens: int = 64, most: int = 64
) -> Tensor:
    """Cut texts into windows of equal length, ``[windows, tokens]``, where the model's inputs go.

    Each begins with the special tokens that the tokenizer puts before a text. What is left of a
    text beyond its last whole window is left out.

    Args:
        model: module and tokenizer.
        texts: texts, or token ids.
        tokens: of a window, special ones among them.
        most: windows at most, the first ones.

    Raises:
        InvalidInput: no text fills a window, a window is longer than the model's context, or the
            model has no tokenizer for a text.
    """
    start, limit = start_ids(model), context(model)
    each = tokens - len(start)
    if each < 1 or most < 1 or (limit is not None and tokens > limit):
        raise InvalidInput(
            f"{most} windows of {tokens} tokens, {len(start)} of them special; the model reads "
            f"{limit or 'any number'}: choose others"
        )
    found: list[list[int]] = []
    longest = 0
    for text in texts:
        encoded = _encoded(model, text)
        inside = encoded.input_ids[encoded.content].tolist()
        longest = max(longest, len(inside))
        found += [[*start, *inside[i : i + each]] for i in range(0, len(inside) - each + 1, each)]
        if len(found) >= most:
            break
    if not found:
        raise InvalidInput(
            f"no text has {each} tokens beside special ones (the longest of {len(texts)} has "
            f"{longest}): give longer ones, or ask for windows of fewer than {tokens} tokens"
        )
    return torch.tensor(found[:most]).to(device_of(unwrapped(model.module)))


def token_name(model: LoadedModel, token: int) -> str:
    """Return a token as text has it; without a tokenizer its id.

    A part of a character, which is no text by itself, is named as the vocabulary has it.

    Args:
        model: module and tokenizer.
        token: its id.
    """
    strings = () if model.tokenizer is None else _reader(model.tokenizer).strings
    if not 0 <= token < len(strings):
        return str(token)
    decode: object = getattr(model.tokenizer, "decode", None)
    text = str(decode([token])) if callable(decode) else ""
    return strings[token] if not text or "\ufffd" in text else text


def context(model: LoadedModel) -> int | None:
    """Return the most tokens that a model reads at once; None: nothing tells."""
    root = unwrapped(model.module)
    said: object = getattr(getattr(root, "config", None), "max_position_embeddings", None)
    cfg: object = getattr(getattr(root, "cfg", None), "n_ctx", None)
    told = [one for one in (token_limit(root, model.tokenizer), said, cfg) if isinstance(one, int)]
    return min(told, default=None)


def check_context(model: LoadedModel, tokens: int) -> None:
    """Refuse texts that are longer than what a model reads at once.

    Args:
        model: module and tokenizer.
        tokens: of the texts.

    Raises:
        InvalidInput: they are more.
    """
    limit = context(model)
    if limit is not None and tokens > limit:
        raise InvalidInput(f"the text has {tokens} tokens, the model reads {limit}; shorten it")


def check_ids(model: LoadedModel, ids: Tensor) -> None:
    """Refuse token ids that a model cannot read.

    Args:
        model: module and tokenizer.
        ids: of texts, ``[..., tokens]``.

    Raises:
        InvalidInput: texts are longer than the model's context, or an id is not in its table or no
            whole number.
    """
    check_context(model, ids.shape[-1])
    if ids.is_floating_point() or ids.is_complex() or ids.dtype is torch.bool:
        raise InvalidInput(f"token ids are {ids.dtype}; wanted whole numbers, such as int64")
    known = table_size(model)
    for one in (int(ids.min()), int(ids.max())) if ids.numel() else ():
        if one < 0 or (known is not None and one >= known):
            raise InvalidInput(f"token id {one} is not in the model's table of {known or 'ids'}")


def content_ids(model: LoadedModel) -> Tensor:
    """Return the ids of tokens that are not special, ascending, ``[ids]``.

    Raises:
        InvalidInput: neither the tokenizer nor the model tells how many there are.
    """
    known = table_size(model)
    reader = None if model.tokenizer is None else _reader(model.tokenizer)
    if reader is not None:
        known = len(reader.strings) if known is None else min(known, len(reader.strings))
    if known is None:
        raise InvalidInput(
            f"how many token ids {model.name!r} knows is not told by a configuration or a "
            "tokenizer; give the token ids to run on"
        )
    special = frozenset[int]() if reader is None else reader.special
    return torch.tensor([i for i in range(known) if i not in special])


def start_ids(model: LoadedModel) -> list[int]:
    """Return the special tokens that a model's tokenizer puts before a text."""
    if model.tokenizer is None:
        return []
    encoded = _encoded(model, "a")
    first = int(np.argmax(encoded.content)) if encoded.content.any() else len(encoded.content)
    return encoded.input_ids[:first].tolist()


def _encoded(model: LoadedModel, text: Text) -> EncodedDocument:
    if not isinstance(text, str):
        return encode_token_ids(text, None)
    if model.tokenizer is None:
        raise InvalidInput(f"{model.name!r} has no tokenizer; give token ids in place of a text")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"the text {text[:40]!r} has a lone surrogate at {error.start}, which is no character: "
            "give what UTF-8 can write"
        ) from error
    return _reader(model.tokenizer).encoder.encode([text])[0]


def _reader(tokenizer: Tokenizer) -> _Reader:
    if tokenizer not in _READERS:
        _READERS[tokenizer] = _Reader(
            encoder=encoder(tokenizer, _LONGEST),
            strings=vocabulary(tokenizer),
            special=special_ids(tokenizer),
        )
    return _READERS[tokenizer]


def table_size(model: LoadedModel) -> int | None:
    """Return how many token ids a model's table has; None: nothing tells."""
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
    strings = _reader(tokenizer).strings
    shown: list[str] = []
    for i, token in enumerate(encoded.input_ids.tolist()):
        piece = strings[token] if token < len(strings) else str(token)
        if text is not None and encoded.span is not None and encoded.content[i]:
            start, end = encoded.span[i].tolist()
            piece = text[start:end] or piece
            is_apart = i > 0 and encoded.span[i - 1][0] < encoded.span[i - 1][1] < start
            if is_apart and not piece[0].isspace():
                piece = f" {piece}"  # spans leave out the blank that the token begins with
        shown.append(piece)
    return tuple(shown)
