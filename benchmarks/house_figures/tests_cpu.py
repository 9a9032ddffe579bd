"""Processor seconds of ``make test`` here and on the parent commit, measured in turn."""

import json
import os
import re
import resource
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from house_figures.figure import Figure
from house_figures.sources import ROOT

RESULTS = ROOT / "benchmarks" / "tests_cpu.json"
_BAR = 0.75
_UNIT = "processor seconds of make test over those on the parent commit, no test fewer"
_PYTEST = ("-m", "pytest", "-p", "no:cacheprovider")
_HASHED = ("*.py", "*.toml", "*.proto", "*.html", "*.css", "*.js")


def measured(parent: str, jobs: int = 2) -> Figure:
    """Run the tests of this working tree and of a commit, keep the result and return the figure.

    Args:
        parent: the commit to compare with.
        jobs: processes that pytest uses, as in ``make test``.
    """
    with _worktree(parent) as before:
        document: dict[str, object] = {
            "tree": hash_of_tree(),
            "parent": _git("rev-parse", parent),
            "collected": {"here": _collected(ROOT), "parent": _collected(before)},
            "cpu_s": {"parent": _cpu_s(before, jobs), "here": _cpu_s(ROOT, jobs)},
        }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    return kept()


def kept() -> Figure:
    """Return the figure of the last measurement that was committed, if it is of this tree."""
    if not RESULTS.exists():
        return _unmeasured("no benchmarks/tests_cpu.json: run --full --parent REV")
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    if document["tree"] != hash_of_tree():
        return _unmeasured("benchmarks/tests_cpu.json is of another tree: run --full --parent REV")
    cpu_s, collected = document["cpu_s"], document["collected"]
    return Figure(
        figure="tests_cpu",
        value=cpu_s["here"] / cpu_s["parent"],
        bar=_BAR,
        unit=_UNIT,
        peers={"parent": document["parent"], "cpu_s": cpu_s, "collected": collected},
        is_doubtful=collected["here"] < collected["parent"],
    )


def _unmeasured(why: str) -> Figure:
    return Figure(figure="tests_cpu", value=None, bar=_BAR, unit=_UNIT, peers={"not measured": why})


def hash_of_tree() -> str:
    """Return git's hash of all code in the working tree, whether committed or not."""
    listed = _git("ls-files", "--cached", "--others", "--exclude-standard", "--", *_HASHED)
    names = sorted(name for name in listed.splitlines() if (ROOT / name).is_file())
    hashes = subprocess.run(
        ["git", "hash-object", "--stdin-paths"],
        cwd=ROOT, input="\n".join(names), check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return subprocess.run(
        ["git", "hash-object", "--stdin"],
        cwd=ROOT, input="\n".join(names) + hashes, check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, check=True, capture_output=True, text=True)
    return done.stdout.strip()


@contextmanager
def _worktree(revision: str) -> Generator[Path]:
    """Check a commit out beside the repository, for the length of a block."""
    with tempfile.TemporaryDirectory(prefix="isogloss-parent-") as place:
        tree = Path(place) / "tree"
        _git("worktree", "add", "--detach", str(tree), revision)
        try:
            yield tree
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _pytest(tree: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHONPATH": str(tree / "src"),
        "PYTHONSAFEPATH": "1",
        "OMP_WAIT_POLICY": "passive",
    }
    return subprocess.run(
        [sys.executable, *_PYTEST, *options],
        cwd=tree, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def _collected(tree: Path) -> int:
    """Return how many tests ``make test`` runs in a tree."""
    said = _pytest(tree, "--collect-only", "-q").stdout
    found = re.search(r"^(\d+)(?:/\d+)? tests? collected", said, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"pytest collected nothing in {tree}: {said[-500:]}")
    return int(found[1])


def _cpu_s(tree: Path, jobs: int) -> float:
    """Return the processor seconds of all processes of a run of the tests, all green."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _pytest(tree, "-n", str(jobs), "--dist", "worksteal")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise RuntimeError(f"the tests fail in {tree}: {done.stdout[-2000:]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
