"""Draws changes of the product's code and runs the nearest tests against each: ``make mutants``.

Each place of a file has a rank: the hash of the file's content and of the place. Of all files
together the lowest ranks are drawn. So nobody picks the places, and a commit draws other places
only in the files that it changes: what was found for the other files still holds. ``mutate.py``
runs them.
"""

import hashlib
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import parso
from cosmic_ray.ast import ast_nodes, get_ast_from_path
from cosmic_ray.operators.operator import Example, Operator
from cosmic_ray.plugins import OPERATOR_PROVIDERS, get_operator
from parso.python.tree import Function, IfStmt, ReturnStmt
from parso.tree import Leaf, NodeOrLeaf

from house_figures.sources import ROOT, sources

CONFIG = ROOT / "benchmarks" / "mutants.toml"
HOUSE = "house"
"""The draw over the rooms that are named first."""
Position = tuple[int, int]
"""Line from 1, column from 0."""


class ReturnNothing(Operator):
    """Returns None instead of the value that a function returns."""

    # cosmic-ray's own annotations say None where its docstrings say what is here
    def mutation_positions(  # pyright: ignore[reportIncompatibleMethodOverride] (see above)
        self, node: NodeOrLeaf
    ) -> Iterator[tuple[Position, Position]]:
        """Yield the returned expression."""
        if isinstance(node, ReturnStmt):
            value = node.children[1]
            if value.get_code().strip() != "None":
                yield value.start_pos, value.end_pos

    def mutate(  # pyright: ignore[reportIncompatibleMethodOverride] (see above)
        self, node: NodeOrLeaf, index: int
    ) -> NodeOrLeaf:
        """Put None in the place of the expression."""
        del index
        if isinstance(node, ReturnStmt):
            node.children[1] = parso.parse(" None")
        return node

    @classmethod
    def examples(  # pyright: ignore[reportIncompatibleMethodOverride] (see above)
        cls,
    ) -> tuple[Example, ...]:
        """Return a change that it makes."""
        return (Example("def f(): return 1", "def f(): return None"),)


OPERATOR_PROVIDERS["house"] = {"ReturnNothing": ReturnNothing}


@dataclass(frozen=True, kw_only=True)
class Excluded:
    """A place that no test could tell from the original."""

    file: str
    """File, from the root of the repository."""
    code: str
    """The line, without its indentation."""
    group: str
    """Group of operators."""
    reason: str
    """Why."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What ``benchmarks/mutants.toml`` says of one draw."""

    draw: str
    """Name of the draw."""
    count: int
    """Places drawn."""
    grace_s: float
    """Seconds a mutant may take beyond ten times its tests' own."""
    rooms: tuple[str, ...]
    """Rooms whose code is changed."""
    not_mutated: tuple[str, ...]
    """Folders of theirs that are left out."""
    operators: dict[str, list[str]]
    """cosmic-ray's operators by group."""
    nearest: dict[str, list[str]]
    """Tests of files, or of folders (with a slash at the end), that have none of their name."""
    excluded: tuple[Excluded, ...]
    """Places left out, with reasons."""

    @property
    def results(self) -> Path:
        """The committed outcomes of the draw."""
        name = "mutants.json" if self.draw == HOUSE else f"mutants_{self.draw}.json"
        return ROOT / "benchmarks" / name


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change of one file."""

    file: str
    """The file, from the root of the repository."""
    group: str
    """Group of the operator."""
    operator: str
    """cosmic-ray's name of the operator."""
    occurrence: int
    """Which of the places where the operator fits, from 0."""
    start: Position
    """Where the changed code begins."""
    end: Position
    """Where it ends."""

    @property
    def name(self) -> str:
        """The mutant in one line."""
        return f"{self.file}:{self.start[0]}:{self.start[1]} {self.operator}#{self.occurrence}"


def load_config(path: Path = CONFIG, *, draw: str = HOUSE) -> Config:
    """Read the committed configuration of a draw.

    Args:
        path: the file.
        draw: its name: ``house``, or a table below ``draws``.
    """
    fields = tomllib.loads(path.read_text(encoding="utf-8"))
    own = fields if draw == HOUSE else fields["draws"][draw]
    return Config(
        draw=draw,
        count=own["count"],
        grace_s=fields["grace_s"],
        rooms=tuple(own["rooms"]),
        not_mutated=tuple(own["not_mutated"]),
        operators=fields["operators"],
        nearest={
            name: entry["tests"] for entry in fields.get("nearest", []) for name in entry["files"]
        },
        excluded=tuple(Excluded(**entry) for entry in fields.get("excluded", [])),
    )


def mutated_files(config: Config, root: Path = ROOT) -> list[Path]:
    """Return the files whose code may be changed."""
    return [
        path
        for path in sources(root, config.rooms)
        if not path.relative_to(root).as_posix().startswith(config.not_mutated)
    ]


