"""The report: its words, its charts, hostile text, and how a real browser lays it out."""

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import cast

import pytest
from tests.service.pages import report_example

from isogloss.errors import CorruptData, InvalidInput, UnsupportedVersion
from isogloss.service.pages.report import render_report, write_report
from isogloss.service.pages.report_view import clean

CHROMIUM = next(
    (
        found
        for name in ("chromium", "chromium-browser", "google-chrome")
        if (found := shutil.which(name))
    ),
    None,
)

MEASURE = """
<pre id="measured"></pre><script>
const box = (node) => node.getBoundingClientRect();
const apart = (a, b) => a.right <= b.left + 1 || b.right <= a.left + 1 ||
  a.bottom <= b.top + 1 || b.bottom <= a.top + 1;
const name = (node) => node.tagName + "." + (node.getAttribute("class") || "") + " " +
  node.textContent.trim().slice(0, 40);
const wide = [...document.querySelectorAll("body *")].filter((node) =>
  !node.closest("svg, script, style") && box(node).width > 0 &&
  (box(node).right > innerWidth + 1 || box(node).left < -1 ||
   (node.scrollWidth > node.clientWidth + 1 && getComputedStyle(node).display !== "inline" &&
    node.clientWidth > 0)));
const overlaps = [];
for (const chart of document.querySelectorAll("svg.chart")) {
  const texts = [...chart.querySelectorAll("text")];
  const frame = box(chart);
  for (const [at, text] of texts.entries()) {
    const place = box(text);
    if (place.left < frame.left - 1 || place.right > frame.right + 1 ||
        place.top < frame.top - 1 || place.bottom > frame.bottom + 1)
      overlaps.push("cut " + name(text));
    for (const other of texts.slice(at + 1))
      if (!apart(place, box(other))) overlaps.push(name(text) + " on " + name(other));
  }
}
for (const parent of document.querySelectorAll("main, section, .two, .pair, .pair-head, header")) {
  const children = [...parent.children].filter((node) => box(node).width > 0);
  for (const [at, child] of children.entries())
    for (const other of children.slice(at + 1))
      if (!apart(box(child), box(other))) overlaps.push(name(child) + " on " + name(other));
}
const tick = document.querySelector("svg.chart .tick");
document.getElementById("measured").textContent = JSON.stringify({
  width: innerWidth, page: document.documentElement.scrollWidth,
  wide: wide.map(name), overlaps: overlaps, charts: document.querySelectorAll("svg.chart").length,
  tickHeight: box(tick).height,
});
</script>
"""


def two_reports() -> list[Mapping[str, object]]:
    return [
        report_example.report(),
        report_example.report(
            "minilm-l3",
            models=("packaged:minilm-l6", "packaged:paraphrase-minilm-l3"),
            related=True,
            text=report_example.HOSTILE,
            seed=1,
        ),
    ]


@pytest.fixture(scope="module")
def page() -> str:
    return render_report(two_reports())


