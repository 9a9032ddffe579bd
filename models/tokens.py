"""Documents to token ids, positions and code-point spans; what names a tokenizer."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr

if TYPE_CHECKING:
    import tokenizers

_POSITION_TABLES = (
    "position_embeddings", "position_embedding", "embed_positions", "positions_embed", "wpe",
)  # fmt: skip
_POSITION_ARRAYS = ("embed_positions", "pos_encoding", "W_pos")  # [positions, width], no module
_CONFIGURED = {"mpt": "max_seq_len", "reformer": "max_position_embeddings"}
_UNBOUNDED = 1_000_000  # transformers writes 1e30 where a tokenizer has no limit of its own


@runtime_checkable
class Tokenizer(Protocol):
    """The methods that all tokenizers have.

    Those of Hugging Face, fast and slow, and ``tokenizers.Tokenizer``.
    """

    def get_vocab(self) -> dict[str, int]:
        """Return token string -> id."""
        ...


@runtime_checkable
class _SlowTokenizer(Tokenizer, Protocol):
    """The part of a tokenizer written in Python (no spans) that is used here."""

    def tokenize(self, text: str) -> list[str]: ...
    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]: ...
    def num_special_tokens_to_add(self) -> int: ...
    def build_inputs_with_special_tokens(self, token_ids_0: list[int]) -> list[int]: ...
    def get_special_tokens_mask(self, token_ids_0: list[int]) -> list[int]: ...


@dataclass(frozen=True, kw_only=True)
class EncodedDocument:
    """One document as the model reads it."""

    input_ids: NDArray[np.int64]
    """Token ids with special tokens, ``[tokens]``."""
    content: NDArray[np.bool_]
    """False at special tokens, wherever they stand, ``[tokens]``."""
    span: NDArray[np.uint32] | None
    """Code points ``[start, end)`` of each token in the text, ``[tokens, 2]``; None: not known.

    As the tokenizer tells: empty for a token that is white space alone; pieces of one code point
    all have its span.
    """
    dropped: int
    """Content tokens cut off at the maximum length."""
    literal: int = 0
    """Special tokens that stand in the text itself: no rows, as those that the tokenizer adds."""

    __repr__ = short_repr


def fast_backend(tokenizer: Tokenizer) -> "tokenizers.Tokenizer | None":
    """Return a copy of the Rust tokenizer inside, without padding; None for a slow tokenizer."""
    inside = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not hasattr(inside, "encode_batch") or not hasattr(inside, "to_str"):
        return None
    rust = cast("tokenizers.Tokenizer", inside)
    copy = type(rust).from_str(rust.to_str())
    copy.no_padding()
    copy.no_truncation()
    return copy


def encode_documents(
    tokenizer: Tokenizer, texts: Sequence[str], max_tokens: int
) -> list[EncodedDocument]:
    """Encode texts, each cut at ``max_tokens`` (special tokens count).

    Raises:
        InvalidInput: ``max_tokens`` leaves no room for content, or the tokenizer is of no known
            kind.
    """
    return encoder(tokenizer, max_tokens).encode(texts)


def encoder(tokenizer: Tokenizer, max_tokens: int) -> "Encoder":
    """Return the encoder for a tokenizer; building one for a fast tokenizer copies it."""
    backend = fast_backend(tokenizer)
    if backend is not None:
        return _FastEncoder(backend, max_tokens, special_ids(tokenizer))
    if hasattr(tokenizer, "build_inputs_with_special_tokens"):
        return _SlowEncoder(cast("_SlowTokenizer", tokenizer), max_tokens)
    raise InvalidInput(
        f"{type(tokenizer).__name__} is no tokenizer that is known here; give one of "
        f"transformers or "
        "tokenizers, or documents as token ids and no tokenizer"
    )


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into what the model reads."""

    def encode(self, texts: Sequence[str]) -> list[EncodedDocument]:
        """Encode texts in order."""
        ...


class _FastEncoder:
    def __init__(
        self, backend: "tokenizers.Tokenizer", max_tokens: int, special: frozenset[int]
    ) -> None:
        _check_room(max_tokens, int(backend.num_special_tokens_to_add(is_pair=False)))
        backend.enable_truncation(max_tokens)
        self._backend = backend
        self._special = np.array(sorted(special), dtype=np.int64)

    def encode(self, texts: Sequence[str]) -> list[EncodedDocument]:
        return [self._one(e) for e in self._backend.encode_batch(list(texts))]

    def _one(self, encoding: "tokenizers.Encoding") -> EncodedDocument:
        added = np.array(encoding.special_tokens_mask, dtype=np.bool_)
        span = np.array(encoding.offsets, dtype=np.uint32).reshape(-1, 2)
        ids = np.array(encoding.ids, dtype=np.int64)
        special = np.isin(ids, self._special)
        return EncodedDocument(
            input_ids=ids,
            content=~special,
            span=span,
            dropped=sum(self._content(piece) for piece in encoding.overflowing),
            literal=int((special & ~added).sum()),
        )

    def _content(self, encoding: "tokenizers.Encoding") -> int:
        return int((~np.isin(np.array(encoding.ids, dtype=np.int64), self._special)).sum())