def hash_of_files(paths: Iterable[Path], root: Path = ROOT) -> str:
    """Return one hash of the names and contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.relative_to(root).as_posix()} {content}\n".encode())
    return digest.hexdigest()


def mutants_of(path: Path, config: Config, root: Path = ROOT) -> Iterator[Mutant]:
    """Yield every change that the listed operators could make to a file.

    Occurrences are counted as cosmic-ray counts them: over all nodes, those left out included.
    """
    nodes = list(ast_nodes(get_ast_from_path(path)))
    for group, names in config.operators.items():
        for name in names:
            operator, occurrence = get_operator(name)(), 0
            for node in nodes:
                for start, end in operator.mutation_positions(node):
                    if not _is_left_out(node):
                        yield Mutant(
                            file=path.relative_to(root).as_posix(),
                            group=group,
                            operator=name,
                            occurrence=occurrence,
                            start=start,
                            end=end,
                        )
                    occurrence += 1


def _is_left_out(node: NodeOrLeaf) -> bool:
    """Return whether nothing runs a node: annotations, aliases, decorators, ``TYPE_CHECKING``.

    Neither does anything run the stars of arguments and displays, as in ``f(*, a)`` and ``{**b}``:
    another sign in their place would be a syntax error, which every test notices.
    """
    if _is_for_types(node) or _is_star(node):
        return True
    while node.parent is not None:
        parent = node.parent
        if _is_for_types(parent):
            return True
        if parent.type == "decorator":
            return True
        if parent.type == "annassign":
            annotation = parent.children[1]
            if annotation is node or annotation.get_code().strip() == "TypeAlias":
                return True
        if parent.type == "tfpdef" and parent.children[-1] is node:
            return True
        if isinstance(parent, Function) and parent.annotation is node:
            return True
        node = parent
    return False


def _is_star(node: NodeOrLeaf) -> bool:
    """Return whether a node is a star that neither multiplies nor raises to a power."""
    if not isinstance(node, Leaf) or node.value not in {"*", "**"}:
        return False
    return node.parent is None or node.parent.type not in {"term", "power"}


def _is_for_types(node: NodeOrLeaf) -> bool:
    """Return whether a node is an ``if TYPE_CHECKING`` and what stands below it."""
    return isinstance(node, IfStmt) and node.children[1].get_code().strip() == "TYPE_CHECKING"


def drawn(config: Config, root: Path = ROOT) -> tuple[list[Mutant], list[Mutant]]:
    """Draw the places that have the lowest ranks: hashes of their file's content and the place.

    Returns:
        The mutants to run, in the order drawn, and those among the first drawn that are excluded.
    """
    files = mutated_files(config, root)
    contents: dict[str, str] = {}
    places: dict[tuple[str, Position, Position, str], list[Mutant]] = defaultdict(list)
    for path in files:
        contents[path.relative_to(root).as_posix()] = hash_of_files([path], root)
        for mutant in mutants_of(path, config, root):
            places[mutant.file, mutant.start, mutant.end, mutant.group].append(mutant)

    def rank(place: tuple[str, Position, Position, str]) -> str:
        return hashlib.sha256(f"{contents[place[0]]} {place}".encode()).hexdigest()

    taken: list[Mutant] = []
    left_out: list[Mutant] = []
    for place in sorted(places, key=rank):
        if len(taken) == config.count:
            break
        fitting = places[place]
        mutant = fitting[int(rank(place)[:8], 16) % len(fitting)]
        (left_out if _is_excluded(mutant, config, root) else taken).append(mutant)
    return taken, left_out


def _is_excluded(mutant: Mutant, config: Config, root: Path) -> bool:
    line = (root / mutant.file).read_text(encoding="utf-8").splitlines()[mutant.start[0] - 1]
    return any(
        (entry.file, entry.code, entry.group) == (mutant.file, line.strip(), mutant.group)
        for entry in config.excluded
    )


def nearest_tests(file: str, config: Config, root: Path = ROOT) -> tuple[str, ...]:
    """Return the test files that stand nearest to a file of the product.

    That is the test of its name; else what the configuration lists for the file or its folder; else
    all tests of its folder; else none, and then every mutant of the file survives.
    """
    room, *folders, name = Path(file).with_suffix("").parts
    folder = root.joinpath("tests", room, *folders)
    if (own := folder / f"test_{name}.py").exists():
        return (own.relative_to(root).as_posix(),)
    for named in (file, *(f"{parent.as_posix()}/" for parent in Path(file).parents)):
        if named in config.nearest:
            return tuple(config.nearest[named])
    beside = sorted(folder.glob("test_*.py")) if folders else []
    return tuple(path.relative_to(root).as_posix() for path in beside)


def folder_tests(file: str, root: Path = ROOT) -> tuple[str, ...]:
    """Return all test files of the folder that mirrors the one a file of the product is in."""
    folder = root.joinpath("tests", *Path(file).parent.parts)
    return tuple(path.relative_to(root).as_posix() for path in sorted(folder.glob("test_*.py")))
