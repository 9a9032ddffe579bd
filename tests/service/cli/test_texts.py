"""Which texts the command line records."""

from pathlib import Path

import pytest

from isogloss.errors import InvalidInput, NotFound
from isogloss.service.cli.texts import read_texts

LONG = "one two three four five six seven eight nine ten. "


def test_a_file_is_one_source_cut_into_passages(tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text("\n\n".join(f"{number} {LONG}" for number in range(4)), encoding="utf-8")
    found = read_texts([file], standard_library=False, words=12)
    assert len(found) > 1
    assert {passage.group for passage in found} == {str(file)}
    assert max(len(passage.text.split()) for passage in found) <= 12


def test_a_folder_gives_its_text_files_in_order_and_a_passage_comes_once(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b.md", "inner/c.txt", "a.rst"):
        (tmp_path / name).write_text(f"{name}: {LONG}", encoding="utf-8")
    (tmp_path / "inner" / "same.txt").write_text(f"b.md: {LONG}", encoding="utf-8")
    (tmp_path / "image.png").write_bytes(b"\xff\xd8")
    found = read_texts([tmp_path], standard_library=False, words=100)
    groups = [str(Path(passage.group).relative_to(tmp_path)) for passage in found]
    assert groups == ["a.rst", "b.md", "inner/c.txt"]


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    plain, marked = tmp_path / "plain.txt", tmp_path / "marked.txt"
    plain.write_bytes(LONG.encode())
    marked.write_bytes(b"\xef\xbb\xbf" + LONG.encode())
    (found,) = read_texts([plain, marked], standard_library=False, words=100)
    assert found.text == LONG.strip()  # both files hold the same passage, which comes once


def test_what_holds_no_text_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="give files, or --standard-library"):
        read_texts([], standard_library=False, words=10)
    with pytest.raises(NotFound, match=r"holds no text file \(\.txt, .*name the files"):
        read_texts([tmp_path], standard_library=False, words=10)
    with pytest.raises(NotFound, match="give text files or folders of them"):
        read_texts([tmp_path / "nothing"], standard_library=False, words=10)
    (tmp_path / "latin.txt").write_bytes("größer".encode("latin-1"))
    with pytest.raises(InvalidInput, match="is not UTF-8 at byte 2: convert it first"):
        read_texts([tmp_path / "latin.txt"], standard_library=False, words=10)
