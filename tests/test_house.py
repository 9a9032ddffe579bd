"""What ``benchmarks/house.py`` counts, on small made-up trees, and which mutants are drawn."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import grimp
import pytest
from house_figures import counted, docstrings, kept_mutants
from house_figures.figure import Figure
from house_figures.mutants import (
    Config,
    Excluded,
    Mutant,
    drawn,
    folder_tests,
    load_config,
    mutants_of,
    nearest_tests,
)
from house_figures.mutate import Outcome, document_of, hash_of_outcomes, job_id, outcomes_of
from house_figures.sources import ROOMS

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"

CODE = '''
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from a import b
Both: TypeAlias = int | None


@wrapped(frozen=True)
def f(x: int | None = 3, *, y: int = x * 2) -> int | None:
    """One + two."""
    try:
        while x < 5 and True:
            break
    except ValueError:
        return -1
    return [*{**x}]
'''


def write(root: Path, files: dict[str, str]) -> Path:
    """Make a tree of rooms with some files."""
    for room in ROOMS:
        (root / room).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_fullest_folder_is_counted_without_facades_and_generated_code(tmp_path: Path) -> None:
    files = {f"store/lanes/f{number}.py": "" for number in range(4)}
    files |= {f"store/f{number}.py": "" for number in range(3)}
    files |= {"store/lanes/__init__.py": "", "store/lanes/README.md": ""}
    files |= {f"proto/v1/f{number}_pb2.py": "" for number in range(9)}
    figure = counted.files_per_folder(write(tmp_path, files))
    assert figure.value == 4
    assert figure.peers == {"store/lanes": 4, "store": 3}


def graph_of(imports: dict[str, list[str]]) -> grimp.ImportGraph:
    graph = grimp.ImportGraph()
    for importer, many in imports.items():
        for imported in many:
            for module in (importer, imported):
                parts = module.split(".")
                for end in range(1, len(parts) + 1):
                    graph.add_module(".".join(parts[:end]))
            graph.add_import(importer=importer, imported=imported)
    return graph


def test_circles_are_found_between_files_and_between_folders() -> None:
    line = {"r.a.x": ["r.a.y"], "r.a.y": ["r.b.z"], "r.b.z": ["r.c"]}
    assert counted.import_circles(graph_of(line)).value == 0
    files = counted.import_circles(graph_of(line | {"r.a.y": ["r.a.x"]}))
    assert files.peers == {"in r.a": "r.a.x <-> r.a.y"}
    # no file is in a circle here, but the folders need each other
    folders = counted.import_circles(graph_of(line | {"r.c": ["r.a.w"]}))
    assert folders.peers == {"in r": "r.a <-> r.b <-> r.c"}


def test_a_file_names_a_kind_by_its_string_its_module_or_its_class(tmp_path: Path) -> None:
    table = 'KINDS = Registry(built_in={"topk": "isogloss.dictionaries.kinds.topk:TopK"})'
    root = write(
        tmp_path,
        {
            "dictionaries/kinds/table.py": table,
            "dictionaries/kinds/topk.py": "class TopK: ...",
            "dictionaries/training.py": '"""Trains a topk dictionary."""',
            "kernels/encode.py": "def encode_topk(x): return x.topk(3)\nclass TopKLoss: ...",
            "kernels/topk.py": "",
            "kernels/__init__.py": '__all__ = ["topk"]',
            "service/calls.py": 'kind = "topk"',
            "service/tasks.py": "from isogloss.dictionaries.kinds.topk import TopK",
            "store/a.py": 'name = "topk of a row"',
        },
    )
    figure = counted.files_per_kind(root)
    assert figure.value == 2
    assert figure.peers["files"] == ["service/calls.py", "service/tasks.py"]
    assert figure.peers["in docstrings or comments"] == ["store/a.py", "dictionaries/training.py"]


def test_without_a_call_or_a_table_of_kinds_nothing_holds(tmp_path: Path) -> None:
    root = write(tmp_path, {"store/a.py": ""})
    assert not counted.files_per_call(root).holds
    assert not counted.files_per_kind(root).holds
    (root / "store" / "a.py").write_text("def server_info(): ...")
    (root / "proto" / "v1").mkdir()
    (root / "proto" / "v1" / "a.py").write_text("class ServerInfo: ...")
    assert counted.files_per_call(root).value == 1
    assert counted.files_per_call(root).holds


def test_imports_in_functions_are_counted_less_facades_and_the_command_line(tmp_path: Path) -> None:
    hidden = "class A:\n  def f(self):\n    import a\n    def g():\n      from b import c"
    facade = "def __getattr__(name):\n    import a"
    root = write(
        tmp_path,
        {"store/a.py": f"import x\n{hidden}", "store/b.py": facade, "service/cli/main.py": hidden},
    )
    assert counted.hidden_imports(root).value == 2


def test_a_figure_that_was_not_measured_or_did_not_check_out_does_not_hold() -> None:
    figure = Figure(figure="f", value=1.0, bar=1.0, unit="u")
    assert figure.holds
    assert not replace(figure, value=1.1).holds
    assert replace(figure, value=1.1, at_most=False).holds
    assert not replace(figure, value=None).holds
    assert not replace(figure, is_doubtful=True).holds
    assert replace(figure, value=0.123456).to_dict()["value"] == 0.1235


@pytest.fixture
def config() -> Config:
    return replace(load_config(), count=3, nearest={}, excluded=(), not_mutated=())


def test_mutants_are_made_of_what_runs_and_of_nothing_else(tmp_path: Path, config: Config) -> None:
    root = write(tmp_path, {"store/a.py": CODE})
    found = {
        (mutant.start[0], mutant.operator.split("/")[1])
        for mutant in mutants_of(root / "store" / "a.py", config, root)
    }
    assert found == {
        (10, "NumberReplacer"),
        (10, "ReplaceBinaryOperator_Mul_Add"),
        (13, "ReplaceComparisonOperator_Lt_LtE"),
        (13, "ReplaceComparisonOperator_Lt_GtE"),
        (13, "NumberReplacer"),
        (13, "AddNot"),
        (13, "ReplaceAndWithOr"),
        (13, "ReplaceTrueWithFalse"),
        (14, "ReplaceBreakWithContinue"),
        (15, "ExceptionReplacer"),
        (16, "ReturnNothing"),
        (16, "NumberReplacer"),
        (16, "ReplaceUnaryOperator_Delete_USub"),
        (17, "ReturnNothing"),
    }


def test_the_tree_alone_draws_the_mutants(tmp_path: Path, config: Config) -> None:
    root = write(tmp_path, {"store/a.py": CODE, "service/b.py": CODE, "kernels/c.py": CODE})
    chosen, _ = drawn(config, root)
    assert drawn(config, root)[0] == chosen
    assert len(chosen) == 3
    places = {(mutant.file, mutant.start, mutant.group) for mutant in drawn(config, root)[0]}
    assert len(places) == 3
    everything, _ = drawn(replace(config, count=1000), root)
    assert {mutant.file for mutant in everything} == {"store/a.py", "service/b.py"}
    assert everything[:3] == chosen


def test_a_draw_has_its_own_rooms_places_and_results(tmp_path: Path) -> None:
    root = write(tmp_path, {"store/a.py": CODE, "universality/b.py": CODE})
    house, other = load_config(), load_config(draw="universality")
    assert (house.results.name, other.results.name) == (
        "mutants.json",
        "mutants_universality.json",
    )
    assert {mutant.file for mutant in drawn(house, root)[0]} == {"store/a.py"}
    assert {mutant.file for mutant in drawn(other, root)[0]} == {"universality/b.py"}
    assert set(kept_mutants.LEAST) == {house.draw, other.draw}
    assert all(kept_mutants.LEAST[one.draw] <= one.count for one in (house, other))


def test_a_change_of_one_file_draws_its_own_places_anew_and_no_others(
    tmp_path: Path, config: Config
) -> None:
    root = write(tmp_path, {"store/a.py": CODE, "service/b.py": CODE})

    def mutants_drawn(file: str) -> list[Mutant]:
        everything, _ = drawn(replace(config, count=1000), root)
        return [mutant for mutant in everything if mutant.file == file]

    before = {file: mutants_drawn(file) for file in ("store/a.py", "service/b.py")}
    (root / "store" / "a.py").write_text(CODE + "# changed\n")
    assert mutants_drawn("store/a.py") != before["store/a.py"]
    assert mutants_drawn("service/b.py") == before["service/b.py"]


def test_an_excluded_place_is_replaced_by_the_next(tmp_path: Path, config: Config) -> None:
    root = write(tmp_path, {"store/a.py": CODE})
    everything, _ = drawn(replace(config, count=1000), root)
    first = everything[0]
    line = CODE.splitlines()[first.start[0] - 1].strip()
    reason = Excluded(file=first.file, code=line, group=first.group, reason="as an example")
    chosen, left_out = drawn(replace(config, excluded=(reason,)), root)
    assert first in left_out
    assert first not in chosen
    assert len(chosen) == 3


def test_the_nearest_tests_are_those_of_the_name_then_the_listed_then_the_folder(
    tmp_path: Path, config: Config
) -> None:
    root = write(tmp_path, {f"tests/store/lanes/test_{name}.py": "" for name in ("a", "b")})
    beside = ("tests/store/lanes/test_a.py", "tests/store/lanes/test_b.py")
    listed = replace(config, nearest={"store/lanes/": ["one.py"], "store/lanes/d.py": ["two.py"]})
    assert nearest_tests("store/lanes/a.py", listed, root) == beside[:1]
    assert nearest_tests("store/lanes/c.py", config, root) == beside
    assert nearest_tests("store/lanes/c.py", listed, root) == ("one.py",)
    assert nearest_tests("store/lanes/d.py", listed, root) == ("two.py",)
    assert nearest_tests("store/disk/a.py", config, root) == ()


def test_the_result_of_a_run_is_bound_to_what_came_of_each_mutant(
    tmp_path: Path, config: Config
) -> None:
    root = write(tmp_path, {"store/a.py": CODE})
    chosen, _ = drawn(config, root)
    outcomes = [Outcome(mutant=mutant, of="0", outcome="killed") for mutant in chosen]
    document = document_of(outcomes, 0)
    assert document["counts"] == {"killed": 3}
    assert document["result"] == hash_of_outcomes(document["outcomes"])
    changed = [outcomes[0], outcomes[1], replace(outcomes[2], outcome="survived")]
    assert document_of(changed, 0)["result"] != document["result"]
    other = [replace(outcomes[0], of="1"), *outcomes[1:]]
    assert document_of(other, 0)["result"] != document["result"]


def test_an_outcome_holds_until_its_file_or_the_tests_it_met_change(
    tmp_path: Path, config: Config
) -> None:
    tests = {f"tests/store/x/test_{name}.py": "" for name in ("a", "b", "beside")}
    root = write(tmp_path, {"store/x/a.py": CODE, "store/x/b.py": CODE, **tests})
    chosen, _ = drawn(replace(config, count=1000), root)
    by_nearest = next(mutant for mutant in chosen if mutant.file == "store/x/a.py")
    by_folder = next(mutant for mutant in chosen if mutant.file == "store/x/b.py")
    folder = tuple(f"tests/store/x/test_{name}.py" for name in ("b", "a", "beside"))
    met = {by_nearest: ("tests/store/x/test_a.py",), by_folder: folder}
    came = {by_nearest: "killed", by_folder: "survived"}
    document = document_of(
        [
            Outcome(mutant=mutant, of=job_id(mutant, met[mutant], root), outcome=came[mutant])
            for mutant in met
        ],
        0,
    )

    def holding() -> set[Mutant]:
        return set(outcomes_of(document, drawn(replace(config, count=1000), root)[0], config, root))

    assert holding() == {by_nearest, by_folder}
    (root / "tests/store/x/test_beside.py").write_text("# changed\n")
    assert holding() == {by_nearest}
    (root / "tests/store/x/test_beside.py").write_text("")
    (root / "tests/store/x/test_a.py").write_text("# changed\n")
    assert holding() == set()
    (root / "tests/store/x/test_a.py").write_text("")
    (root / "store/x/a.py").write_text(CODE + "# changed\n")
    assert holding() == {by_folder}


WARM = """
import sys
from cosmic_ray.work_item import TestOutcome
from house_figures.warm_tests import run_warm

