"""Cutting texts into passages, and the standard library's texts."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uniseg.graphemecluster import grapheme_cluster_boundaries

from isogloss.errors import InvalidInput, NotFound
from isogloss.models import TextDocument, passages, standard_library_texts

STORY = " ".join(f"Sentence {i} has exactly seven words here." for i in range(60))


def texts_of(text: str, words: int) -> list[str]:
    return [p.text for p in passages([TextDocument(text=text)], words)]


def test_passages_end_at_sentences_and_keep_to_the_length():
    found = texts_of(STORY, 50)
    assert all(p.endswith("here.") for p in found)
    assert all(25 <= len(p.split()) <= 62 for p in found)


def test_a_text_without_sentences_is_cut_at_words():
    found = texts_of("word " * 1000, 100)
    assert {len(p.split()) for p in found} == {100}


def test_a_short_rest_joins_the_passage_before_it():
    assert len(texts_of("word " * 110, 100)) == 1
    assert len(texts_of("word " * 130, 100)) == 2


def test_a_paragraph_ends_a_passage_as_well():
    text = "word " * 70 + "\n\n" + "next " * 70
    assert [set(p.split()) for p in texts_of(text, 100)] == [{"word"}, {"next"}]


def test_a_script_without_spaces_is_cut_too():
    found = texts_of("語" * 5000, 100)
    assert "".join(found) == "語" * 5000
    assert max(map(len, found)) <= 1500


JOINER = "\u200d"
CLUSTERS = {
    "Thai": "ดื่มน้ำ",
    "Khmer": "ខ្ញុំទៅ",
    "Burmese": "ကျွန်တော်",
    "Devanagari": "किसीभीपढ़नाक्षि",
    "a family": JOINER.join("\U0001f469\U0001f469\U0001f467\U0001f466"),
    "flags": "\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7\U0001f1ef\U0001f1f5",
    "Hangul jamo": "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "a sign behind a space": "a \u0301b\u0600 c",
}


def cuts_between(text: str, found: list[str]) -> list[int]:
    """Return where passages end and begin in the text they were cut from."""
    cuts: list[int] = []
    end = 0
    for passage in found:
        start = text.index(passage, end)
        cuts += [end, start]
        end = start + len(passage)
    return cuts[1:]


@pytest.mark.parametrize("name", CLUSTERS)
def test_no_passage_ends_within_a_character(name: str):
    sample = CLUSTERS[name]
    for moved in range(len(sample)):
        text = "x" * moved + sample * 100
        cuts = cuts_between(text, texts_of(text, 16))
        assert len(cuts) > 4
        # an independent UAX-29
        assert set(cuts) <= set(grapheme_cluster_boundaries(text))


def test_a_character_longer_than_a_passage_stays_whole():
    tower = "a" + "\u0301" * 1000
    assert sum(tower in passage for passage in texts_of("語" * 200 + tower + "語" * 200, 8)) == 1
    assert texts_of(tower, 8) == [tower]


def test_passages_of_plain_text_are_those_of_every_earlier_version():
    sample = [
        "one two. three  four\tfive\n\nsix. " * 30,
        "語" * 700 + "。naïve café " * 50,
        "cafe\u0301 " * 90,
        "x" * 3000 + " y" * 99,
    ]
    found = [(p.text, p.group) for p in passages([TextDocument(text=t) for t in sample], 16)]
    digest = hashlib.sha256(json.dumps(found).encode()).hexdigest()
    assert (len(found), digest[:32]) == (50, "1bd09c9095860d3739aafde790089853")


@given(st.text(alphabet="ab. \n語é\u0301", max_size=400), st.integers(8, 30))
def test_nothing_but_white_space_is_lost_and_a_text_alone_decides(text: str, words: int):
    found = texts_of(text, words)
    assert "".join("".join(found).split()) == "".join(text.split())
    assert all(p in text and p == p.strip() and p for p in found)
    both = passages([TextDocument(text="other one"), TextDocument(text=text, group="g")], words)
    assert [p.text for p in both if p.group == "g"] == found


def test_passages_of_less_than_eight_words_are_refused():
    with pytest.raises(InvalidInput, match="words is 7"):
        passages([], 7)


def test_the_standard_library_gives_topics_and_docstrings_of_some_length():
    before = set(sys.modules)
    library = standard_library_texts()
    assert not {name for name in set(sys.modules) - before if name.split(".")[0] != "encodings"}
    groups = {d.group for d in library}
    assert {"topic:assignment", "json", "logging.handlers", "collections"} <= groups
    assert not {g for g in groups if g.startswith(("test", "idlelib", "site-packages"))}
    assert min(len(d.text.split()) for d in library) >= 40
    assert 150_000 < sum(len(d.text.split()) for d in library) < 400_000
    assert len({d.text for d in library}) == len(library)


def test_texts_come_in_the_order_of_paths_and_source_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def doc(word: str, words: int = 40) -> str:
        return '"""' + f"{word} " * words + '"""'

    sources = {
        "b/__init__.py": f"if 1:\n class C:\n  {doc('inner')}\n  def f(self): {doc('method')}\n",
        "a.py": f"{doc('module')}\ndef f():\n {doc('short', 39)}\nasync def g(): {doc('async')}\n",
        "b/c.py": f"import nowhere\nx = '\\d'\ndef f(): {doc('module')}\ndef g(): {doc('last')}\n",
        "test/t.py": doc("test"),
        "site-packages/s.py": doc("site"),
        "pydoc_data/topics.py": f"topics = {{'if': {doc('topic')}}}\n",
    }
    for name, source in sources.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(source)
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    found = standard_library_texts()
    assert [(d.group, d.text.split()[0]) for d in found] == [
        ("a", "module"), ("a", "async"), ("b", "inner"), ("b", "method"), ("b.c", "last"),
        ("topic:if", "topic"),
    ]  # fmt: skip
    assert standard_library_texts() == found


def test_a_python_without_its_source_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sysconfig.get_paths", lambda: {"stdlib": str(tmp_path)})
    with pytest.raises(NotFound, match="no standard library source"):
        standard_library_texts()
