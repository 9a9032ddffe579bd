"""The tree of errors is the one its module draws, and each error is what a caller expects."""

import re

import pytest

from isogloss import errors
from isogloss.errors import IsoglossError, from_reason


def drawn() -> dict[str, str | None]:
    """Parse the drawing: name of each class -> the builtin noted beside it."""
    lines = re.findall(r"^\s*[*+-] (\w+)(?: \((\w+)\))?$", errors.__doc__ or "", re.MULTILINE)
    return {name: builtin or None for name, builtin in lines}


def classes() -> dict[str, type[IsoglossError]]:
    return {c.__name__: c for c in errors._descendants(IsoglossError)}


def test_the_drawing_shows_every_class_and_no_other() -> None:
    assert set(drawn()) == set(classes())


def test_the_drawing_nests_as_the_classes_do() -> None:
    parents: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^(\s*)[*+-] (\w+)", line)
        if not found:
            continue
        depth, name = len(found[1]), found[2]
        while parents and parents[-1][0] >= depth:
            parents.pop()
        if parents:
            assert parents[-1][1] in {base.__name__ for base in classes()[name].__bases__}, name
        parents.append((depth, name))


@pytest.mark.parametrize("name", [name for name, builtin in drawn().items() if builtin])
def test_an_error_is_also_the_builtin_its_caller_expects(name: str) -> None:
    builtin = drawn()[name]
    assert builtin in {base.__name__ for base in classes()[name].__mro__}


def test_reasons_are_unique_and_lead_back_to_the_class() -> None:
    reasons = [c.reason for c in classes().values()]
    assert len(set(reasons)) == len(reasons)
    for c in classes().values():
        assert from_reason(c.reason) is c
    assert from_reason("OF_A_LATER_RELEASE") is IsoglossError


@pytest.mark.parametrize("c", list(classes().values()), ids=lambda c: c.__name__)
def test_a_message_is_kept_as_it_was_given(c: type[IsoglossError]) -> None:
    assert str(c("found 3, wanted 4: pass 4")) == "found 3, wanted 4: pass 4"
