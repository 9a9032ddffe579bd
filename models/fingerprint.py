"""Ancestry: a fingerprint of a model's weights, and whether two models share a start.

Two models of which one was distilled, fine-tuned or pruned from the other, or that began from the
same initialisation, share features for that reason alone. A comparison has to say so.
"""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from isogloss.errors import InvalidInput, UnsupportedVersion
from isogloss.models.identity.sketch import weight_sketch
from isogloss.models.identity.values import values_of
from isogloss.models.sites import base_prefix
from isogloss.models.tokens import Tokenizer, tokenizer_id, vocabulary
from isogloss.models.wrappers import unwrapped
from isogloss.site_names import without_prefix

VERSION = 1

_TOKENS = 160
_DIMENSIONS = (
    256  # of a folded embedding or matrix: an inner product is off by 1 / 16 (one deviation)
)
_MATRICES = 32
_ENTRIES = 1 << 18  # of each matrix; more would not change an inner product's deviation
_NOT_LEARNED = re.compile(r"position|rotary|norm", re.IGNORECASE)
_WORD_MARK = re.compile(r"^(?:Ġ|▁|##)")


def ancestry(module: nn.Module, tokenizer: Tokenizer | None = None) -> dict[str, object]:
    """Take the fingerprint of a model: JSON of less than 100 KB, from its weights alone.

    It holds, for 160 words of the vocabulary chosen by the smallest hash (models with similar
    vocabularies choose mostly the same), the input embedding folded to 256 numbers (CountSketch)
    and the words' cosines among themselves; and 32 weight matrices, chosen alike, folded to 256
    numbers. Beside it stands the sketch by which the same weights are known again
    (``models/identity``).

    Args:
        module: the model, or a wrapper of it. Weights that are offloaded or sharded are left out.
        tokenizer: its tokenizer; None: tokens are known by their ids.
    """
    module = unwrapped(module)
    embedding = _input_embedding(module)
    words, ids = _sample(embedding, tokenizer)
    fingerprint: dict[str, object] = {
        "version": VERSION,
        "tokenizer": "" if tokenizer is None else tokenizer_id(tokenizer),
        "width": 0 if embedding is None else embedding.shape[1],
        "tokens": words,
        "embedding": "",
        "token_cosines": "",
        "matrices": _matrices(module, embedding),
        "weights": weight_sketch(module).to_dict(),
    }
    if embedding is not None:
        vectors = (
            embedding[torch.tensor(ids, device=embedding.device)].detach().float().cpu().numpy()
        )
        fingerprint["embedding"] = _pack(_fold(vectors))
        fingerprint["token_cosines"] = _pack(_token_cosines(vectors))
    return fingerprint


@dataclass(frozen=True, kw_only=True)
class Relatedness:
    """Result of comparing the fingerprints of two models."""

    related: bool
    """Whether there is evidence that the models share a start."""
    similarity: float
    """The strongest of the measures named in ``why``, in [-1, 1]."""
    why: str
    """The measures, each with the value and what unrelated models show."""


@dataclass(frozen=True, kw_only=True)
class _Measure:
    value: float
    related_from: float
    words: str

    @property
    def related(self) -> bool:
        return self.value >= self.related_from


