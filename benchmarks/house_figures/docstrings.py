"""Docstrings fit their functions: pydoclint, less what this project writes differently.

``PYTHONPATH=benchmarks python -m house_figures.docstrings [PATH ...]``: prints what does not fit;
exit status 1 where anything does not. pyproject.toml holds pydoclint's settings. pydoclint cannot
leave single rules out, and of what it reports this is no mistake here:

* no ``Returns`` or ``Yields`` section: the first sentence says what a function returns;
* no ``Args`` section at all: names and types often say it. One that is there must be complete;
* listed errors that what the function calls raises. Those of ``isogloss.errors`` that it raises
  itself must be listed.

pydoclint 0.12 cannot read a generator whose return type holds quotes, such as
``Iterator[Float[Tensor, "rows width"]]``: give that type a name.
"""

import argparse
import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from house_figures.sources import ROOMS, ROOT

_REPORTED = re.compile(r"^ +(?P<line>\d+): (?P<code>DOC\d+): (?P<text>.*)$")
_ERRORS = re.compile(r"in the docstring: \[(?P<listed>.*?)\]\. .*in the body: \[(?P<raised>.*?)\]")
_ARGUMENTS = {"DOC101", "DOC103"}
_RESULTS = {"DOC201", "DOC402", "DOC404"}
_RAISED_BELOW, _RAISED = "DOC502", "DOC503"


@dataclass(frozen=True, kw_only=True)
class Misfit:
    """What pydoclint says of one docstring."""

    path: Path
    """The file."""
    line: int
    """Line of the function or class."""
    code: str
    """The rule."""
    text: str
    """What does not fit."""

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.code} {self.text}"


def misfits(paths: list[Path]) -> Iterator[Misfit]:
    """Yield the docstrings under some paths that do not fit their functions."""
    said = _pydoclint(paths)
    if said is None:  # one file stopped it: find out which
        files = [file for path in paths for file in sorted((ROOT / path).rglob("*.py"))]
        for file in files or paths:
            yield from _read(_pydoclint([file]), file)
    else:
        yield from _read(said, Path())


def _pydoclint(paths: list[Path]) -> str | None:
    """Return what pydoclint says of some files; None where it ended without having read all.

    Raises:
        RuntimeError: pydoclint did not run, because of its settings or because it is not there.
    """
    command = [sys.executable, "-m", "pydoclint.main", "--quiet", "--config", "pyproject.toml"]
    done = subprocess.run(
        [*command, *map(str, paths)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    said = done.stdout + done.stderr
    if "SyntaxError" in said:
        return None
    if done.returncode and not re.search(r"DOC\d+", said):
        raise RuntimeError(f"pydoclint ended with {done.returncode}: {said[-500:]}")
    return said


def _read(said: str | None, path: Path) -> Iterator[Misfit]:
    """Yield what counts of what pydoclint said; a file that it could not read is a misfit."""
    if said is None:
        text = "pydoclint cannot read a return type that holds quotes: give that type a name"
        yield Misfit(path=path.relative_to(ROOT), line=1, code="unreadable", text=text)
        return
    for line in said.splitlines():
        found = _REPORTED.match(line)
        if found is None:
            path = Path(line.strip()) if line.strip().endswith(".py") else path
            continue
        misfit = Misfit(path=path, line=int(found["line"]), code=found["code"], text=found["text"])
        if not _is_our_way(misfit):
            yield misfit


def _is_our_way(misfit: Misfit) -> bool:
    """Return whether this project writes docstrings so on purpose."""
    if misfit.code in _RESULTS or misfit.code == _RAISED_BELOW:
        return True
    if misfit.code in _ARGUMENTS:
        return "Args:" not in _docstrings(ROOT / misfit.path).get(misfit.line, "")
    errors = _ERRORS.search(misfit.text)
    if misfit.code == _RAISED and errors is not None:
        listed = set(re.findall(r"\w+", errors["listed"]))
        raised = set(re.findall(r"\w+", errors["raised"])) & _our_errors()
        return raised <= listed
    return False


@cache
def _our_errors() -> frozenset[str]:
    """Return the names of the project's errors, less their root: others are caught or passed on."""
    tree = ast.parse((ROOT / "src" / "isogloss" / "errors.py").read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, ast.ClassDef)}
    return frozenset(names - {"IsoglossError"})


@cache
def _docstrings(path: Path) -> dict[int, str]:
    """Return the docstrings of a file by the line at which their function or class begins."""
    return {
        node.lineno: ast.get_docstring(node) or ""
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }


def main() -> int:
    """Print what does not fit; 0 where everything fits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", type=Path, default=[Path(room) for room in ROOMS])
    found = list(misfits(parser.parse_args().paths))
    for misfit in found:
        print(misfit)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
