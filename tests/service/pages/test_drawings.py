"""Charts as files: each stands alone, for any program that draws SVG."""

import re
from collections.abc import Mapping
from typing import cast
from xml.etree import ElementTree

import pytest
from tests.service.pages import report_example

from isogloss.errors import CorruptData
from isogloss.service.pages.drawings import draw_files


def example(*, cosines: bool = False) -> dict[str, object]:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    scatter = cast("dict[str, list[object]]", data["scatter"])
    count = len(scatter["r"])
    scatter["decoder_cosine"] = [0.5 if cosines else None] * count
    scatter["margin"] = [place / count for place in range(count)]
    return report


def test_every_chart_stands_alone_with_its_colours_written_out() -> None:
    found = draw_files(example())
    assert set(found) >= {
        *("shared-by-threshold", "r-given-token", "best-r", "firing-density", "r-by-margin"),
    }
    assert "r-by-decoder-cosine" not in found
    for svg in found.values():
        root = ElementTree.fromstring(svg)
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert (root.get("width"), root.get("height")) == ("620", "410")
        assert "var(" not in svg
        assert "light-dark" not in svg
        assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_cosines_are_drawn_where_there_are_some() -> None:
    svg = draw_files(example(cosines=True))["r-by-decoder-cosine"]
    assert "cosine of the decoder rows" in svg
    assert len(re.findall(r'<circle class="dot [a-z]+" [^>]*r="3.2"', svg)) > 100


@pytest.mark.parametrize("lacking", ["data", "sides"])
def test_a_damaged_report_is_named(lacking: str) -> None:
    report: Mapping[str, object] = {k: v for k, v in example().items() if k != lacking}
    with pytest.raises(CorruptData, match=lacking):
        draw_files(report)
