"""A corpus that every Python installation carries: the standard library's own documentation."""

import ast
import os
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from isogloss.errors import NotFound
from isogloss.models.texts import TextDocument

_SHORTEST_WORDS = 40
_FOREIGN = {"site-packages", "dist-packages", "_bundled"}
_INTERNAL = {
    "test",
    "tests",
    "idlelib",
    "distutils",
    "lib2to3",
}  # not documentation, or gone by now


def standard_library_texts() -> list[TextDocument]:
    """Return the help topics and the longer docstrings of the standard library.

    Topics come from the source of ``pydoc_data.topics`` (group ``topic:<name>``), docstrings of
    modules, classes and functions from all other modules (group: the module's name); those with
    fewer than 40 words are left out, and so is a text that came before. Everything is parsed,
    nothing is imported. The order is that of the paths; the texts are those of the running Python's
    version.

    Raises:
        NotFound: this Python has no source of its standard library.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    seen: set[str] = set()
    texts: list[TextDocument] = []
    for group, text in _all_texts(root):
        if len(text.split()) >= _SHORTEST_WORDS and text not in seen:
            seen.add(text)
            texts.append(TextDocument(text=text, group=group))
    if not texts:
        raise NotFound(f"no standard library source under {root}; install Python with its library")
    return texts


def _all_texts(root: Path) -> Iterator[tuple[str, str]]:
    for path in sorted(_sources(root), key=lambda path: path.relative_to(root).as_posix()):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        tree = _parse(path)
        if module == "pydoc_data.topics":
            yield from _topics(tree)
        else:
            yield from ((module, text) for text in _docstrings(tree))


def _sources(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in _FOREIGN | _INTERNAL]
        yield from (Path(folder, name) for name in files if name.endswith(".py"))


def _parse(path: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in the library's own source
        return ast.parse(path.read_bytes())


def _docstrings(tree: ast.Module) -> Iterator[str]:
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text:
                yield text.strip()
        # statements alone hold definitions: looking into expressions would take most of the time
        waiting.extend(c for c in reversed(list(ast.iter_child_nodes(node))) if _is_block(c))


def _is_block(node: ast.AST) -> bool:
    return isinstance(node, ast.stmt | ast.excepthandler | ast.match_case) and hasattr(node, "body")


def _topics(tree: ast.Module) -> Iterator[tuple[str, str]]:
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            for key, value in zip(node.value.keys, node.value.values, strict=True):
                if key is not None:
                    yield f"topic:{ast.literal_eval(key)}", str(ast.literal_eval(value)).strip()
