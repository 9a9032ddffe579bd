"""Texts and their cutting into passages of a model's length."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from isogloss.errors import InvalidInput

_RUN = re.compile(r"\S+")
_SENTENCE_END = re.compile(r"[.!?。！？]['\")\]*`”’]*$")
_WORD_CODE_POINTS = 12  # of a run without spaces, so many count as a word (scripts without spaces)


@dataclass(frozen=True, kw_only=True, slots=True)
class TextDocument:
    """A text and the source it was cut from."""

    text: str
    """The text itself."""
    group: str = ""
    """Its source: documents of one group always fall on the same side of a split."""


def passages(texts: Sequence[TextDocument], words: int = 128) -> list[TextDocument]:
    """Cut texts into passages of at most about ``words`` words; a pure function of each text.

    A passage ends at the last paragraph or sentence end in its second half, else at a word's end. A
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
    first = 0
    while first < len(pieces):
        stop, best, cost = first, first, 0
        while stop < len(pieces) and cost + pieces[stop][2] <= words:
            cost += pieces[stop][2]
            stop += 1
            if cost * 2 >= words and _ends(text, pieces, stop):
                best = stop
        rest = sum(piece[2] for piece in pieces[stop:])
        if rest * 4 < words:
            stop = len(pieces)
        elif best > first:
            stop = best
        cuts.append((pieces[first][0], pieces[stop - 1][1]))
        first = stop
    return cuts


def _ends(text: str, pieces: Sequence[tuple[int, int, int]], stop: int) -> bool:
    """Say whether a sentence or paragraph ends before piece ``stop``."""
    start, end, _ = pieces[stop - 1]
    if stop < len(pieces) and text.count("\n", end, pieces[stop][0]) > 1:
        return True
    return _SENTENCE_END.search(text, start, end) is not None


def _pieces(text: str, words: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, end, words) of runs of non-space characters, none longer than ``words``."""
    limit = words * _WORD_CODE_POINTS // 2
    for run in _RUN.finditer(text):
        start = run.start()
        while run.end() - start > limit:
            end = start + limit
            while end < run.end() and unicodedata.combining(text[end]):
                end += 1
            yield start, end, -(-(end - start) // _WORD_CODE_POINTS)
            start = end
        if start < run.end():
            yield start, run.end(), -(-(run.end() - start) // _WORD_CODE_POINTS)