def dump(page: Path, width: int, profile: Path) -> str:
    """Return the document as a browser made it."""
    if CHROMIUM is None:
        pytest.skip("chromium is not installed")
    command = [
        *(CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
        *(f"--user-data-dir={profile}", f"--window-size={width},1200", "--dump-dom"),
        page.as_uri(),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    return ended.stdout


@pytest.mark.parametrize("width", [1280, 800])
def test_a_browser_lays_the_page_out_without_overlap_or_cut(
    page: str, width: int, tmp_path: Path
) -> None:
    opened = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    opened = opened.replace("<details", "<details open").replace("</body>", MEASURE + "</body>")
    (tmp_path / "report.html").write_text(opened, encoding="utf-8")
    dom = dump(tmp_path / "report.html", width, tmp_path / "profile")
    found = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    measured = json.loads(found[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    assert measured["width"] == width
    assert measured["page"] <= width
    assert measured["wide"] == []
    assert measured["overlaps"] == []
    assert measured["charts"] == 12
    assert measured["tickHeight"] >= 11, "numbers on the axes are too small to read"


def test_the_script_runs_under_the_page_policy_and_text_of_models_does_not(
    page: str, tmp_path: Path
) -> None:
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    dom = dump(tmp_path / "report.html", 1000, tmp_path / "profile")
    said = re.findall(r"<output>(.*?)</output>", dom)
    assert len(said) == 2
    assert all(text.startswith("r ≥ 0.30: ") and "nulls: free shuffle" in text for text in said)
    assert len(re.findall(r"<script", dom)) == 5, "four with data and one with our code"


USE = """
<script>
const table = document.querySelector(".card .table");
const rows = () => [...table.tBodies[0].rows].map((row) => row.cells[1].textContent.trim());
const before = rows();
table.tHead.rows[0].cells[1].click();
const falling = rows();
table.tHead.rows[0].cells[1].click();
const card = document.querySelector(".pairs-table");
card.querySelector("details").dispatchEvent(new Event("toggle"));
const saved = [];
Blob = function (parts) { saved.push(parts.join("")); };
URL.createObjectURL = () => "#";
for (const button of document.querySelectorAll(".download")) button.click();
document.getElementById("used").textContent = JSON.stringify({
  before: before, falling: falling, rising: rows(), saved: saved,
  pairs: card.querySelectorAll("tbody tr").length,
});
</script>
"""


def test_tables_sort_and_are_saved(page: str, tmp_path: Path) -> None:
    opened = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", page)
    opened = opened.replace("</body>", '<pre id="used"></pre>' + USE + "</body>")
    (tmp_path / "report.html").write_text(opened, encoding="utf-8")
    dom = dump(tmp_path / "report.html", 1000, tmp_path / "profile")
    found = re.search(r'<pre id="used">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    used = json.loads(html.unescape(found[1]))
    numbers = [int(text.replace(",", "")) for text in used["before"]]
    assert sorted(used["falling"], reverse=True) == used["falling"]
    assert used["rising"] == used["falling"][::-1]
    assert len(numbers) == 2
    assert used["pairs"] == 900
    assert any(text.count("\r\n") == 900 for text in used["saved"]), "all pairs are in a file"
    assert all(text.startswith('"') for text in used["saved"])


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "srcset", "action", "data")
            and not (value or "").startswith("#")
        ]


def test_the_page_names_nothing_outside_itself(page: str) -> None:
    links = _Links()
    links.feed(page)
    assert links.found == []
    assert "@import" not in page
    assert "url(" not in page
    assert "default-src &#39;none&#39;" in page


def test_hostile_text_is_shown_and_never_markup(page: str) -> None:
    assert '<script>alert("x")' not in page
    assert "&lt;script&gt;alert(" in page
    assert "\u202e" not in page
    assert "\x07" not in page
    assert clean("a\u202eb\x07c\nd") == "a\ufffdb\ufffdc\nd"


def test_names_from_models_and_titles_are_escaped() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    page = render_report([report_example.report(models=(hostile, hostile))], title=hostile)
    assert "<img" not in page


def test_every_shown_pair_has_both_texts_and_its_numbers(page: str) -> None:
    single = render_report([report_example.report()])
    assert single.count('<article class="pair">') == 12 * 3 + 5
    assert single.count('<div class="side a">') == single.count('<div class="side b">') == 41
    assert page.count('<section class="match" id="match-') == 2


def test_provenance_names_models_seeds_hashes_and_versions() -> None:
    page = render_report([report_example.report()])
    for fact in ("encoder.layer.3", "cd" * 32, "ab" * 32, "5f3a9c1e77d0b2aa", "isogloss 0.1.0"):
        assert fact in page
    assert "seed 0" in page
    assert "seed 1" in page


def test_a_report_is_written_over_an_earlier_one_and_into_a_new_folder(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    for title in ("First", "Second"):
        assert write_report([report_example.report()], path, title=title) == path.resolve()
        assert f"<title>{title}</title>" in path.read_text(encoding="utf-8")


def test_no_match_damaged_data_and_later_versions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="0 matches"):
        render_report([])
    broken = report_example.report()
    del cast("dict[str, object]", broken["data"])["curves"]
    with pytest.raises(CorruptData, match=r"report 0\.data\.curves is missing"):
        write_report([broken], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(UnsupportedVersion, match="schema_version 2"):
        render_report([report_example.report() | {"schema_version": 2}])


def test_unknown_values_are_drawn_as_unknown() -> None:
    report = report_example.report()
    data = cast("dict[str, object]", report["data"])
    examples = cast("dict[str, list[dict[str, object]]]", data["examples"])
    for row in examples["best"]:
        row.update(partial_token=None, ci_low=None, ci_high=None, token_null=None)
    report["sides"] = {
        key: {
            **side,
            "metrics": None,
            "provenance": {"curve": [], "rows_trained": 0, "init_hash": "", "weights_sha256": ""},
        }
        for key, side in cast("dict[str, dict[str, object]]", report["sides"]).items()
    }
    page = render_report([report])
    assert "No training curve was kept." in page
    assert "not evaluated on held-out documents" in page
    assert "<dd>–</dd>" in page
