"""Texts and their cutting into passages of a model's length."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import regex

from isogloss.errors import InvalidInput
from isogloss.short_repr import short_repr

_RUN = re.compile(r"\S+")
_GRAPHEME = regex.compile(r"\X")  # extended grapheme clusters of UAX-29
_SENTENCE_END = re.compile(r"[.!?。！？]['\")\]*`”’]*$")
_WORD_CODE_POINTS = 12  # of a run without spaces, so many count as a word (scripts without spaces)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextDocument:
    """A text and the source it was cut from."""

    text: str
    """The text itself."""
    group: str = ""
    """Its source: documents of one group always fall on the same side of a split."""

    __repr__ = short_repr


def passages(texts: Sequence[TextDocument], words: int = 128) -> list[TextDocument]:
    """Cut texts into passages of at most about ``words`` words; a pure function of each text.

    A passage ends at the last paragraph or sentence end in its second half, else at a word's end,
    and never within a grapheme cluster of UAX-29 (a letter with its signs, an emoji, a flag). A
    rest shorter than a quarter of ``words`` joins the passage before it. White space between
    passages is dropped, nothing else; the group stays.

    Args:
        texts: the texts, cut one by one.
        words: runs of non-space characters; a longer run than 12 code points counts as several.

    Raises:
        InvalidInput: ``words`` is below 8.
    """
    if words < 8:
        raise InvalidInput(f"words is {words}; a passage needs at least 8")
    return [
        TextDocument(text=document.text[start:end], group=document.group)
        for document in texts
        for start, end in _cuts(document.text, words)
    ]


def _cuts(text: str, words: int) -> list[tuple[int, int]]:
    pieces = list(_pieces(text, words))
    cuts: list[tuple[int, int]] = []
    first, left = 0, sum(piece[2] for piece in pieces)
    while first < len(pieces):
        stop, best, cost = first, first, 0
        while stop < len(pieces) and cost + pieces[stop][2] <= words:
            cost += pieces[stop][2]
            stop += 1
            if cost * 2 >= words and _ends(text, pieces, stop):
                best = stop
        stop = max(stop, first + 1)  # a letter with hundreds of signs is longer than a passage
        rest = left - sum(piece[2] for piece in pieces[first:stop])
        if rest * 4 < words:
            stop = len(pieces)
        elif best > first:
            stop = best
        cuts.append((pieces[first][0], pieces[stop - 1][1]))
        left -= sum(piece[2] for piece in pieces[first:stop])
        first = stop
    return cuts


def _ends(text: str, pieces: Sequence[tuple[int, int, int]], stop: int) -> bool:
    """Say whether a sentence or paragraph ends before piece ``stop``."""
    start, end, _ = pieces[stop - 1]
    if stop < len(pieces) and text.count("\n", end, pieces[stop][0]) > 1:
        return True
    return _SENTENCE_END.search(text, start, end) is not None


def _pieces(text: str, words: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, words) of runs of non-space characters.

    None is longer than half of ``words``, unless a single grapheme cluster is.
    """
    limit = words * _WORD_CODE_POINTS // 2
    starts = _Graphemes(text)
    for start, stop in _runs(text, starts):
        while start < stop:
            end = stop if stop - start <= limit else starts.next(start + limit, stop)
            yield start, end, -(-(end - start) // _WORD_CODE_POINTS)
            start = end


def _runs(text: str, starts: "_Graphemes") -> Iterator[tuple[int, int]]:
    """Yield (start, end) of runs of non-space characters that no grapheme cluster reaches across.

    A combining sign behind a space belongs to the space: that space does not end a run.
    """
    start, end = 0, 0
    for run in _RUN.finditer(text):
        if end and starts.at(run.start()) and starts.at(end):
            yield start, end
            start = run.start()
        elif not end:
            start = run.start()
        end = run.end()
    if end:
        yield start, end


class _Graphemes:
    """Where the grapheme clusters of a text start."""

    def __init__(self, text: str) -> None:
        self._starts: bytearray | None = None
        # of ASCII only a carriage return with its line feed are a cluster, and both are white space
        if not text.isascii():
            self._starts = bytearray(len(text))
            for cluster in _GRAPHEME.finditer(text):
                # Unicode begins a cluster at some vowel signs, such as those of Burmese
                if unicodedata.category(text[cluster.start()])[0] != "M" or not cluster.start():
                    self._starts[cluster.start()] = 1

    def at(self, index: int) -> bool:
        """Say whether a cluster starts at ``index``, or the text ends there."""
        return self._starts is None or index >= len(self._starts) or bool(self._starts[index])

    def next(self, index: int, stop: int) -> int:
        """Return the first start of a cluster at ``index`` or behind it, at most ``stop``."""
        if self._starts is None:
            return index
        found = self._starts.find(1, index, stop)
        return stop if found < 0 else found
