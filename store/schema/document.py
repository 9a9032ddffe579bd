"""Documents: the texts that rows come from, named by their content."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from isogloss.errors import DocumentMismatch, InvalidInput
from isogloss.short_repr import short_repr
from isogloss.store.schema.names import check_text

KEY_BYTES = 32

MAX_TEXT_BYTES = 8 << 20
"""Longest text of a document, and of its group's name, as UTF-8: what one message carries."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One text, or one sequence of tokens whose text is unknown."""

    key: bytes
    """sha256 of the UTF-8 text, or of the token ids as little-endian uint32."""

    text: str | None = None
    """The text; None where only token ids were given."""

    group: str = ""
    """Name of the source it was cut from: documents of one group fall on the same side of every
    split.
    """

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if len(self.key) != KEY_BYTES:
            raise InvalidInput(f"document key has {len(self.key)} bytes, wanted {KEY_BYTES}")
        if self.text is not None and _text_key(self.text) != self.key:
            raise DocumentMismatch(
                f"document key {self.key.hex()[:16]} is not the sha256 of its text "
                f"{self.text[:40]!r}: use Document.from_text"
            )

    @classmethod
    def from_text(cls, text: str, group: str = "") -> "Document":
        """Return the document of a text."""
        return cls(key=_text_key(text), text=text, group=group)

    @classmethod
    def from_token_ids(cls, ids: Sequence[int] | np.ndarray, group: str = "") -> "Document":
        """Return the document of a token sequence whose text is not known.

        Args:
            ids: token ids of the sequence.
            group: source it was cut from; empty when unknown.

        Returns:
            The document; its text stays None.

        Raises:
            InvalidInput: an id is no whole number, or lies outside ``[0, 2**32)``.
        """
        try:
            given = np.asarray(ids)
        except (TypeError, ValueError, RuntimeError) as error:
            raise InvalidInput(
                f"token ids are {ids!r:.60}: give whole numbers ({error})"
            ) from error
        if given.dtype.kind not in "iu" and given.size:
            raise InvalidInput(
                f"token ids are {ids!r:.60}, of {given.dtype}: give a list of whole numbers"
            )
        wide = given.astype(np.int64)
        if wide.ndim != 1 or (wide.size and (wide.min() < 0 or wide.max() > 0xFFFFFFFF)):
            raise InvalidInput(f"token ids of shape {wide.shape} must be one row in [0, 2**32)")
        return cls(key=hashlib.sha256(wide.astype("<u4").tobytes()).digest(), group=group)

    @property
    def id(self) -> int:
        """The number that rows hold: the first 8 bytes of the key, big endian."""
        return int.from_bytes(self.key[:8], "big")

    @property
    def split_position(self) -> float:
        """A number in ``[0, 1)``.

        A split takes the documents below its share; a group has one number.
        """
        seed = self.group.encode("utf-8", "surrogatepass") if self.group else self.key
        return int.from_bytes(hashlib.sha256(seed).digest()[:6], "big") / float(1 << 48)


def _text_key(text: str) -> bytes:
    try:
        return hashlib.sha256(text.encode()).digest()
    except UnicodeEncodeError:
        check_text(text, "text")
        raise


def check_document(document: Document) -> None:
    """Raise an error for a document that no batch may describe.

    Raises:
        InvalidInput: its text or its group is too long to be read through a server, or the group
            has a lone surrogate, which UTF-8 cannot hold.
    """
    check_text(document.group, "group of a document")
    for what, text in (("text", document.text or ""), ("group", document.group)):
        # a code point takes four bytes at most: short texts need not be encoded
        if len(text) * 4 > MAX_TEXT_BYTES and len(text.encode()) > MAX_TEXT_BYTES:
            raise InvalidInput(
                f"{what} of document {document.key.hex()[:16]} has {len(text.encode())} bytes, "
                f"wanted at most {MAX_TEXT_BYTES}: cut it into passages"
            )


class DocumentTable:
    """The documents described so far, by id. Keeps keys and groups, not texts, to stay small."""

    def __init__(self, documents: Iterable[Document] = ()) -> None:
        self._known: dict[int, tuple[bytes, str, bool]] = {}
        for document in documents:
            self.add(document)

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, document_id: int) -> bool:
        return document_id in self._known

    def check(self, document: Document) -> bool:
        """Return whether a document would add to the table, without adding it.

        Args:
            document: any document.

        Returns:
            True when its id is new, or when the table has it without text and it has one.

        Raises:
            DocumentMismatch: the table has another document with this id, or another group of it.
        """
        known = self._known.get(document.id)
        if known is None:
            return True
        key, group, has_text = known
        if key != document.key:
            raise DocumentMismatch(
                f"documents {key.hex()} and {document.key.hex()} share the id "
                f"{document.id:#018x}: change one of the texts"
            )
        if group != document.group:
            raise DocumentMismatch(
                f"document {key.hex()[:16]} came with group {group!r} and now with "
                f"{document.group!r}: drop repeated texts, or give them one group"
            )
        return not has_text and document.text is not None

    @classmethod
    def of_lanes(cls, documents: Iterable[Document]) -> "DocumentTable":
        """Return the table of the documents that several lanes describe, in their order.

        Lanes that are written at the same time cannot see each other's documents, so two of them
        may describe one id differently: the first description stays.
        """
        table = cls()
        for document in documents:
            table.add_first(document)
        return table

    def add_first(self, document: Document) -> bool:
        """Add a document as :meth:`add` does; return False where it contradicts a known one."""
        try:
            return self.add(document)
        except DocumentMismatch:
            return False

    def add(self, document: Document) -> bool:
        """Add a document; return what :meth:`check` returns, and raise what it raises."""
        is_new = self.check(document)
        if is_new:
            self._known[document.id] = (document.key, document.group, document.text is not None)
        return is_new
