"""Name the documents that a live model read, by their text where it is known.

A fast tokenizer knows which code points of a text each token covers. The text is what the loop
says that it is, or what the tokens decode to; either way it counts only where encoding it gives the
tokens that were read. So documents and spans are those of ``record_documents`` of the same texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from isogloss.errors import InvalidInput
from isogloss.models import EncodedDocument, Encoder, Tokenizer, encoder, fast_backend
from isogloss.store import Document

_UNBOUNDED = 1 << 30
_SHORT = 64
"""Code points of a text that may consist of special tokens alone."""


class _Decodes(Protocol):
    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool) -> str: ...


@dataclass(frozen=True, slots=True, eq=False)
class NamedDocument:
    """A document, and where its content tokens lie in its text."""

    document: Document
    """Named by its text; where that is not known, by its token ids."""
    span: NDArray[np.uint32] | None
    """Code points ``[start, end)`` of each content token, ``[tokens, 2]``; empty ones where the
    text is not known; None in a recording without spans.
    """


class DocumentNames:
    """Names documents by their token ids."""

    has_spans = False

    def name(
        self,
        read: Sequence[NDArray[np.int64]],
        content: Sequence[NDArray[np.uint32]],
        texts: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
    ) -> tuple[NamedDocument, ...]:
        """Return the documents of a pass.

        Args:
            read: for each document the token ids that the model read, without padding.
            content: for each document the ids of the tokens that have rows.
            texts: the text of each document, as the loop gave it; None: not given.
            groups: the source of each text.

        Raises:
            InvalidInput: encoding a text does not give the tokens that were read.
        """
        return tuple(NamedDocument(Document.from_token_ids(ids), None) for ids in read)

    def has_content(self, text: str) -> bool:
        """Return whether a text has a token that is not special."""
        return bool(text)

    def of_texts(self, texts: Sequence[str]) -> list[int]:
        """Return the ids of the documents that texts make.

        Raises:
            InvalidInput: the recording knows no texts.
        """
        raise InvalidInput(
            "this recording knows no texts, since its tokenizer gives no spans: pass token ids, or "
            "record with a fast tokenizer"
        )

    def of_token_ids(self, ids: Sequence[Sequence[int]], special: frozenset[int]) -> list[int]:
        """Return the ids of the documents that sequences of token ids make, without padding.

        Args:
            ids: the token ids of each sequence as the model reads them.
            special: ids of special tokens.
        """
        read = [np.asarray(sequence, np.int64).reshape(-1) for sequence in ids]
        content = [
            np.array([i for i in row.tolist() if i not in special], np.uint32) for row in read
        ]
        return [named.document.id for named in self.name(read, content)]


class TextNames(DocumentNames):
    """Names documents by their text, with the help of a fast tokenizer."""

    has_spans = True

    def __init__(self, tokenizer: Tokenizer, backend: _Decodes) -> None:
        self._backend = backend
        self._encoder: Encoder = encoder(tokenizer, _UNBOUNDED)

    def name(
        self,
        read: Sequence[NDArray[np.int64]],
        content: Sequence[NDArray[np.uint32]],
        texts: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
    ) -> tuple[NamedDocument, ...]:
        """Return the documents of a pass, each by its text where that is known.

        A text that the loop gave may be longer than what the model read of it. A text that is
        decoded must encode back to all that was read; a document whose does not is named by its
        token ids.

        Args:
            read: for each document the token ids that the model read, without padding.
            content: for each document the ids of the tokens that have rows.
            texts: the text of each document, as the loop gave it; None: not given.
            groups: the source of each text.

        Raises:
            InvalidInput: encoding a text does not give the tokens that were read.
        """
        if texts is not None:
            return tuple(
                self._given(number, text, group, ids, whole)
                for number, (text, group, ids, whole) in enumerate(
                    zip(texts, groups or [""] * len(texts), content, read, strict=True)
                )
            )
        decoded = [self._backend.decode(ids.tolist(), skip_special_tokens=False) for ids in content]
        encoded = self._encoder.encode(decoded)
        named: list[NamedDocument] = []
        for text, back, ids, whole in zip(decoded, encoded, content, read, strict=True):
            # special tokens count: a pair of texts, or one without its first one, is another input
            if back.span is not None and np.array_equal(back.input_ids, whole):
                span = back.span[back.content]
                named.append(NamedDocument(Document.from_text(text), span))
            else:
                span = np.zeros((len(ids), 2), np.uint32)
                named.append(NamedDocument(Document.from_token_ids(whole), span))
        return tuple(named)

    def has_content(self, text: str) -> bool:
        """Return whether a text has a token that is not special; a long one is not encoded."""
        if len(text) > _SHORT and text.strip():
            return True
        (encoded,) = self._encoder.encode([text])
        return bool(encoded.content.any())

    def of_texts(self, texts: Sequence[str]) -> list[int]:
        """Return the ids of the documents that texts make."""
        return [Document.from_text(text).id for text in texts]

    def _given(
        self,
        number: int,
        text: str,
        group: str,
        ids: NDArray[np.uint32],
        whole: NDArray[np.int64],
    ) -> NamedDocument:
        (back,) = self._encoder.encode([text])
        if back.span is None or not _is_cut_from(whole, back):
            raise InvalidInput(
                f"text {number} given to recorder.documents(), {text[:40]!r}, encodes to "
                f"{len(back.input_ids)} tokens, special ones counted, and the model read "
                f"{len(whole)}; the first that differs is "
                f"{_first_difference(back.input_ids, whole)}: give the texts in the order of the "
                "sequences, each as the tokenizer encodes it, with its special tokens"
            )
        span = back.span[back.content][: len(ids)]
        return NamedDocument(Document.from_text(text, group), span)


def _is_cut_from(read: NDArray[np.int64], whole: EncodedDocument) -> bool:
    """Say whether a model read a text, or its beginning, with the text's own special tokens."""
    ends = np.flatnonzero(whole.content)
    behind = len(whole.input_ids) - (int(ends[-1]) + 1 if len(ends) else 0)
    kept = len(read) - behind
    return (
        0 <= kept <= len(whole.input_ids) - behind
        and np.array_equal(read[:kept], whole.input_ids[:kept])
        and np.array_equal(read[kept:], whole.input_ids[len(whole.input_ids) - behind :])
    )


def _first_difference(a: NDArray[np.int64], b: NDArray[np.int64]) -> int:
    shorter = min(len(a), len(b))
    differs = np.flatnonzero(a[:shorter] != b[:shorter])
    return int(differs[0]) if len(differs) else shorter


def names_for(tokenizer: object) -> DocumentNames:
    """Return what names the documents of a tokenizer: by text for a fast one, else by ids."""
    if isinstance(tokenizer, Tokenizer):
        backend = fast_backend(tokenizer)
        if backend is not None:
            return TextNames(tokenizer, backend)
    return DocumentNames()