for name, limit_s in (("test_passes", 600.0), ("test_fails", 600.0), ("test_never_ends", 5.0)):
    outcome, said = run_warm([f"{name}.py"], limit_s)
    print(name, outcome.value, "timeout" if said == "timeout" else "1 passed" in said)
print("here" if "thing" not in sys.modules else "imported")
"""


def test_tests_run_in_forks_that_end_by_themselves_or_are_ended(tmp_path: Path) -> None:
    (tmp_path / "thing.py").write_text("VALUE = 1\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
    for name, line in (
        ("passes", "import thing; assert thing.VALUE == 1"),
        ("fails", "import thing; assert thing.VALUE == 2"),
        ("never_ends", "import time; time.sleep(1e6)"),
    ):
        (tmp_path / f"test_{name}.py").write_text(f"def test() -> None:\n    {line}\n")
    done = subprocess.run(
        [sys.executable, "-c", WARM],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [
        "test_passes survived True",
        "test_fails killed False",
        "test_never_ends killed timeout",
        "here",
    ]
    assert not list(tmp_path.rglob("*.pyc")), "a changed file could be taken for the one before it"


LEAVING = """
import subprocess, sys
from pathlib import Path

SLEEP = (sys.executable, "-c", "import time; time.sleep(1e6)")

def test_leaves_processes() -> None:
    starts = f"import subprocess; print(subprocess.Popen({SLEEP!r}).pid)"
    started = subprocess.Popen(
        [sys.executable, "-c", starts], start_new_session=True, stdout=subprocess.PIPE
    )
    other = subprocess.Popen(SLEEP, start_new_session=True)
    Path("left").write_text(f"{int(started.stdout.readline())} {other.pid}")
