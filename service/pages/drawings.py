"""The charts of a match as SVG files that stand alone, for papers and slides.

The page's charts take their colours from its style sheet, by theme. Here the rules for charts stand
in each file, with the colours of the light theme, so that any program draws them.
"""

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from isogloss.service.pages.charts import HEIGHT, WIDTH
from isogloss.service.pages.figures import figures_of
from isogloss.service.pages.report_data import Node
from isogloss.service.pages.report_view import open_report, sides_of


def draw_files(details: Mapping[str, object]) -> dict[str, str]:
    """Draw the charts of a match.

    Args:
        details: report data saved with the match (``MatchInfo.details``).

    Returns:
        SVG documents by the name of their file without its ending; a chart without data is left
        out, such as one of cosines where the widths differ.

    Raises:
        CorruptData: the report lacks a field.
        UnsupportedVersion: a later release made it.
    """
    report = Node(details, "report")
    data, sides = open_report(report), sides_of(report)
    drawn = figures_of(report, data, sides)
    found = {
        "shared-by-threshold": str(drawn.curves),
        "r-given-token": str(drawn.scatter),
        "best-r": str(drawn.best),
        "firing-density": str(drawn.density),
        "training": str(drawn.training),
        "r-by-margin": str(drawn.margin),
        "r-by-decoder-cosine": str(drawn.cosine),
    }
    return {name: _alone(svg) for name, svg in found.items() if svg}


def _alone(svg: str) -> str:
    """Give a chart its namespace, its size, and the rules that it is drawn by."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" class="chart"'
    )
    made = svg.replace('<svg class="chart"', head, 1)
    end = made.index(">") + 1
    white = f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
    return f"{made[:end]}<style>{_rules()}</style>{white}{made[end:]}\n"


@cache
def _rules() -> str:
    """Return the style sheet's rules for charts, each colour written out."""
    sheet = (files("isogloss.service.pages") / "templates" / "report.css").read_text("utf-8")
    light = dict(re.findall(r"--([a-z-]+): light-dark\((#[0-9a-f]+),", sheet))
    rules = [line for line in sheet.splitlines() if line.startswith("svg ")]
    text = re.sub(r"var\(--([a-z-]+)\)", lambda found: light[found[1]], "\n".join(rules))
    return f"svg {{ font-family: sans-serif; }}\n{text}"
