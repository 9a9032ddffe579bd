import pydoc_data.topics
from itertools import pairwise
from random import Random

import numpy as np
import pytest
import regex
from uniseg import wordbreak

from isogloss.universality.probe.grid import SEGMENTER, token_rows, word_end_rows, word_segments

TEXTS = [
    "Hello, world",
    "can't stop 3.14 is, 1,000.5 x",
    "foo_bar-baz (x) a.b.c ::",
    "日本語テキスト カタカナ",
    "👩\u200d👩\u200d👧 🇩🇪🇫🇷🇬 e\u0301a",
    "\r\n a\n\nb\t c  d",
    'שלום צה"ל',
    "naïve Straße ÀÉ",
    "",
    "  \n ",
]


def independent_segments(text: str) -> list[list[int]]:
    ends = np.cumsum([0, *(len(word) for word in wordbreak.words(text))]).tolist()
    spans = pairwise(ends)
    return [[start, stop] for start, stop in spans if not text[start:stop].isspace()]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_an_independent_implementation(text: str) -> None:
    assert word_segments(text).tolist() == independent_segments(text)


def test_words_of_real_documentation_are_those_of_an_independent_implementation() -> None:
    for name in ("lambda", "strings", "debugger"):
        text = pydoc_data.topics.topics[name][:4000]
        assert word_segments(text).tolist() == independent_segments(text)


def test_words_of_random_strings_are_those_of_an_independent_implementation() -> None:
    # one or more characters of every class that the rules of UAX-29 tell apart
    alphabet = "aé1_.,:;'\"カ一ー \t\n\r-$·👩👧🇩©Ⓜ"
    alphabet += "\u05d0\u05d1\u3000\u0301\u200d\u00ad\u2019\u2060\u0660\u200b"
    random = Random(0)
    for _ in range(4000):
        text = "".join(random.choices(alphabet, k=random.randint(1, 9)))
        assert word_segments(text).tolist() == independent_segments(text), ascii(text)


def test_words_leave_out_white_space_and_keep_punctuation() -> None:
    text = "One,  two\n"
    assert [text[a:b] for a, b in word_segments(text)] == ["One", ",", "two"]


def test_segmenter_names_the_installed_version() -> None:
    assert regex.__version__ in SEGMENTER
    assert "UAX-29" in SEGMENTER


def rows_of(
    text: str,
    spans: list[tuple[int, int]],
    *,
    positions: list[int] | None = None,
    documents: list[int] | None = None,
) -> list[int]:
    words = word_segments(text)
    count = len(spans)
    return word_end_rows(
        np.zeros(len(words), np.int32),
        words,
        np.array([0] * count if documents is None else documents, np.int64),
        np.arange(count, dtype=np.uint32) if positions is None else np.array(positions, np.uint32),
        np.array(spans, np.uint32).reshape(-1, 2),
    ).tolist()


def test_a_word_of_several_tokens_has_the_row_of_the_last() -> None:
    assert rows_of("unhappy cat", [(0, 2), (2, 7), (8, 11)]) == [1, 2]


def test_a_token_over_several_words_belongs_to_the_last_of_them() -> None:
    assert rows_of("New York is", [(0, 8), (9, 11)]) == [-1, 0, 1]


def test_a_token_with_leading_space_belongs_to_the_word_it_ends_in() -> None:
    assert rows_of("a cat sat", [(0, 1), (1, 5), (5, 9)]) == [0, 1, 2]


def test_tokens_of_white_space_or_without_text_have_no_segment() -> None:
    assert rows_of("a  b", [(0, 1), (1, 2), (1, 1), (4, 4)]) == [0, -1]


def test_words_that_were_truncated_have_no_row() -> None:
    assert rows_of("one two three", [(0, 3)]) == [0, -1, -1]


def test_tokens_of_other_documents_are_ignored() -> None:
    assert rows_of("one two", [(0, 3), (4, 7)], documents=[-1, 0]) == [-1, 1]


def test_rows_may_come_in_any_order() -> None:
    assert rows_of("unhappy cat", [(8, 11), (2, 7), (0, 2)], positions=[2, 1, 0]) == [1, 0]


def test_several_tokens_with_one_end_give_the_one_at_the_highest_position() -> None:
    # a byte-level tokenizer splits a code point over several tokens with the same span
    assert rows_of("é x", [(0, 1), (0, 1), (2, 3)]) == [1, 2]


def test_a_document_recorded_twice_gives_its_first_rows() -> None:
    spans = [(0, 3), (4, 7), (0, 3), (4, 7)]
    assert rows_of("one two", spans, positions=[0, 1, 0, 1]) == [0, 1]


def test_documents_do_not_run_into_each_other() -> None:
    rows = word_end_rows(
        np.array([0, 1], np.int32),
        np.array([[0, 3], [0, 5]], np.uint32),
        np.array([1, 0], np.int64),
        np.zeros(2, np.uint32),
        np.array([[0, 5], [4, 9]], np.uint32),
    )
    assert rows.tolist() == [-1, 0]


def test_token_segments_find_their_rows_by_document_and_position() -> None:
    rows = token_rows(
        np.array([0, 0, 1, 1], np.int32),
        np.array([1, 2, 1, 7], np.uint32),
        np.array([1, 0, -1, 0, 1], np.int64),
        np.array([1, 2, 1, 1, 1], np.uint32),
    )
    assert rows.tolist() == [3, 1, 0, -1]


def test_token_segments_of_an_empty_recording_are_all_missing() -> None:
    nothing = np.empty(0, np.int64)
    rows = token_rows(
        np.zeros(2, np.int32), np.arange(2, dtype=np.uint32), nothing, nothing.astype(np.uint32)
    )
    assert rows.tolist() == [-1, -1]
