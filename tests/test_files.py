"""Every file has its place: small folders, maps, tests that mirror them, one name a type."""

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("kernels", "store", "models", "dictionaries", "universality", "service", "proto")
FOLDERS_BESIDE = ("benchmarks", "examples", "tests")
MOST_FILES = 15

WHOLE_ROOM = {
    "tests/dictionaries": {"test_resume", "test_toy_kind"},
    "tests/dictionaries/kinds": {"test_lazy_adam"},
    "tests/dictionaries/training": {"test_resume", "test_together"},
    "tests/kernels": {"test_crosscoder", "test_lazy_step", "test_on_device", "test_public"},
    "tests/kernels/gpu": {"test_far_offsets"},
    "tests/models": {"test_public"},
    "tests/service/cli": {"test_errors"},
    "tests/service/client": {"test_dictionary_calls", "test_thin"},
    "tests/service/faults": {"test_faults"},
    "tests/service/jobs": {"test_toy_kind"},
    "tests/service/processes": {
        "test_draining", "test_garbage_beside_calls", "test_long_errors",
    },
    "tests/service/recording": {"test_direct_recording", "test_ranks"},
    "tests/service/server": {"test_fair_streams"},
    "tests/service/tasks": {"test_tasks"},
    "tests/service/transport": {"test_restarts"},
    "tests/service": {
        "test_absurd_settings", "test_broken_files", "test_contracts", "test_every_argument",
        "test_every_call", "test_full_disk", "test_job_ranks", "test_leftovers",
        "test_many_dictionaries", "test_other_stores", "test_path", "test_serving",
        "test_toy_kind_served",
    },
    "tests/store": {
        "test_contracts", "test_faults", "test_format", "test_kill", "test_machine",
        "test_measures", "test_mutants", "test_power_loss", "test_public_names", "test_readme",
    },
    "tests/universality": {"test_facade", "test_readmes"},
    "tests/store/recordings": {"test_deleting", "test_lost_lanes"},
    "tests/store/fenced": {"test_fenced_disks", "test_joining_owners"},
}  # fmt: skip
"""Tests of a whole room or folder, which no file of the product has the name of."""


def is_generated(path: Path) -> bool:
    return "_pb2" in path.name or "google" in path.parts or path.parts[-3:-1] == ("proto", "v1")


def sources() -> list[Path]:
    """The hand-written Python files of the product."""
    return [
        path
        for room in ROOMS
        for path in sorted((ROOT / room).rglob("*.py"))
        if not is_generated(path)
    ]


def folders() -> list[Path]:
    """The rooms and the folders within them that hold Python files."""
    return sorted({path.parent for path in sources()})


def test_at_most_fifteen_files_stand_side_by_side() -> None:
    counts = Counter(
        path.parent.relative_to(ROOT).as_posix() for path in sources() if path.stem != "__init__"
    )
    assert {name: count for name, count in counts.items() if count > MOST_FILES} == {}


def test_every_room_and_folder_has_a_map_that_names_each_of_its_files() -> None:
    missing: list[str] = []
    for folder in folders():
        name = folder.relative_to(ROOT).as_posix()
        if not (folder / "README.md").exists():
            missing.append(f"{name}: no README.md")
            continue
        text = (folder / "README.md").read_text()
        files = [path.name for path in sorted(folder.glob("*.py")) if path.stem != "__init__"]
        inside = [f"{path.name}/" for path in folders() if path.parent == folder]
        missing += [f"{name}/README.md: {part}" for part in [*files, *inside] if part not in text]
    assert missing == []


@pytest.mark.parametrize("name", FOLDERS_BESIDE)
def test_the_folders_beside_the_rooms_have_maps_of_their_scripts(name: str) -> None:
    folder = ROOT / name
    text = (folder / "README.md").read_text()
    inside = [*folder.glob("*.py"), *(path.parent for path in folder.glob("*/*.py"))]
    parts = {path.name if path.suffix else f"{path.name}/" for path in inside}
    assert sorted(part for part in parts if part not in text) == []


def test_tests_stand_where_the_file_they_test_stands() -> None:
    strangers: list[str] = []
    for path in sorted((ROOT / "tests").glob("*/**/test_*.py")):
        folder = path.parent.relative_to(ROOT).as_posix()
        beside = ROOT / path.parent.relative_to(ROOT / "tests")
        tested = path.name.removeprefix("test_")
        # an operation of the kernels has one name in its front, on the CPU and on a device
        is_there = (
            any(beside.rglob(tested)) if beside.name == "kernels" else (beside / tested).exists()
        )
        if not is_there and path.stem not in WHOLE_ROOM.get(folder, set()):
            strangers.append(
                f"{path.relative_to(ROOT)}: there is no {beside.relative_to(ROOT)}/{tested}"
            )
    assert strangers == []


def test_every_file_has_the_test_of_its_name_or_a_listed_one() -> None:
    listed = listed_tests()
    missing: list[str] = []
    for path in sources():
        name = path.relative_to(ROOT).as_posix()
        if has_logic(path) and not own_tests(path) and not any(map(name.startswith, listed)):
            missing.append(name)
    assert missing == []


def test_what_is_tested_elsewhere_is_listed_once_with_tests_that_exist() -> None:
    for name, tests in listed_tests().items():
        assert (ROOT / name).exists(), f"{name} is listed and does not exist"
        assert not (ROOT / name).is_file() or not own_tests(ROOT / name), f"{name} has its own test"
        for test in tests:
            assert (ROOT / test).exists(), f"{test}, listed for {name}, does not exist"


