"""Counts over the files of the product: where they lie, what they import, what they name."""

import ast
import re
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import grimp

from house_figures.figure import Figure
from house_figures.sources import ROOMS, ROOT, is_generated, parsed, sources

MOST_FILES = 15
CALL = re.compile(r"server_info|ServerInfo")
KIND_TABLE = Path("dictionaries") / "kinds" / "table.py"


def files_per_folder(root: Path = ROOT) -> Figure:
    """Count the files side by side in each folder of a room, ``__init__.py`` aside."""
    counts = Counter(
        path.parent.relative_to(root).as_posix()
        for path in sources(root)
        if path.name != "__init__.py"
    )
    fullest = counts.most_common(3)
    return Figure(
        figure="files_per_folder",
        value=fullest[0][1],
        bar=MOST_FILES,
        unit="most hand-written Python files side by side in a folder of a room",
        peers=dict(fullest),
    )


def import_circles(graph: grimp.ImportGraph) -> Figure:
    """Count the groups of siblings that import each other in a circle, in every package."""
    edges: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = _siblings(importer, imported)
            if pair is not None:
                edges[pair[0].rpartition(".")[0]][pair[0]].add(pair[1])
    found = {
        f"in {package}": " <-> ".join(sorted(circle))
        for package, below in sorted(edges.items())
        for circle in circles(below)
    }
    return Figure(
        figure="import_circles",
        value=len(found),
        bar=0,
        unit="groups of sibling modules or packages that import each other in a circle",
        peers=dict(found),
    )


def _siblings(importer: str, imported: str) -> tuple[str, str] | None:
    """Return where two modules part below their last common package, if they do."""
    a, b = importer.split("."), imported.split(".")
    shared = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    if not shared:  # another distribution, or one of them is a package above the other
        return None
    return ".".join(a[: shared + 1]), ".".join(b[: shared + 1])


def circles(edges: Mapping[str, Iterable[str]]) -> list[set[str]]:
    """Return the sets of nodes that reach each other, of two nodes or more."""
    reached = {node: _reached(node, edges) for node in edges}
    found: list[set[str]] = []
    for node in sorted(edges):
        circle = {other for other in reached[node] if node in reached.get(other, set())}
        if len(circle) > 1 and circle not in found:
            found.append(circle)
    return found