class _SlowEncoder:
    def __init__(self, tokenizer: _SlowTokenizer, max_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._special = np.array(sorted(special_ids(tokenizer)), dtype=np.int64)
        self._room = _check_room(max_tokens, tokenizer.num_special_tokens_to_add())

    def encode(self, texts: Sequence[str]) -> list[EncodedDocument]:
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> EncodedDocument:
        tokenizer = self._tokenizer
        ids = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text))
        kept = ids[: self._room]
        added = np.array(tokenizer.get_special_tokens_mask(kept), dtype=np.bool_)
        full = np.array(tokenizer.build_inputs_with_special_tokens(kept), dtype=np.int64)
        special = np.isin(full, self._special)
        cut = np.array(ids[len(kept) :], dtype=np.int64)
        return EncodedDocument(
            input_ids=full,
            content=~special,
            span=None,
            dropped=int((~np.isin(cut, self._special)).sum()),
            literal=int((special & ~added).sum()),
        )


def _check_room(max_tokens: int, special: int) -> int:
    if max_tokens <= special:
        raise InvalidInput(
            f"max_tokens {max_tokens} leaves no room beside {special} special tokens; "
            f"give at least {special + 1}"
        )
    return max_tokens - special


def encode_token_ids(ids: Sequence[int], max_tokens: int | None) -> EncodedDocument:
    """Take a document given as token ids: all of it is content, and no span is known.

    Raises:
        InvalidInput: an id is negative or does not fit 32 bits.
    """
    kept = np.array(ids[:max_tokens], dtype=np.int64).reshape(-1)
    if kept.size and (kept.min() < 0 or kept.max() > np.iinfo(np.uint32).max):
        raise InvalidInput(f"token ids go from {kept.min()} to {kept.max()}; wanted [0, 2**32)")
    content = np.ones(len(kept), dtype=np.bool_)
    dropped = len(ids) - len(kept)
    return EncodedDocument(input_ids=kept, content=content, span=None, dropped=dropped)