def listed_tests() -> dict[str, list[str]]:
    """Files and folders that other tests than those of their name test, with a reason each."""
    settings = tomllib.loads((ROOT / "benchmarks" / "mutants.toml").read_text())
    assert all(entry["reason"] for entry in settings.get("nearest", []))
    return {
        name: entry["tests"] for entry in settings.get("nearest", []) for name in entry["files"]
    }


def own_tests(path: Path) -> list[Path]:
    """The tests of a file's name; in kernels, of an operation's name."""
    room, *between = path.relative_to(ROOT).parts[:-1]
    places = [between, []] if room == "kernels" else [between]
    tests = [ROOT.joinpath("tests", room, *below, f"test_{path.name}") for below in places]
    return [test for test in tests if test.exists()]


def has_logic(path: Path) -> bool:
    """Whether a file does something: not a facade, not values alone, not a tool for tests."""
    if path.name == "__init__.py" or "testing" in path.parts or path.stem.startswith("testing"):
        return False
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and len(statements(node)) > 1
        for node in ast.walk(ast.parse(path.read_text()))
    )


def statements(function: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
    """The statements of a function, less its docstring and ``...``."""
    return [
        node
        for node in function.body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]


def test_no_two_types_of_the_product_have_one_name() -> None:
    owners: dict[str, list[str]] = defaultdict(list)
    for path in sources():
        for name in types_of(ast.parse(path.read_text())):
            owners[name].append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in owners.items() if len(paths) > 1} == {}


def types_of(tree: ast.Module) -> Iterator[str]:
    """Yield the public classes and type aliases that a module defines."""
    for node in tree.body:
        match node:
            case ast.ClassDef(name=name):
                pass
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
                pass
            # Name = Callable[...], Name = A | B; not a TypeVar, which each module has of its own
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp()) if (
                re.match(r"[A-Z][a-z]", name)
            ):
                pass
            case _:
                continue
        if not name.startswith("_"):
            yield name


CLOCKS = {"monotonic", "perf_counter", "time", "monotonic_ns", "perf_counter_ns", "time_ns"}
SHORTEST_WAIT_S = 60
"""A test that waits gives up after so long at the soonest: it must pass on a busy machine."""


def test_no_test_has_an_upper_bound_on_the_wall_clock() -> None:
    found: list[str] = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path != Path(__file__):
            tree = ast.parse(path.read_text())
            found += [f"{path.relative_to(ROOT)}:{line}" for line in bounded_waits(tree)]
    assert found == []


def test_upper_bounds_on_the_wall_clock_are_found_in_every_form() -> None:
    bounded = [
        "start = time.monotonic()\nassert time.monotonic() - start < 5",
        "start = perf_counter()\nassert 0.2 < perf_counter() - start < 5",
        "start = time.time()\nassert 5 > time.time() - start",
        "start = time.time()\ntook = time.time() - start\nassert took <= 5",
        "end = time.monotonic() + 5\nwhile busy():\n    assert time.monotonic() < end",
        "assert ended.wait(5)",
        "assert process.wait(30) == 0",
    ]
    allowed = [
        "start = time.monotonic()\nassert time.monotonic() - start > 5",
        "end = time.monotonic() + 60\nwhile busy():\n    assert time.monotonic() < end",
        "assert not ended.wait(0.1)",
        "assert process.wait(60) == 0",
        "before = os.times()\nassert os.times().user - before.user < 5",
    ]
    for code in bounded:
        assert list(bounded_waits(ast.parse(code.replace("\\\n", "\n")))), code
    for code in allowed:
        assert not list(bounded_waits(ast.parse(code.replace("\\\n", "\n")))), code


def bounded_waits(tree: ast.Module) -> Iterator[int]:
    """Yield the lines that ask a difference of clock times, or a short wait, to be in time."""
    spans = {
        target.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and is_span(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            compares = [part for part in ast.walk(node.test) if isinstance(part, ast.Compare)]
            yield from (compare.lineno for compare in compares if is_bound(compare, spans))
            yield from short_waits(node.test)
        match node:
            case ast.Assign(
                value=ast.BinOp(left=left, op=ast.Add(), right=ast.Constant(value=wait))
            ):
                if reads_clock(left) and isinstance(wait, int | float) and wait < SHORTEST_WAIT_S:
                    yield node.lineno
            case _:
                pass


def short_waits(wanted: ast.expr) -> Iterator[int]:
    """Yield where an assertion wants something to have happened after a wait that is short.

    ``not ended.wait(0.1)`` wants that nothing happens, and holds on a busy machine too.
    """
    if isinstance(wanted, ast.UnaryOp) and isinstance(wanted.op, ast.Not):
        return
    for node in ast.walk(wanted):
        match node:
            case ast.Call(func=ast.Attribute(attr="wait"), args=[ast.Constant(value=seconds)]):
                if isinstance(seconds, int | float) and seconds < SHORTEST_WAIT_S:
                    yield node.lineno
            case _:
                pass


def is_bound(node: ast.Compare, spans: set[str]) -> bool:
    """Whether a comparison wants a span of the clock to be less than something."""
    sides = [node.left, *node.comparators]
    return any(
        (isinstance(op, ast.Lt | ast.LtE) and is_span(left, spans))
        or (isinstance(op, ast.Gt | ast.GtE) and is_span(right, spans))
        for op, left, right in zip(node.ops, sides[:-1], sides[1:], strict=True)
    )


def is_span(node: ast.expr, spans: set[str]) -> bool:
    """Whether an expression is a difference of two times of the clock."""
    if isinstance(node, ast.Name):
        return node.id in spans
    match node:
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return reads_clock(left) or reads_clock(right)
        case _:
            return False


def reads_clock(node: ast.AST) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time"), attr=name) | ast.Name(id=name)):
            return name in CLOCKS
        case _:
            return False
