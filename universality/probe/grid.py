"""Text segments that are a function of the text alone, and the tokens that end in them.

Two models with different tokenizers are compared on the words of the text: the word boundaries of
Unicode Standard Annex 29, from the character classes of the ``regex`` library. A segment is
represented by the last token that ends in it; a token that spans several words belongs to the last
of them, and the others have no row. With one tokenizer everywhere the tokens are the segments.
"""

from typing import Literal

import numpy as np
import regex
from numpy.typing import NDArray

Grid = Literal["tokens", "word_ends"]

SEGMENTER = f"regex {regex.__version__} UAX-29 words"
"""What cut the words: probes record it, since a new Unicode version may move a boundary."""

_DOCUMENT_SHIFT = np.int64(32)


def _word_pattern() -> regex.Pattern[str]:
    """Write the rules WB3 to WB999 as one expression that matches from a boundary to the next.

    ``\\b`` of ``regex`` with its WORD flag is not used: it cuts between an apostrophe and a vowel
    (l'|eau), joins a quotation mark to an apostrophe before one, and a lone flag to what follows.
    """

    def one_of(*classes: str) -> str:
        return "[" + "".join(rf"\p{{Word_Break={name}}}" for name in classes) + "]"

    tail = one_of("Extend", "Format", "ZWJ") + "*+"  # WB4: belongs to the character before it
    letter = one_of("ALetter", "Hebrew_Letter") + tail
    number = one_of("Numeric") + tail
    katakana = one_of("Katakana") + tail
    joiner = one_of("ExtendNumLet") + tail
    flag = one_of("Regional_Indicator") + tail
    after_hebrew = rf"(?<={one_of('Hebrew_Letter')}{tail})"
    within_letters = one_of("MidLetter", "MidNumLet", "Single_Quote") + tail  # WB6, WB7
    within_numbers = one_of("MidNum", "MidNumLet", "Single_Quote") + tail  # WB11, WB12
    double_quote = one_of("Double_Quote") + tail + rf"(?={one_of('Hebrew_Letter')})"
    letters = rf"{letter}(?:(?:{within_letters})?{letter}|{after_hebrew}{double_quote})*"
    numbers = rf"{number}(?:(?:{within_numbers})?{number})*"
    run = rf"(?:(?:{letters}|{numbers})+|(?:{katakana})+)"
    word_start = one_of("ALetter", "Hebrew_Letter", "Numeric", "Katakana", "ExtendNumLet")
    word = rf"(?={word_start})(?:{run})?(?:(?:{joiner})+{run})*(?:{joiner})*"  # WB13a, WB13b
    word += rf"(?:{after_hebrew}{one_of('Single_Quote')}{tail})?"  # WB7a
    newline = rf"\r\n|{one_of('CR', 'LF', 'Newline')}"
    spaces = one_of("WSegSpace") + "+" + tail
    unit = rf"(?:{word}|{flag}(?:{flag})?|{spaces}|{newline}|.{tail})"
    pictograph = rf"(?<={one_of('ZWJ')})(?=\p{{Extended_Pictographic}})"  # WB3c
    return regex.compile(rf"{unit}(?:{pictograph}{unit})*", regex.VERSION1 | regex.DOTALL)


_WORD = _word_pattern()


def word_segments(text: str) -> NDArray[np.uint32]:
    """Cut a text into words.

    Args:
        text: any text.

    Returns:
        ``[segments, 2]``, the code points ``[start, end)`` of each word in order: words, numbers
        and single punctuation marks; runs of white space are left out.
    """
    spans = [found.span() for found in _WORD.finditer(text) if not found.group().isspace()]
    return np.array(spans, np.uint32).reshape(-1, 2)


def word_end_rows(
    segment_document: NDArray[np.int32],
    segment_span: NDArray[np.uint32],
    document: NDArray[np.int64],
    position: NDArray[np.uint32],
    span: NDArray[np.uint32],
) -> NDArray[np.int64]:
    """Find the row of the last token that ends in each segment.

    A token ends in a segment when its end lies in ``(start, end]``. Of several, the one that ends
    last is taken, then the one at the highest position; of a document recorded twice, the first
    row. Tokens without text (an empty span) end nowhere.

    Args:
        segment_document: document of each segment, ascending, ``[segments]``.
        segment_span: code points of each segment, ascending within a document, ``[segments, 2]``.
        document: document of each token by the same numbering, or -1, ``[rows]``.
        position: place of each token among its document's rows, ``[rows]``.
        span: code points of each token, ``[rows, 2]``.

    Returns:
        ``[segments]``, the row, or -1 where no token ends.
    """
    rows = np.flatnonzero((document >= 0) & (span[:, 1] > span[:, 0]))
    result = np.full(len(segment_document), -1, np.int64)
    segment_end = _place(segment_document, segment_span[:, 1])
    token_end = _place(document[rows], span[rows, 1])
    segment = np.searchsorted(segment_end, token_end)
    inside = segment < len(segment_end)
    rows, token_end, segment = rows[inside], token_end[inside], segment[inside]
    inside = token_end > _place(segment_document, segment_span[:, 0])[segment]
    rows, token_end, segment = rows[inside], token_end[inside], segment[inside]
    order = np.lexsort((-rows, position[rows], token_end))
    last = np.full(len(segment_document), -1, np.int64)
    np.maximum.at(last, segment[order], np.arange(len(order)))
    found = last >= 0
    result[found] = rows[order[last[found]]]
    return result


def token_rows(
    segment_document: NDArray[np.int32],
    segment_position: NDArray[np.uint32],
    document: NDArray[np.int64],
    position: NDArray[np.uint32],
) -> NDArray[np.int64]:
    """Find the row of each token segment; of a document recorded twice, the first row.

    Args:
        segment_document: document of each segment, ascending, ``[segments]``.
        segment_position: position of each segment, ascending within a document, ``[segments]``.
        document: document of each token by the same numbering, or -1, ``[rows]``.
        position: place of each token among its document's rows, ``[rows]``.

    Returns:
        ``[segments]``, the row, or -1 where that position was not recorded.
    """
    rows = np.flatnonzero(document >= 0)
    places, first = np.unique(_place(document[rows], position[rows]), return_index=True)
    wanted = _place(segment_document, segment_position)
    if not len(places):
        return np.full(len(wanted), -1, np.int64)
    at = np.minimum(np.searchsorted(places, wanted), len(places) - 1)
    return np.where(places[at] == wanted, rows[first[at]], -1)


def _place(
    document: NDArray[np.int32] | NDArray[np.int64], offset: NDArray[np.uint32]
) -> NDArray[np.int64]:
    """One number that orders by document, then by offset."""
    return (document.astype(np.int64) << _DOCUMENT_SHIFT) | offset.astype(np.int64)