def _reached(node: str, edges: Mapping[str, Iterable[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(edges[node])
    while waiting:
        at = waiting.pop()
        if at not in seen:
            seen.add(at)
            waiting += edges.get(at, ())
    return seen


def imports_up(graph: grimp.ImportGraph, root: Path = ROOT) -> Figure:
    """Count what the ``layers`` contracts of pyproject.toml forbid, and what they do not cover.

    A room with two folders or more and no contract for its inside counts as one.
    """
    settings = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    covered: set[str] = set()
    found: dict[str, object] = {}
    for contract in settings["tool"]["importlinter"]["contracts"]:
        if contract["type"] != "layers":
            continue
        covered |= set(contract.get("containers", ()))
        layers = [_layer(line) for line in contract["layers"]]
        for up in graph.find_illegal_dependencies_for_layers(
            layers, containers=set(contract.get("containers", ())) or None
        ):
            found[f"{up.importer} -> {up.imported}"] = contract["name"]
    for room in ROOMS:
        folders = {path.parent for path in sources(root, [room])} - {root / room}
        if len(folders) > 1 and f"isogloss.{room}" not in covered:
            found[f"isogloss.{room}"] = "has folders and no layers contract"
    return Figure(
        figure="imports_up",
        value=len(found),
        bar=0,
        unit="pairs of packages of which the lower imports the higher, and rooms without layers",
        peers=found,
    )


def _layer(line: str) -> grimp.Layer:
    """Read a layer as import-linter writes it: ``a | b`` apart, ``a : b`` together."""
    names = [name.strip(" ()") for name in re.split(r"[|:]", line)]
    return grimp.Layer(*names, independent=":" not in line)


def files_per_call(root: Path = ROOT) -> Figure:
    """Count the hand-written files that mention the call ``server_info``."""
    found = [
        path.relative_to(root).as_posix()
        for path in _hand_written(root)
        if CALL.search(path.read_text(encoding="utf-8"))
    ]
    return Figure(
        figure="files_per_call",
        value=len(found) or None,
        bar=6,
        unit="files outside generated code, tests and docs that mention server_info",
        peers={"files": found} if found else {"missing": "no file mentions the call"},
    )


def _hand_written(root: Path) -> Iterator[Path]:
    """Yield the product's and the examples' code, ``.proto`` and templates included.

    What a room ships in ``testing/`` (the contracts that implementations keep) is a test.
    """
    for folder in (*ROOMS, "src/isogloss", "examples"):
        for path in sorted((root / folder).glob("*" if folder.startswith("src") else "**/*")):
            is_code = path.suffix in {".py", ".proto", ".html", ".js"} and path.is_file()
            if is_code and not is_generated(path) and "testing" not in path.parts:
                yield path


def files_per_kind(root: Path = ROOT) -> Figure:
    """Count the files outside ``dictionaries/kinds/`` that name a kind of dictionary.

    The kinds are the rows of ``dictionaries/kinds/table.py``. A file names a kind when its code
    holds the kind's name as a whole string (``"topk"``), imports from the kind's module, or says
    its class. Names of operations in ``kernels`` (``encode_topk``, ``TopKLoss``) are other words:
    a kernel knows no kind, and a kernel's file may have the name of one (``batch_topk.py``).
    What docstrings and comments say counts not, because nothing follows from it; such files are
    listed beside the figure.
    """
    table = root / KIND_TABLE
    rows = kind_rows(table) if table.exists() else {}
    if not rows:
        return Figure(
            figure="files_per_kind",
            value=None,
            bar=0,
            unit="files that name a kind",
            peers={"missing": f"no rows of kinds in {KIND_TABLE}"},
        )
    kinds = table.parent
    found: list[str] = []
    in_text: list[str] = []
    kernels = {path.stem for path in (root / "kernels").glob("*.py")}
    other = {name: where for name, where in rows.items() if name not in kernels}
    words = re.compile("|".join(rf"(?<![\w.]){re.escape(name)}\b(?!\()" for name in rows))
    for path in _hand_written(root):
        if path.is_relative_to(kinds):
            continue
        meant = other if path.is_relative_to(root / "kernels") else rows
        if path.suffix == ".py" and any(_names_kind(parsed(path), meant)):
            found.append(path.relative_to(root).as_posix())
        elif not path.is_relative_to(root / "kernels") and words.search(path.read_text()):
            in_text.append(path.relative_to(root).as_posix())
    return Figure(
        figure="files_per_kind",
        value=len(found),
        bar=0,
        unit="files outside kinds/, tests and docs whose code names a kind",
        peers={"kinds": sorted(rows), "files": found, "in docstrings or comments": in_text},
    )


def kind_rows(table: Path) -> dict[str, str]:
    """Return the rows of the table of kinds: name -> ``module:Class``."""
    rows: dict[str, str] = {}
    for node in ast.walk(parsed(table)):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                match key, value:
                    case ast.Constant(value=str(name)), ast.Constant(value=str(where)):
                        rows[name] = where
                    case _:
                        pass
    return rows


def _names_kind(tree: ast.Module, rows: Mapping[str, str]) -> Iterator[str]:
    """Yield each place of a file at which its code names a kind."""
    modules = {where.partition(":")[0] for where in rows.values()}
    classes = {where.partition(":")[2] for where in rows.values()}
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if text in rows or text in rows.values():
                yield text
            case ast.ImportFrom(module=str(module)) if module in modules:
                yield module
            case ast.Import(names=names):
                yield from (alias.name for alias in names if alias.name in modules)
            case ast.Name(id=name) | ast.Attribute(attr=name) if name in classes:
                yield name
            case _:
                pass


def hidden_imports(root: Path = ROOT) -> Figure:
    """Count the import statements in functions.

    Not counted: the lazy facades (a module's ``__getattr__``) and the command line, which imports
    inside its commands so that ``--help`` starts quickly.
    """
    counts: Counter[str] = Counter()
    for path in [*sources(root), *sorted((root / "src" / "isogloss").glob("*.py"))]:
        name = path.relative_to(root).as_posix()
        if not name.startswith("service/cli/"):
            counts[name] += sum(1 for _ in _imports_in_functions(parsed(path), inside=False))
    by_room: Counter[str] = Counter()
    for name, count in counts.items():
        by_room[name.split("/")[0]] += count
    return Figure(
        figure="hidden_imports",
        value=counts.total(),
        bar=20,
        unit="import statements in functions, lazy facades and the command line aside",
        peers={
            **{room: count for room, count in by_room.items() if count},
            "files": {name: count for name, count in counts.most_common() if count},
        },
    )


def _imports_in_functions(node: ast.AST, *, inside: bool) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if is_function and child.name == "__getattr__":
            continue
        if inside and isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from _imports_in_functions(child, inside=inside or is_function)


def long_files(root: Path = ROOT, limit: int = 500) -> dict[str, int]:
    """Return the files of the product that have more lines than the limit, longest first."""
    counts = Counter(
        {
            path.relative_to(root).as_posix(): len(path.read_text().splitlines())
            for path in sources(root)
        }
    )
    return {name: lines for name, lines in counts.most_common() if lines > limit}


def import_graph() -> grimp.ImportGraph:
    """Return who imports whom in the product, read afresh."""
    return grimp.build_graph("isogloss", cache_dir=None, include_external_packages=False)
