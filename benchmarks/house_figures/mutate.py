"""Run the drawn mutants: ``PYTHONPATH=benchmarks python -m house_figures.mutate [--draw NAME]``.

Exit status 0 where every mutant was run. Each process works in a copy of the tree under
``.cache/mutants``, so that the working tree is never changed. Stop it at any time: what has run is
kept, and the next call goes on. ``--minutes`` stops it by itself and writes what there is; what was
not run counts as not noticed. The outcomes are written to ``benchmarks/mutants.json``, which
``benchmarks/house.py`` checks; those of the draw ``universality`` to a file of its own, which
``benchmarks/universality.py`` checks. Each holds a hash of the mutant, its file and the tests that
were run: as long as that is the same, the mutant is not run again. A mutant that takes ten times as
long as its tests do unmutated, and a while more, counts as noticed (``timeout``); no single test
has a limit of its own, so that a busy machine does not fail one.

With ``--under FOLDER`` only the drawn mutants of a folder are run, and nothing is written; a larger
``--count`` draws more of them.
"""

import argparse
import hashlib
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

from cosmic_ray.mutating import use_mutation
from cosmic_ray.plugins import get_operator
from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import MutationSpec, TestOutcome, WorkerOutcome, WorkItem, WorkResult

from house_figures.mutants import (
    HOUSE,
    Config,
    Mutant,
    drawn,
    folder_tests,
    hash_of_files,
    load_config,
    mutated_files,
    nearest_tests,
)
from house_figures.sources import ROOT, sources
from house_figures.warm_tests import import_libraries, run_warm

