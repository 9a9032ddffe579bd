"""The examples in this room's READMEs run, and their maps name every file."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import isogloss.universality as room

ROOT = Path(room.__file__).parent
READMES = sorted(ROOT.rglob("README.md"))


def example(readme: Path) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    return code


def promised(code: str) -> list[str]:
    """What the comments beside ``print`` say that it prints, up to a colon."""
    return [
        line.partition(")  # ")[2].partition(":")[0]
        for line in code.splitlines()
        if line.startswith("print(") and ")  # " in line
    ]


def test_examples_run_and_print_what_they_say(tmp_path: Path) -> None:
    for number in range(len(READMES)):
        (tmp_path / str(number)).mkdir()
    script = "\n".join(
        f"os.chdir({str(tmp_path / str(number))!r})\n{example(readme)}"
        for number, readme in enumerate(READMES)
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import os\n{script}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    wanted = [line for readme in READMES for line in promised(example(readme))]
    assert len(wanted) >= 6
    printed = iter(done.stdout.splitlines())
    for line in wanted:
        assert line in printed, f"{line!r} was not printed in its turn: {done.stdout}"


@pytest.mark.parametrize(
    "folder", sorted({path.parent for path in ROOT.rglob("*.py")}), ids=lambda path: path.name
)
def test_maps_name_every_file_and_folder(folder: Path) -> None:
    text = (folder / "README.md").read_text()
    files = {path.name for path in folder.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in folder.glob("*/__init__.py")}
    missing = {name for name in files | folders if f"`{name}`" not in text}
    assert missing == set()