def relatedness(a: Mapping[str, object], b: Mapping[str, object]) -> Relatedness:
    """Compare two fingerprints made by :func:`ancestry`.

    Three measures, each taken where it can be:

    * cosine of the same word's embedding, median over words, for models of equal width: .89 for
      all-MiniLM-L6 against paraphrase-MiniLM-L3 (one teacher), 0 for unrelated models;
    * correlation of the words' cosines among themselves, for any widths: meaning alone makes it
      .50 to .53 (MPNet against either MiniLM); .83 for the related pair, .68 to .90 for embeddings
      pruned to a half or two thirds. Evidence only from .75 on;
    * cosine of weight matrices of equal name and shape, upper quartile: 0 for unrelated models.

    Not being related means that no evidence was found, not that there is none to find; so it is
    with an empty fingerprint.

    Raises:
        UnsupportedVersion: a fingerprint of another version.
        InvalidInput: a mapping that is no fingerprint.
    """
    if not a or not b:
        why = "a recording has no fingerprint: make it with ancestry() when recording"
        return Relatedness(related=False, similarity=0.0, why=why)
    one, other = _parse(a), _parse(b)
    measures = [*_word_measures(one, other), *_matrix_measures(one, other)]
    if not measures:
        why = "nothing to compare: no common words and no matrices of equal name and shape"
        return Relatedness(related=False, similarity=0.0, why=why)
    strongest = max(measures, key=lambda m: (m.related, m.value - m.related_from))
    return Relatedness(
        related=strongest.related,
        similarity=strongest.value,
        why="; ".join(f"{m.words} {m.value:.2f} (related from {m.related_from})" for m in measures),
    )


@dataclass(frozen=True, kw_only=True)
class _Fingerprint:
    width: int
    tokens: tuple[str, ...]
    embedding: NDArray[np.float32]
    token_cosines: NDArray[np.float32]
    matrices: Mapping[tuple[str, str], NDArray[np.float32]]


def _parse(fingerprint: Mapping[str, object]) -> _Fingerprint:
    version = fingerprint.get("version")
    if version != VERSION:
        raise UnsupportedVersion(
            f"ancestry fingerprint of version {version!r}, wanted {VERSION}; record the model again"
        )
    try:
        tokens = tuple(cast("Sequence[str]", fingerprint["tokens"]))
        count = len(tokens)
        matrices = cast("Sequence[Mapping[str, str]]", fingerprint["matrices"])
        embedding = _unpack(cast("str", fingerprint["embedding"]))
        return _Fingerprint(
            width=cast("int", fingerprint["width"]),
            tokens=tokens,
            embedding=embedding.reshape(count, -1) if count else embedding.reshape(0, 1),
            token_cosines=_square(_unpack(cast("str", fingerprint["token_cosines"])), count),
            matrices={(m["name"], m["shape"]): _unpack(m["folded"]) for m in matrices},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"not an ancestry fingerprint ({error!r}); make it with ancestry()"
        ) from error


def _word_measures(a: _Fingerprint, b: _Fingerprint) -> list[_Measure]:
    at = {word: i for i, word in enumerate(b.tokens)}
    pairs = [(i, at[word]) for i, word in enumerate(a.tokens) if word in at]
    if len(pairs) < 24:
        return []
    in_a, in_b = (np.array(side) for side in zip(*pairs, strict=True))
    measures: list[_Measure] = []
    if a.width == b.width:
        cosines = (_unit(a.embedding[in_a]) * _unit(b.embedding[in_b])).sum(axis=1)
        words = f"cosine of embeddings, median of {len(pairs)} words,"
        measures.append(_Measure(value=float(np.median(cosines)), related_from=0.3, words=words))
    upper = np.triu_indices(len(pairs), 1)
    profile_a = a.token_cosines[np.ix_(in_a, in_a)][upper]
    profile_b = b.token_cosines[np.ix_(in_b, in_b)][upper]
    if profile_a.std() > 0 and profile_b.std() > 0:
        value = float(np.corrcoef(profile_a, profile_b)[0, 1])
        words = f"correlation of cosines among {len(pairs)} words"
        measures.append(_Measure(value=value, related_from=0.75, words=words))
    return measures


def _matrix_measures(a: _Fingerprint, b: _Fingerprint) -> list[_Measure]:
    common = sorted(a.matrices.keys() & b.matrices.keys())
    if len(common) < 2:
        return []
    cosines = [
        float((_unit(a.matrices[key][None]) * _unit(b.matrices[key][None])).sum()) for key in common
    ]
    words = f"cosine of weights, upper quartile of {len(common)} matrices,"
    return [_Measure(value=float(np.quantile(cosines, 0.75)), related_from=0.3, words=words)]