SESSIONS = ROOT / ".cache" / "mutants"
_UNMUTATED_LIMIT_S = 1800.0
_TIMES = 10
"""How many times as long as unmutated a mutant may take: other work slows a machine by less."""
_MOST_FILE_BYTES = 1 << 30


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one mutant."""

    mutant: Mutant
    """The mutant."""
    of: str
    """Hash of the mutant, its file and the tests that were run: what the outcome holds for."""
    outcome: str
    """``killed`` or ``timeout`` (killed too) by its nearest tests; ``killed beside`` by all of its
    folder, which are run against what survived the nearest; ``survived``; or ``failed``: not run.
    """

    def to_dict(self) -> dict[str, str]:
        """Return the outcome as the results hold it."""
        return {"mutant": self.mutant.name, "outcome": self.outcome, "of": self.of}


def measure(
    config: Config,
    chosen: Sequence[Mutant],
    jobs: int,
    session: Path,
    *,
    limit_s: float = math.inf,
) -> list[Outcome]:
    """Run mutants, those that the session has not run yet, and return their outcomes.

    Args:
        config: what is drawn and how it is run.
        chosen: the mutants.
        jobs: processes at once.
        session: the file that keeps what was run.
        limit_s: time after which no further mutant is begun; those have no outcome then, nor has
            one that survived its nearest tests and did not meet the others of its folder.
    """
    session.parent.mkdir(parents=True, exist_ok=True)
    end_s = time.monotonic() + limit_s
    nearest = {mutant: nearest_tests(mutant.file, config) for mutant in chosen}
    found = _measure(config, nearest, jobs, session, end_s)
    alive = [mutant for mutant, outcome in found.items() if outcome.outcome == "survived"]
    places = {mutant: _wider(mutant, config) for mutant in alive}
    wider = _measure(config, places, jobs, session, end_s)
    beside = {
        mutant: replace(outcome, outcome="killed beside")
        if outcome.outcome in {"killed", "timeout"}
        else outcome
        for mutant, outcome in wider.items()
    }
    found = {mutant: outcome for mutant, outcome in found.items() if mutant not in places} | beside
    return [found[mutant] for mutant in chosen if mutant in found]


def outcomes_of(
    document: Mapping[str, object], chosen: Sequence[Mutant], config: Config, root: Path = ROOT
) -> dict[Mutant, Outcome]:
    """Return the outcomes in committed results that still hold.

    They are those whose mutant is among the chosen, and whose file and tests are what they were.
    """
    known: list[dict[str, str]] = list(document["outcomes"])  # pyright: ignore[reportCallIssue, reportArgumentType] (as ``document_of`` writes them)
    by_hash = {entry["of"]: entry["outcome"] for entry in known}
    found: dict[Mutant, Outcome] = {}
    for mutant in chosen:
        for tests, wanted in (
            (nearest_tests(mutant.file, config, root), ("killed", "timeout")),
            (_wider(mutant, config, root), ("killed beside", "survived")),
        ):
            of = job_id(mutant, tests, root)
            if by_hash.get(of) in wanted:
                found[mutant] = Outcome(mutant=mutant, of=of, outcome=by_hash[of])
    return found


def _wider(mutant: Mutant, config: Config, root: Path = ROOT) -> tuple[str, ...]:
    """Return the nearest tests of a mutant and those of its folder, each once."""
    nearest = nearest_tests(mutant.file, config, root)
    return tuple(dict.fromkeys((*nearest, *folder_tests(mutant.file, root))))


def _measure(
    config: Config, tests: dict[Mutant, tuple[str, ...]], jobs: int, session: Path, end_s: float
) -> dict[Mutant, Outcome]:
    """Run tests against each mutant, unless the session has done so; return what is known then."""
    ids = {mutant: job_id(mutant, tests[mutant]) for mutant in tests}
    with use_db(str(session), WorkDB.Mode.create) as db:
        known = {item.job_id for item in db.work_items}
        db.add_work_items(
            WorkItem.single(ids[mutant], _spec(mutant))
            for mutant in tests
            if ids[mutant] not in known
        )
        done = {job for job, _ in db.results}
        waiting = [mutant for mutant in tests if ids[mutant] not in done]
        for number, (mutant, result) in enumerate(_run(config, waiting, tests, jobs, end_s), 1):
            db.set_result(ids[mutant], result)
            print(f"{number}/{len(waiting)} {_outcome(result)} {mutant.name}", file=sys.stderr)
        results = {str(job): result for job, result in db.results}
    return {
        mutant: Outcome(mutant=mutant, of=of, outcome=_outcome(results[of]))
        for mutant, of in ids.items()
        if of in results
    }


def _run(
    config: Config,
    waiting: Sequence[Mutant],
    tests: dict[Mutant, tuple[str, ...]],
    jobs: int,
    end_s: float,
) -> Iterator[tuple[Mutant, WorkResult]]:
    """Yield each mutant with its result, as they come; begin none after a time."""
    for mutant in waiting:
        if not tests[mutant]:
            survived = WorkResult(WorkerOutcome.NO_TEST, "no test", TestOutcome.SURVIVED)
            yield mutant, survived
    runs = [mutant for mutant in waiting if tests[mutant]]
    if not runs:
        return
    with (
        _copies(jobs) as copies,
        ProcessPoolExecutor(
            max_workers=jobs,
            mp_context=get_context("spawn"),
            initializer=_enter_copy,
            initargs=(copies,),
        ) as pool,
    ):
        unmutated = _unmutated(sorted({name for mutant in runs for name in tests[mutant]}), pool)
        futures = {
            pool.submit(
                _test, mutant, tests[mutant], _total(tests[mutant], unmutated), config
            ): mutant
            for mutant in runs
        }
        waits = set(futures)
        while waits:
            if time.monotonic() >= end_s:
                waits = {future for future in waits if not future.cancel()}
            done, waits = wait(waits, return_when=FIRST_COMPLETED)
            for future in done:
                yield futures[future], future.result()


@contextmanager
def _copies(count: int) -> Generator[str]:
    """Make copies of the tree, as it is in the working directory, for the length of a block."""
    for old in SESSIONS.glob("trees-*"):  # of a run that was killed
        if not Path("/proc", old.name.removeprefix("trees-")).exists():
            shutil.rmtree(old, ignore_errors=True)
    place = SESSIONS / f"trees-{os.getpid()}"
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.split("\0")  # fmt: skip
    try:
        for number in range(count):
            _temporary(f"free-{number}", os.getpid()).mkdir()
            for name in filter(None, listed):
                target = place / f"free-{number}" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(ROOT / name):
                    shutil.copy2(ROOT / name, target, follow_symlinks=False)
        yield str(place)
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for number in range(count):
            shutil.rmtree(_temporary(f"free-{number}", os.getpid()), ignore_errors=True)


def _temporary(copy: str, process: int) -> Path:
    """Return where the tests of a copy leave files: a short path, which sockets in it need."""
    return Path(tempfile.gettempdir()) / f"mutants-{process}-{copy.rpartition('-')[2]}"


def _enter_copy(copies: str) -> None:
    """Take a copy that no other process has, and make it the place where tests run."""
    for free in sorted(Path(copies).glob("free-*")):
        mine = free.with_name(free.name.replace("free", "taken"))
        try:
            free.rename(mine)
        except FileNotFoundError:
            continue
        os.chdir(mine)
        # as the Makefile sets them: a room at the root must not hide a package of its name
        os.environ |= {
            "PYTHONPATH": str(mine / "src"),
            "PYTHONSAFEPATH": "1",
            "OMP_WAIT_POLICY": "passive",
            # checking every call's types makes simulated disks slower: `make test` does that
            "ISOGLOSS_UNCHECKED": "1",
            # what tests leave goes with the copy
            "PYTEST_DEBUG_TEMPROOT": str(_temporary(free.name, os.getppid())),
        }
        # a changed loop may write without end
        resource.setrlimit(resource.RLIMIT_FSIZE, (_MOST_FILE_BYTES, _MOST_FILE_BYTES))
        subprocess.run([sys.executable, "-m", "compileall", "-q", "src", "tests"], check=False)
        # as PYTHONPATH does in a process that is started
        sys.path.insert(0, str(mine / "src"))
        import_libraries()
        return
    raise RuntimeError(f"no free copy in {copies}: fewer were made than processes")


def _unmutated(names: Sequence[str], pool: ProcessPoolExecutor) -> dict[str, float | None]:
    """Return the seconds of each test file on the product as it is; None where it fails.

    They are kept beside the session until the test file or the product changes.
    """
    kept = SESSIONS / "unmutated.json"
    known: dict[str, float] = json.loads(kept.read_text()) if kept.exists() else {}
    product = hash_of_files(sources())
    keys = {name: f"{name} {hash_of_files([ROOT / name])} {product}" for name in names}
    found: dict[str, float | None] = {name: known.get(keys[name]) for name in names}
    missing = [name for name in names if found[name] is None]
    for number, (name, seconds) in enumerate(
        zip(missing, pool.map(_unmutated_s, missing), strict=True), 1
    ):
        print(f"{number}/{len(missing)} unmutated {name}: {seconds}", file=sys.stderr)
        found[name] = seconds
        if seconds is not None:
            known[keys[name]] = seconds
            kept.write_text(json.dumps(known))
    return found


def _unmutated_s(name: str) -> float | None:
    """Return the seconds of one test file on the product as it is; None where it fails."""
    began = time.monotonic()
    outcome, output = run_warm((name,), _UNMUTATED_LIMIT_S)
    if outcome is not TestOutcome.SURVIVED:
        print(f"{name} fails without a mutant:\n{output[-3000:]}", file=sys.stderr)
        return None
    return time.monotonic() - began


def _total(tests: Sequence[str], unmutated: dict[str, float | None]) -> float | None:
    """Return the seconds of several test files; None where one of them fails."""
    total = 0.0
    for name in tests:
        seconds = unmutated[name]
        if seconds is None:
            return None
        total += seconds
    return total


def _test(
    mutant: Mutant, tests: tuple[str, ...], unmutated_s: float | None, config: Config
) -> WorkResult:
    """Run tests against a mutant, in this process's copy of the tree."""
    if unmutated_s is None:
        return WorkResult(WorkerOutcome.ABNORMAL, "the tests fail without a mutant")
    limit_s = _TIMES * unmutated_s + config.grace_s
    operator = get_operator(mutant.operator)()
    with use_mutation(Path(mutant.file), operator, mutant.occurrence) as (_, mutated):
        if mutated is None:
            return WorkResult(WorkerOutcome.NO_TEST, "no such place")
        outcome, output = run_warm(tests, limit_s)
    return WorkResult(WorkerOutcome.NORMAL, output, outcome)


