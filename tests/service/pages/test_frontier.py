"""The plot of a sweep: well-formed, with a band for each line, and names that cannot break it."""

from xml.etree import ElementTree

import pytest

from isogloss.dictionaries import Cell, CellKey, Reseeding
from isogloss.errors import InvalidInput
from isogloss.service.pages.frontier import frontier_svg

SVG = "{http://www.w3.org/2000/svg}"


def cell(site: str, features: int, k: float, fvu: float) -> Cell:
    key = CellKey(site, "topk", features, k)
    return Cell(key=key, seeds=2, l0=k, fvu=fvu, dead_fraction=0.0)


CELLS = [cell("a", 64, 4.0, 0.3), cell("a", 64, 16.0, 0.1), cell("<b>&", 256, 4.0, 0.2)]


def test_each_line_has_its_band_and_every_cell_its_mark() -> None:
    root = ElementTree.fromstring(frontier_svg(CELLS, Reseeding(deviation=0.1, degrees=3)))
    assert len(root.findall(f"{SVG}polygon")) == len(root.findall(f"{SVG}polyline")) == 2
    assert len(root.findall(f"{SVG}circle")) == 3
    texts = [text.text for text in root.findall(f"{SVG}text")]
    assert "<b>& topk 256 x1" in texts
    first = root.findall(f"{SVG}polyline")[0].attrib["points"].split()
    (left, high), (right, low) = (map(float, point.split(",")) for point in first)
    assert left < right
    assert high < low  # a lower error is further down


def test_one_seed_draws_no_band_and_says_so() -> None:
    text = frontier_svg(CELLS, None)
    assert "polygon" not in text
    assert "one seed each" in text


def test_one_cell_alone_has_axes() -> None:
    root = ElementTree.fromstring(frontier_svg(CELLS[:1], None))
    assert len(root.findall(f"{SVG}circle")) == 1


def test_nothing_is_not_plotted() -> None:
    with pytest.raises(InvalidInput, match="0 dictionaries"):
        frontier_svg([], None)


def test_a_long_name_widens_the_plot_instead_of_leaving_it() -> None:
    short, long = (
        ElementTree.fromstring(frontier_svg([cell(name, 64, 4.0, 0.3)], None)).attrib["viewBox"]
        for name in ("a", "a" * 80)
    )
    assert float(short.split()[2]) + 400 < float(long.split()[2])