def _input_embedding(module: nn.Module) -> Tensor | None:
    getter = getattr(module, "get_input_embeddings", None)
    found: object = getter() if callable(getter) else None
    if not isinstance(found, nn.Embedding):
        tables = [
            child
            for name, child in module.named_modules()
            if isinstance(child, nn.Embedding) and not _NOT_LEARNED.search(name)
        ]
        found = max(tables, key=lambda table: table.num_embeddings, default=None)
    return values_of(found, "weight", found.weight) if isinstance(found, nn.Embedding) else None


def _sample(embedding: Tensor | None, tokenizer: Tokenizer | None) -> tuple[list[str], list[int]]:
    """Choose the words with the smallest hashes; return them with their ids."""
    if embedding is None:
        return [], []
    known = len(embedding)
    if tokenizer is None:
        words = {f"#{i}": i for i in range(known)}
    else:
        strings = vocabulary(tokenizer)[:known]
        words = {string: i for i, string in enumerate(strings) if string}
        plain = {_WORD_MARK.sub("", word): i for word, i in words.items() if word[:2] != "##"}
        letters = {word: i for word, i in plain.items() if len(word) > 2 and word.isalpha()}
        words = letters if len(letters) >= _TOKENS else words
    chosen = sorted(words, key=_hash)[:_TOKENS]
    return chosen, [words[word] for word in chosen]


def _matrices(module: nn.Module, embedding: Tensor | None) -> list[dict[str, str]]:
    found: dict[str, Tensor] = {}
    for path, parameter in module.named_parameters():
        if parameter.ndim < 2 or min(parameter.shape) < 8 or _NOT_LEARNED.search(path):
            continue
        owner, _, name = path.rpartition(".")
        values = values_of(module.get_submodule(owner), name, parameter)
        table = (
            embedding is not None
            and values is not None
            and (values.data_ptr() == embedding.data_ptr())
        )
        if values is not None and not table:
            found[without_prefix(path, base_prefix(module))] = values
    matrices: list[dict[str, str]] = []
    for name in sorted(found, key=_hash)[:_MATRICES]:
        entries = found[name].flatten()[:_ENTRIES].float().cpu().numpy()
        folded = _fold((entries - entries.mean())[None])
        shape = "x".join(str(size) for size in found[name].shape)
        matrices.append({"name": name, "shape": shape, "folded": _pack(folded)})
    return matrices


def _fold(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """CountSketch of each row to 256 numbers; rows that short stay as they are."""
    rows, size = vectors.shape
    if size <= _DIMENSIONS:
        return vectors
    generator = np.random.Generator(np.random.PCG64(size))
    raw = generator.bit_generator.random_raw(
        size
    )  # the stream of PCG64 is fixed, integers() is not
    bucket = (raw >> np.uint64(56)).astype(np.int64)
    sign = np.where(raw & np.uint64(1), 1.0, -1.0)
    folded = np.zeros((rows, _DIMENSIONS))
    for row in range(rows):
        folded[row] = np.bincount(bucket, weights=vectors[row] * sign, minlength=_DIMENSIONS)
    return folded.astype(np.float32)


def _token_cosines(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    unit = _unit(vectors - vectors.mean(axis=0))
    return (unit @ unit.T)[np.triu_indices(len(unit), 1)][None]


def _square(upper: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    square = np.zeros((count, count), dtype=np.float32)
    square[np.triu_indices(count, 1)] = upper
    return square + square.T


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, np.maximum(norms, 1e-30), dtype=np.float32)


def _pack(rows: NDArray[np.float32]) -> str:
    """Write each row as int8 of its greatest absolute value (cosines need no scale), in base64."""
    top = np.abs(rows).max(axis=-1, keepdims=True, initial=0)
    scaled = np.nan_to_num(rows / np.where(top > 0, top, 1))
    return base64.b64encode(np.rint(scaled * 127).astype(np.int8).tobytes()).decode()


def _unpack(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype=np.int8).astype(np.float32)


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