def _spec(mutant: Mutant) -> MutationSpec:
    return MutationSpec(
        module_path=Path(mutant.file),
        operator_name=mutant.operator,
        occurrence=mutant.occurrence,
        start_pos=mutant.start,
        end_pos=mutant.end,
    )


def job_id(mutant: Mutant, tests: Sequence[str], root: Path = ROOT) -> str:
    """Return one hash of a mutant, its file and the tests that are run against it."""
    files = hash_of_files([root / name for name in (mutant.file, *tests)], root)
    return hashlib.sha256(f"{mutant.name} {files}".encode()).hexdigest()[:32]


def _outcome(result: WorkResult) -> str:
    if result.test_outcome is TestOutcome.KILLED:
        return "timeout" if result.output == "timeout" else "killed"
    return "survived" if result.test_outcome is TestOutcome.SURVIVED else "failed"


def document_of(outcomes: Sequence[Outcome], left_out: int) -> dict[str, object]:
    """Return what is committed of a run.

    Args:
        outcomes: of all mutants, in the order drawn.
        left_out: how many of those drawn were excluded.
    """
    counts = Counter(outcome.outcome for outcome in outcomes)
    listed = [outcome.to_dict() for outcome in outcomes]
    return {
        "result": hash_of_outcomes(listed),
        "left_out": left_out,
        "counts": dict(sorted(counts.items())),
        "outcomes": listed,
    }


