"""The texts that the command line records."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from isogloss.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from isogloss.models import TextDocument

_SUFFIXES = (".txt", ".md", ".rst", ".py", ".html")


def read_texts(
    paths: Sequence[Path], *, standard_library: bool, words: int
) -> "list[TextDocument]":
    """Return passages of text files, or of the documentation of the standard library.

    Args:
        paths: files, and folders of text files. A file is one source: its passages stay on one
            side of every split.
        standard_library: whether to take this Python's own documentation.
        words: most words of a passage.

    Raises:
        InvalidInput: no text was asked for, or a file is not UTF-8.
        NotFound: a path does not exist, or a folder holds no text file.
    """
    # torch comes with the room of models, and --help must not wait for it
    from isogloss.models import TextDocument, passages, standard_library_texts

    if not paths and not standard_library:
        raise InvalidInput("no text to record: give files, or --standard-library")
    texts = standard_library_texts() if standard_library else []
    for file in _files(paths):
        try:
            text = file.read_text(encoding="utf-8").removeprefix("\ufeff")  # a byte order mark
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"{file} is not UTF-8 at byte {error.start}: convert it first"
            ) from error
        texts.append(TextDocument(text=text, group=str(file)))
    seen: set[str] = set()
    found: list[TextDocument] = []
    for passage in passages(texts, words=words):
        if passage.text not in seen:
            seen.add(passage.text)
            found.append(passage)
    return found


def _files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix in _SUFFIXES and p.is_file())
            if not inside:
                raise NotFound(
                    f"{path} holds no text file ({', '.join(_SUFFIXES)}): name the files"
                )
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise NotFound(f"no file {path}: give text files or folders of them")
    return files
