"""What a real notebook shows of our values: run by a kernel, laid out by a browser.

``make test-peers`` runs it in an environment that has the kernel. With ``ISOGLOSS_PICTURES`` set to
a directory, pictures of the page are left there.
"""

import html
import json
import os
import re
import subprocess
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.service import planted
from tests.service.pages.test_report import CHROMIUM, dump

from isogloss.store import Store

PACKAGES = ("nbclient", "nbconvert", "ipykernel")
pytestmark = [
    pytest.mark.peers,
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        any(find_spec(name) is None for name in PACKAGES),
        reason="no notebook is in this environment: make test-peers",
    ),
]

TRAIN = "client.train({!r}, site={!r}, features=40, k=3, epochs={}, dictionary={!r}, more=MORE)"
SMALL = TRAIN.format("small-docs", "layer.1", 40, "small")
LARGE = TRAIN.format("large-docs", "encoder.layer.2", 12, "large")
CELLS: Mapping[str, str] = {
    "connect": "import isogloss\n"
    "MORE = {'batch_rows': 512, 'learning_rate': 0.01}\n"
    "client = isogloss.connect(STORE)\nclient",
    "recording": "client.recording('small-docs')",
    "job": f"job = {SMALL}\njob",
    # the thread that shows the job's progress has shown its end, too, once this cell is done
    "dictionary": "import threading\nsmall = job.result(timeout_s=300)\n"
    "for thread in threading.enumerate():\n"
    "    if thread.name.startswith('isogloss-follow'): thread.join(60)\n"
    "small",
    "in the hand": "client.dictionary(small)",
    "match": f"large = {LARGE}.result(timeout_s=300)\n"
    "client.match(small, large).result(timeout_s=300)",
    "feature": "best = client.pairs(client.matches()[0])[0]\n"
    "client.feature(small.feature(best.feature_a))",
    "hits": "client.nearest(small.feature(best.feature_a), among=[large])",
    "job that was cancelled": "import time\n"
    "long = client.train('small-docs', site='layer.1', features=9, k=3, epochs=1e5)\n"
    "long.cancel()\n"
    "while not long.info().is_done: time.sleep(0.1)\n"
    "long.info()",
    "client": "client",
    "closed": "client.close()\nclient",
}
"""What a reader types; the value of the last line of each is shown."""

WANTED: Mapping[str, tuple[str, ...]] = {
    "connect": ("isogloss client", "small-docs", "9,600", "no dictionaries yet"),
    "recording": ("Recording small-docs", "made/up-small-docs", "layer.1", "float32"),
    "job": ("(train)", "succeeded", "dictionaries/small"),
    "dictionary": ("Dictionary small", "layer.1 of small-docs", "topk, sae", "40"),
    "in the hand": ("Dictionary small", "topk, sae"),
    "match": ("Match", "small", "large", "pairs", "null"),
    "feature": ("of small", "fires on", "segments of probe", "word"),
    "hits": ("Nearest features", "large", "given token"),
    "job that was cancelled": ("(train)", "cancelled"),
    "client": ("small", "large", "encoder.layer.2"),
    "closed": ("does not answer", "connect again"),
}
"""Words that a reader sees below each cell."""

MEASURE = """
<pre id="measured"></pre><script>
const shown = [...document.querySelectorAll(".jp-OutputArea-output")].map((node) => ({
  text: node.innerText,
  cut: [node, ...node.querySelectorAll("*")].filter((part) => part.clientWidth > 0 &&
    part.scrollWidth > part.clientWidth + 1 && getComputedStyle(part).display !== "inline").length,
  smallest: Math.min(...[node, ...node.querySelectorAll("*")].map((part) =>
    parseFloat(getComputedStyle(part).fontSize))),
  height: node.getBoundingClientRect().height,
  columns: [...node.querySelectorAll("pre")].every((part) =>
    getComputedStyle(part).fontFamily.includes("monospace")),
}));
document.getElementById("measured").textContent = JSON.stringify(shown);
</script>
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("notebook") / "store"
    with Store.open(root) as store:
        planted.record(store, "small-docs", seed=1)
        planted.record(store, "large-docs", seed=2)
    return root


@pytest.fixture(scope="module")
def page(store: Path) -> str:
    """The notebook as a page, once all its cells have run."""
    nbformat, nbclient = import_module("nbformat.v4"), import_module("nbclient")
    exporters = import_module("nbconvert.exporters")
    code = [f"STORE = {str(store)!r}\n" * (not at) + cell for at, cell in enumerate(CELLS.values())]
    notebook = nbformat.new_notebook(cells=[nbformat.new_code_cell(cell) for cell in code])
    nbclient.NotebookClient(notebook, timeout=400, kernel_name="python3").execute()
    counts = [len(cell.outputs) for cell in notebook.cells]
    assert counts == [1] * len(CELLS), "a cell shows one value, and nothing beside it"
    exporter = exporters.HTMLExporter(template_name="lab", mathjax_url="", require_js_url="")
    return str(exporter.from_notebook_node(notebook)[0])


def pictures(page: Path, folder: Path) -> None:
    """Leave pictures of the page, light and dark, for who wants to look at it."""
    for name, more in (("light", ()), ("dark", ("--blink-settings=preferredColorScheme=0",))):
        command = [
            *(str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", *more),
            *(f"--user-data-dir={page.parent / name}", "--window-size=1100,3600"),
            *(f"--screenshot={folder / f'notebook-{name}.png'}", page.as_uri()),
        ]
        subprocess.run(command, capture_output=True, timeout=90, check=True)


def test_a_notebook_shows_every_value_whole_and_legible(page: str, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    path.write_text(page.replace("</body>", MEASURE + "</body>"), encoding="utf-8")
    if folder := os.environ.get("ISOGLOSS_PICTURES"):
        pictures(path, Path(folder))
    dom = dump(path, 1100, tmp_path / "profile")
    found = re.search(r'<pre id="measured">(.*?)</pre>', dom, re.DOTALL)
    assert found is not None
    shown = json.loads(html.unescape(found[1]))
    assert len(shown) == len(CELLS)
    for name, one in zip(CELLS, shown, strict=True):
        for words in WANTED[name]:
            assert words in one["text"], (name, words, one["text"])
        assert not re.search(r"</?(div|table|td|b|pre|mark)\b|&lt;|object at 0x", one["text"]), name
        assert one["cut"] == 0, (name, "something is cut off or wider than its place")
        assert one["columns"], (name, "columns of spaces want a font of one width")
        assert one["smallest"] >= 11, (name, "letters too small to read")
        assert 0 < one["height"] < 700, (name, "a value takes a screen at most")