def hash_of_outcomes(outcomes: object) -> str:
    """Return one hash of what became of each mutant."""
    return hashlib.sha256(json.dumps(outcomes, sort_keys=True).encode()).hexdigest()


def main() -> int:
    """Run the lane and write its results; 0 where every mutant was run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draw", default=HOUSE, help="of which rooms: a name in the config")
    parser.add_argument("--count", type=int, help="how many, instead of what the config says")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    parser.add_argument("--results", type=Path, help="where the outcomes go, if elsewhere")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin none after so long")
    parser.add_argument("--under", default="", help="only mutants of files below this folder")
    given = parser.parse_args()
    config = load_config(draw=given.draw)
    config = replace(config, count=given.count or config.count)
    results: Path = given.results or config.results
    tree = hash_of_files(mutated_files(config))
    chosen, left_out = drawn(config)
    chosen = [mutant for mutant in chosen if mutant.file.startswith(given.under)]
    kept: dict[Mutant, Outcome] = {}
    if results.exists():
        kept = outcomes_of(json.loads(results.read_text("utf-8")), chosen, config)
    waiting = [mutant for mutant in chosen if mutant not in kept]
    print(f"{len(kept)} outcomes still hold, {len(waiting)} mutants to run", file=sys.stderr)
    session, limit_s = SESSIONS / "session.sqlite", 60 * given.minutes
    new = measure(config, waiting, given.jobs, session, limit_s=limit_s)
    found = kept | {outcome.mutant: outcome for outcome in new}
    outcomes = [found[mutant] for mutant in chosen if mutant in found]
    document = document_of(outcomes, len(left_out))
    if hash_of_files(mutated_files(config)) != tree:
        print("the code was changed while mutants of it were run: run again", file=sys.stderr)
        return 1
    if not given.under:
        results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for outcome in outcomes:
        if outcome.outcome in {"survived", "failed"}:
            print(outcome.outcome, outcome.mutant.name)
    missing = len(chosen) - len(outcomes)
    print(document["counts"], f"excluded {len(left_out)}, not run {missing}")
    return 1 if missing or any(outcome.outcome == "failed" for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
