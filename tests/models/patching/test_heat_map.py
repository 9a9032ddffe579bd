"""A trace as a page."""

import re

from tests.models.patching.tiny import model, pairs

from isogloss.models.patching.heat_map import trace_page
from isogloss.models.patching.tracing import trace


def test_each_cell_says_site_token_and_effect():
    found = trace(model(), pairs(), ["layers.0", "layers.1.attn.head.2"])
    page = trace_page(found)
    cells = re.findall(r"<title>(\S+) at (\d+) (\S+): effect (\S+), logit_difference", page)
    assert len(cells) == 12
    for site, position, token, effect in cells:
        i, j = found.sites.index(site), int(position)
        assert token == found.tokens[j]
        assert float(effect) == round(float(found.effects[i, j]), 3)
    assert page.count('class="cell less"') == int((found.effects < 0).sum())
    assert not re.search(r"(src|href)=|url\(|<script", page)
