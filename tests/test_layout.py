"""The frame holds: layers, light imports, a wheel of plain files, sizes, public surfaces."""

import ast
import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path
from types import FunctionType

import pytest
from beartype.roar import BeartypeCallHintParamViolation
from tests.service.serving import server_on

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("kernels", "store", "models", "dictionaries", "universality", "service", "proto")
HEAVY = ("torch", "triton", "numba", "faiss", "zarr", "grpc", "scipy", "transformers", "numpy")


def run(*command: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True
    )


def sources(*rooms: str) -> list[Path]:
    return [
        path
        for room in rooms
        for path in sorted((ROOT / room).rglob("*.py"))
        if "_pb2" not in path.name and "google" not in path.parts
    ]


def copy_of_the_tree(destination: Path) -> Path:
    tree = destination / "copy"
    shutil.copytree(ROOT / "src", tree / "src", symlinks=True)
    for room in ROOMS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / room, tree / room, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tree)
    return tree


def lint_imports(tree: Path) -> subprocess.CompletedProcess[str]:
    command = Path(sys.executable).parent / "lint-imports"
    return run(str(command), "--no-cache", cwd=tree, PYTHONPATH=str(tree / "src"))


@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a contract of import-linter says in pyproject.toml."""

    type: str
    source_modules: list[str]
    forbidden_modules: list[str]
    layers: list[str]
    containers: list[str]
    ancestors: list[str]


def contracts() -> list[Contract]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = [field.name for field in fields(Contract)]
    return [
        Contract(**{name: found.get(name, []) for name in names})
        for found in settings["tool"]["importlinter"]["contracts"]
    ]


def append_import(tree: Path, importer: str, imported: str) -> str:
    """Let a module or package of a copy import something, and return how import-linter says so."""
    path = tree / "src" / Path(*importer.split("."))
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    path.write_text(f"{path.read_text()}\nimport {imported}\n")
    return f"{importer} -> {imported}"


def plant_forbidden(tree: Path, contract: Contract) -> list[str]:
    (source,) = contract.source_modules
    return [append_import(tree, source, module) for module in contract.forbidden_modules]


def plant_upward(tree: Path, contract: Contract) -> list[str]:
    """Let each layer import the one above it; of layers side by side, the first."""
    layers = [layer.split("|")[0].strip(" ()") for layer in contract.layers]
    return [
        append_import(tree, f"{start}{below}", f"{start}{above}")
        for start in [f"{container}." for container in contract.containers] or [""]
        for above, below in pairwise(layers)
    ]


def plant_circles(tree: Path, contract: Contract) -> list[str]:
    """Let two new modules import each other, in the deepest folder of each room."""
    (ancestor, *_) = contract.ancestors
    assert ancestor == "isogloss", "circles are planted below the whole package"
    said: list[str] = []
    for room in ROOMS:
        folder = max(
            (path.parent for path in (tree / room).rglob("__init__.py")),
            key=lambda path: (len(path.relative_to(tree).parts), path.as_posix()),
        )
        package = ".".join(("isogloss", *folder.relative_to(tree).parts))
        for here, there in (("circle_a", "circle_b"), ("circle_b", "circle_a")):
            (folder / f"{here}.py").write_text(f"import {package}.{there}\n")
        said.append(f"No cycles are allowed in {package}.")
    return said


PLANTS: dict[str, Callable[[Path, Contract], list[str]]] = {
    "forbidden": plant_forbidden,
    "layers": plant_upward,
    "acyclic_siblings": plant_circles,
}


def test_imports_keep_every_contract(tmp_path: Path) -> None:
    kept = lint_imports(copy_of_the_tree(tmp_path))
    assert kept.returncode == 0, kept.stdout
    assert f"Contracts: {len(contracts())} kept, 0 broken" in kept.stdout


def test_every_contract_is_broken_by_what_it_forbids(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path)
    planted = [line for contract in contracts() for line in PLANTS[contract.type](tree, contract)]
    broken = lint_imports(tree)
    assert broken.returncode == 1
    assert f"Contracts: 0 kept, {len(contracts())} broken" in broken.stdout
    for violation in planted:
        assert violation in broken.stdout, violation


def test_every_room_with_folders_has_layers_of_its_own() -> None:
    layered = {name for contract in contracts() for name in contract.containers}
    for room in ROOMS[:-1]:
        folders = {path.parent for path in sources(room)} - {ROOT / room}
        assert len(folders) < 2 or f"isogloss.{room}" in layered, f"{room} has no layers"


def test_every_room_has_a_contract_of_its_own() -> None:
    guarded = {source for contract in contracts() for source in contract.source_modules}
    assert guarded == {f"isogloss.{room}" for room in ROOMS}


@pytest.mark.parametrize("name", ["isogloss", "isogloss.errors"])
def test_importing_the_facade_loads_nothing_heavy(name: str) -> None:
    code = f"import {name}, sys; print([m for m in {HEAVY} if m in sys.modules])"
    assert run(sys.executable, "-c", code).stdout.strip() == "[]"


def test_the_store_and_the_server_import_neither_torch_nor_faiss() -> None:
    modules = "isogloss.store, isogloss.service.processes.control, isogloss.service.ingest.ingest"
    code = f"import {modules}, sys; print([m for m in ('torch', 'faiss') if m in sys.modules])"
    done = run(sys.executable, "-c", code)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    built = run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(directory)
    )
    assert built.returncode == 0, built.stderr
    (found,) = directory.glob("*.whl")
    return found


def test_the_wheel_holds_plain_files_under_one_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entries = archive.infolist()
    assert {entry.filename.split("/")[0].split("-")[0] for entry in entries} == {"isogloss"}
    links = [
        entry.filename for entry in entries if (entry.external_attr >> 16) & 0o170000 == 0o120000
    ]
    assert links == []
    names = {entry.filename for entry in entries}
    for room in ROOMS:
        assert f"isogloss/{room}/__init__.py" in names
    assert "isogloss/py.typed" in names
    assert not [name for name in names if "test_" in name or "__pycache__" in name]


def test_the_wheel_imports_in_an_empty_environment(wheel: Path, tmp_path: Path) -> None:
    python = _environment(tmp_path / "empty", str(wheel))
    code = "import isogloss, isogloss.errors; print(isogloss.__version__, isogloss.__file__)"
    done = run(str(python), "-I", "-c", code, cwd=tmp_path)
    assert done.stdout.startswith("0.1.0 "), done.stderr
    assert str(tmp_path) in done.stdout


CLIENT = {
    *("googleapis-common-protos", "grpcio", "ml-dtypes", "numpy", "protobuf", "rich", "typer"),
    "xxhash",
}


def test_the_package_itself_needs_only_what_a_client_does() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {line.partition(">=")[0] for line in project["dependencies"]} == CLIENT
    extras = project["optional-dependencies"]
    needed = {line.partition(">=")[0] for line in extras["server"]}
    assert {"torch", "faiss-cpu", "numba", "zarr", "google-crc32c"} <= needed
    for extra in ("cloud", "models"):
        assert "isogloss[server]" in extras[extra]


@pytest.mark.slow
def test_the_wheel_in_an_environment_of_its_own_is_a_client_that_trains_and_asks(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "bare", with_pip=False)
    python = tmp_path / "bare" / "bin" / "python"
    done = run(
        *(sys.executable, "-m", "pip", "--quiet", "--python", str(python)),
        *("install", "--constraint", str(ROOT / "constraints.txt"), str(wheel)),
    )
    assert done.returncode == 0, done.stderr
    script = str(ROOT / "tests" / "service" / "thin_client.py")
    with server_on(tmp_path / "store", "--workers") as server:
        address = server.addresses[0]
        done = run(str(python), "-P", script, address, "--trains", cwd=tmp_path, PYTHONPATH="")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["heavy"] == []
    assert [what for what, is_so in found["said"].items() if not is_so] == []


@pytest.mark.slow
@pytest.mark.parametrize("ours_first", [True, False])
def test_lives_beside_packages_named_like_our_rooms(
    wheel: Path, tmp_path: Path, ours_first: bool
) -> None:
    theirs = ["kernels", "proto-plus"]
    order = [str(wheel), *theirs] if ours_first else [*theirs, str(wheel)]
    python = _environment(tmp_path / "both", *order)
    code = (
        "from importlib.util import find_spec as f;"
        "print(f('kernels').origin, f('proto').origin, f('isogloss').origin)"
    )
    kernels, proto, ours = run(str(python), "-P", "-c", code, cwd=tmp_path).stdout.split()
    assert (Path(kernels).parent / "layer").exists() or "kernels" in Path(kernels).parts
    assert (Path(proto).parent / "message.py").exists()
    assert (Path(ours).parent / "kernels" / "decode.py").exists()


def _environment(directory: Path, *packages: str) -> Path:
    venv.create(directory, with_pip=False)
    python = directory / "bin" / "python"
    for package in packages:
        done = run(
            sys.executable, "-m", "pip", "--quiet", "--python", str(python),
            "install", "--no-deps", package,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    return python


@pytest.mark.parametrize("room", ROOMS[:-1])  # proto holds generated modules, no names of its own
def test_the_public_names_of_a_room_exist_and_are_documented(room: str) -> None:
    module = importlib.import_module(f"isogloss.{room}")
    assert len(set(module.__all__)) == len(module.__all__)
    assert module.__doc__
    for name in module.__all__:
        value = getattr(module, name)
        if isinstance(value, FunctionType | type):
            assert value.__doc__, f"isogloss.{room}.{name} has no docstring"
    with pytest.raises(AttributeError):
        _ = module.no_such_name


def test_rooms_use_only_what_another_room_lists_as_public() -> None:
    """``__all__`` is complete: no room reaches for a name that its owner did not list."""
    strangers: list[str] = []
    for room in ROOMS[:-1]:
        for path in sources(room):
            for node in ast.walk(ast.parse(path.read_text())):
                module = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
                if not isinstance(node, ast.ImportFrom) or not module.startswith("isogloss."):
                    continue
                owner, _, rest = module.removeprefix("isogloss.").partition(".")
                if owner in {room, "errors", "proto", "version"} or rest in {
                    "testing",
                    "reference",
                }:
                    continue
                listed = importlib.import_module(f"isogloss.{owner}").__all__
                strangers += [
                    f"{path.relative_to(ROOT)}: {module}.{alias.name}"
                    for alias in node.names
                    if rest or alias.name not in listed
                ]
    assert strangers == []


def test_files_and_functions_stay_small() -> None:
    """From 500 lines on ``benchmarks/house.py`` lists a file, so that somebody looks at it."""
    too_long: list[str] = []
    for path in sources(*ROOMS):
        text = path.read_text()
        if len(text.splitlines()) > 800:
            too_long.append(
                f"{path.relative_to(ROOT)}: {len(text.splitlines())} lines, at most 800"
            )
        limit = 100 if path.relative_to(ROOT).parts[0] == "kernels" else 60
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > limit:
                    where = f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
                    too_long.append(f"{where}: {length} lines, at most {limit}")
    assert too_long == []


def test_modules_that_say_shapes_have_them_checked() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    (listed,) = (o for o in options["addopts"] if o.startswith("--jaxtyping-packages="))
    checked = listed.partition("=")[2].split(",")[:-1]
    saying = [path for path in sources(*ROOMS) if "\nfrom jaxtyping" in path.read_text()]
    assert len(saying) > 10
    for path in saying:
        name = ".".join(("isogloss", *path.relative_to(ROOT).with_suffix("").parts))
        assert any(f"{name}.".startswith(f"{one}.") for one in checked), f"{name}: pyproject.toml"


@pytest.mark.skipif("ISOGLOSS_UNCHECKED" in os.environ, reason="types are left unchecked here")
def test_calls_with_a_wrong_type_are_refused_under_test() -> None:
    for module, name, wrong in (
        ("isogloss.store.shards.quantised", "quantise_rows", ["no array"]),
        ("isogloss.store.lanes.statistics", "_block_rows", ["many"]),
        ("isogloss.models.texts", "passages", [[], "many"]),
        ("isogloss.dictionaries.settings", "settings_to_dict", [None]),
        ("isogloss.universality.probe.hashing", "splitmix64", [3]),
    ):
        called = getattr(importlib.import_module(module), name)
        with pytest.raises(BeartypeCallHintParamViolation, match="violates type hint"):
            called(*wrong)


def test_nothing_unpickles() -> None:
    """``pickle``, ``torch.load`` without ``weights_only`` and ``eval`` never meet a file."""
    found: list[str] = []
    for path in sources(*ROOMS):
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import | ast.ImportFrom)
                else []
            )
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if {"pickle", "dill", "joblib"} & set(names) or called in {
                "torch.load",
                "eval",
                "exec",
            }:
                found.append(f"{path.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}")
    assert found == []