def tokenizer_id(tokenizer: Tokenizer) -> str:
    """Return a hash that is equal where the same text gives the same token ids.

    It covers vocabulary, merges, added tokens, normaliser and pre-tokeniser; not padding,
    truncation, special-token template and decoder, which change no content token. Of a slow
    tokenizer it covers the class and the vocabulary.
    """
    backend = fast_backend(tokenizer)
    if backend is None:
        described: object = {
            "class": type(tokenizer).__name__,
            "vocabulary": sorted(tokenizer.get_vocab().items()),
        }
    else:
        parts = cast("Mapping[str, object]", json.loads(backend.to_str()))
        keys = ("added_tokens", "model", "normalizer", "pre_tokenizer")
        described = {key: parts.get(key) for key in keys}
    text = json.dumps(described, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()[:32]


def vocabulary(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Return the token string of every id as the tokenizer writes it; ``""`` where it has none."""
    known = tokenizer.get_vocab()
    strings = [""] * (1 + max(known.values(), default=-1))
    for string, token_id in known.items():
        strings[token_id] = string
    return tuple(strings)


def special_ids(tokenizer: Tokenizer | None) -> frozenset[int]:
    """Return the ids of the special tokens: those that have no row, wherever they stand.

    They are what the tokenizer names (beginning, end, padding, mask, ...), what was added to it as
    special, and what it puts around a text. The token for unknown words is content, unless it is
    one of the others too.
    """
    if tokenizer is None:
        return frozenset()
    named = frozenset(_ids_of(getattr(tokenizer, "all_special_ids", ())))
    added = getattr(tokenizer, "get_added_tokens_decoder", None)
    table: object = added() if callable(added) else getattr(tokenizer, "added_tokens_decoder", {})
    marked = {
        token_id
        for token_id, token in cast("Mapping[int, object]", table).items()
        if getattr(token, "special", False)
    }
    return (named | marked | _around(tokenizer)) - (
        _unknown_ids(tokenizer) - _other_roles(tokenizer)
    )


def _around(tokenizer: Tokenizer) -> frozenset[int]:
    """Return the ids that a tokenizer puts around a text: all that it makes of an empty one."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if hasattr(backend, "encode_batch"):
        empty = cast("tokenizers.Tokenizer", backend).encode("")
        masked = zip(empty.ids, empty.special_tokens_mask, strict=True)
        return frozenset(token_id for token_id, mask in masked if mask)
    if hasattr(tokenizer, "build_inputs_with_special_tokens"):
        return frozenset(cast("_SlowTokenizer", tokenizer).build_inputs_with_special_tokens([]))
    return frozenset()


def _unknown_ids(tokenizer: Tokenizer) -> frozenset[int]:
    told = getattr(tokenizer, "unk_token_id", None)
    if told is not None:
        return frozenset(_ids_of([told]))
    model = getattr(tokenizer, "model", None)  # of a bare tokenizers.Tokenizer
    token, known = getattr(model, "unk_token", None), tokenizer.get_vocab()
    if isinstance(token, str) and token in known:
        return frozenset([known[token]])
    return frozenset(_ids_of([getattr(model, "unk_id", None)]))


def _other_roles(tokenizer: Tokenizer) -> frozenset[int]:
    roles = ("bos", "eos", "pad", "cls", "sep", "mask")
    return frozenset(_ids_of([getattr(tokenizer, f"{role}_token_id", None) for role in roles]))


def _ids_of(found: object) -> list[int]:
    values = cast("Sequence[object]", found)
    return [value for value in values if isinstance(value, int)]


def begin_ids(tokenizer: Tokenizer | None) -> tuple[int, ...] | None:
    """Return the ids that a tokenizer puts before each text; None without a tokenizer."""
    if tokenizer is None:
        return None
    (found,) = encode_documents(tokenizer, ["a"], 64)
    content = found.content.tolist()
    first = content.index(True) if True in content else 0
    return tuple(int(one) for one in found.input_ids[:first])


def padding_id(tokenizer: Tokenizer | None) -> int | None:
    """Return the id of padding, if the tokenizer has one."""
    found = getattr(tokenizer, "pad_token_id", None)
    if found is None:
        padding = cast("object", getattr(tokenizer, "padding", None))  # tokenizers.Tokenizer
        told = cast("Mapping[str, object]", padding) if isinstance(padding, Mapping) else {}
        found = told.get("pad_id")
    return found if isinstance(found, int) else None


def pad_id(tokenizer: Tokenizer | None) -> int:
    """Return the id to fill short rows of a batch with (the attention mask hides it)."""
    found = padding_id(tokenizer)
    return 0 if found is None else found


def token_limit(module: nn.Module, tokenizer: Tokenizer | None) -> int | None:
    """Return the longest input a model takes, where its tokenizer or its positions tell.

    Positions come from a table of embeddings, of which YOSO's is longer than the list of position
    ids beside it, or from sines in an array (GPT-J, CTRL, TransformerLens' ``W_pos``). Models with
    rotary, relative or ALiBi positions take inputs of any length, but for two whose configuration
    tells.
    """
    limits: list[int] = []
    told = getattr(tokenizer, "model_max_length", None)
    if isinstance(told, int | float) and told < _UNBOUNDED:
        limits.append(int(told))
    for name, part in module.named_modules():
        if name.rpartition(".")[2] in _POSITION_TABLES:
            limits += _positions(part)
        elif any(
            _positions(child) for key, child in part.named_children() if key in _POSITION_TABLES
        ):
            limits += [
                ids.shape[-1]
                for key, ids in part.named_buffers(recurse=False)
                if key == "position_ids"
            ]
    for name, array in chain(module.named_buffers(), module.named_parameters()):
        if name.rpartition(".")[2] in _POSITION_ARRAYS and array.ndim == 2:
            limits.append(array.shape[0])
    config = getattr(module, "config", None)
    said = getattr(config, _CONFIGURED.get(getattr(config, "model_type", ""), ""), None)
    return min([*limits, said] if isinstance(said, int) else limits, default=None)


def _positions(table: nn.Module) -> list[int]:
    """Return how many positions a table has; nothing for one that grows, or is no table."""
    weight = getattr(table, "weight", None)
    if hasattr(table, "make_weight") or not isinstance(weight, Tensor) or weight.ndim != 2:
        return []
    offset = getattr(table, "offset", None)  # OPT, BART: the first rows are of no position
    if isinstance(offset, int):
        return [len(weight) - offset]
    # with a padding index (RoBERTa, MPNet) positions are counted from behind it
    padding = getattr(table, "padding_idx", None)
    return [len(weight) - (padding + 1 if isinstance(padding, int) else 0)]
