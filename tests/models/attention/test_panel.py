"""Patterns as a page."""

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from isogloss.errors import InvalidInput
from isogloss.models.attention.panel import attention_page
from isogloss.models.attention.patterns import AttentionPatterns, Head

TOKENS = ("<s>", " & then", "\n", '"')
VALUES = np.array([[[1, 0, 0, 0], [0.25, 0.75, 0, 0], [0, 0.001, 0.999, 0], [0, 0, 0.5, 0.5]]])
PATTERNS = AttentionPatterns(
    model="a <model>", tokens=TOKENS, heads=(Head(layer=18, head=6),),
    values=VALUES.astype(np.float32),
)  # fmt: skip


def test_each_cell_says_query_key_and_share():
    page = attention_page(PATTERNS)
    titles = re.findall(r"<title>(\d+) (\S+) looks at (\d+) (\S+): (\S+)</title>", page)
    assert [(int(q), int(k), share) for q, _, k, _, share in titles] == [
        (0, 0, "100.0%"), (1, 0, "25.0%"), (1, 1, "75.0%"), (2, 2, "99.9%"), (3, 2, "50.0%"),
        (3, 3, "50.0%"),
    ]  # fmt: skip
    assert "layer 18, head 6" in page


def test_more_tokens_than_a_browser_shows_are_refused():
    many = replace(PATTERNS, tokens=("a",) * 513, values=np.zeros((1, 513, 513), np.float32))
    with pytest.raises(InvalidInput, match="513 tokens, up to 512 are drawn"):
        attention_page(many)
    least = replace(PATTERNS, tokens=("a",) * 512, values=np.zeros((1, 512, 512), np.float32))
    assert attention_page(least).count("<text") == 2 * 512 + 1


def test_a_page_stands_alone_and_no_token_becomes_markup():
    page = attention_page(PATTERNS)
    tags: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            tags.append(tag)
            assert not {"src", "href"} & {name for name, _ in attrs}

    Reader().feed(page)
    assert {"s", "script", "model"}.isdisjoint(tags)
    assert "a &lt;model&gt;" in page
    assert "url(" not in page
