"""Each README of the store maps its folder, and its example runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

STORE = Path(__file__).resolve().parents[2] / "store"
READMES = sorted(STORE.rglob("README.md"))
NEEDS_A_STORE = {"recordings"}


def test_every_folder_has_a_map_that_names_each_of_its_files() -> None:
    for folder in (STORE, *(path.parent for path in STORE.rglob("__init__.py"))):
        text = (folder / "README.md").read_text()
        for path in folder.glob("*.py"):
            assert path.name == "__init__.py" or f"`{path.name}`" in text, path
        for path in folder.glob("*/__init__.py"):
            assert f"`{path.parent.name}/`" in text, path


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_the_example_runs(readme: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", readme.read_text(), re.DOTALL)
    compile(code, str(readme), "exec")
    if readme.parent.name in NEEDS_A_STORE:
        return
    exec(compile(code, str(readme), "exec"), {"__name__": "readme"})


def test_the_first_example_prints_what_it_says() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (STORE / "README.md").read_text(), re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "8 [1. 2.]\n"