"""


def test_what_tests_leave_running_in_other_sessions_is_ended(tmp_path: Path) -> None:
    (tmp_path / "test_leaves.py").write_text(LEAVING)
    (tmp_path / "pytest.ini").write_text("[pytest]\nfilterwarnings = ignore\n")
    run = (
        "from house_figures.warm_tests import run_warm; print(run_warm(['test_leaves.py'], 600.0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", run],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(BENCHMARKS)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "1 passed" in done.stdout, done.stdout
    left = (tmp_path / "left").read_text().split()
    assert len(left) == 2
    assert not [process for process in left if Path("/proc", process).exists()]


def test_a_docstring_must_list_the_arguments_and_errors_that_it_lists_any_of(
    tmp_path: Path,
) -> None:
    code = '''
def f(a: int, b: int) -> int:
    """Add.

    Args:
        a: first.
    """
    return a + b


def g(a: int) -> int:
    """Halve.

    Raises:
        NotFound: what is called raises it.
    """
    if a % 2:
        raise InvalidInput(a)
    return a // 2


def h(a: int) -> int:
    """Double.

    Raises:
        NotFound: what is called raises it.
    """
    return 2 * a
'''
    (tmp_path / "a.py").write_text(code)
    found = list(docstrings.misfits([tmp_path / "a.py"]))
    assert [(misfit.line, misfit.code) for misfit in found] == [
        (2, "DOC101"), (2, "DOC103"), (11, "DOC503"),
    ]  # fmt: skip


def test_what_survives_the_nearest_tests_meets_all_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "tests" / "store" / "lanes"
    folder.mkdir(parents=True)
    for name in ("test_b.py", "test_a.py", "helper.py"):
        (folder / name).write_text("")
    wanted = ("tests/store/lanes/test_a.py", "tests/store/lanes/test_b.py")
    assert folder_tests("store/lanes/a.py", tmp_path) == wanted
    assert folder_tests("store/other/a.py", tmp_path) == ()
