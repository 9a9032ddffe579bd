"""How long `import isogloss` takes, beside an empty Python process in the same run."""

import argparse
import json
import statistics
import subprocess
import sys
import time

BAR_S = 0.3


def seconds(code: str) -> float:
    """Run code in a new process and return its wall clock."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - began


def main() -> int:
    """Measure, print, and return 0 where the bar holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=11)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    seconds("import isogloss")
    empty: list[float] = []
    ours: list[float] = []
    for _ in range(given.runs):
        empty.append(seconds("pass"))
        ours.append(seconds("import isogloss"))
    added = statistics.median(ours) - statistics.median(empty)
    figure = {
        "figure": "import_isogloss",
        "value": round(added, 4),
        "bar": BAR_S,
        "holds": added < BAR_S,
        "unit": "s beyond an empty process",
        "peers": {"empty process": round(statistics.median(empty), 4)},
        "runs": given.runs,
    }
    print(json.dumps({"figures": [figure]}) if given.json else figure)
    return 0 if figure["holds"] else 1


if __name__ == "__main__":
    sys.exit(main())
