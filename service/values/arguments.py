"""What callers give to a call, checked before anything of it is sent."""

import math
import operator
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import SupportsIndex, TypeAlias, cast

from isogloss.errors import InvalidInput
from isogloss.store import check_steps

Setting: TypeAlias = str | int | float | Sequence[str] | Sequence[int] | None
"""A value that a setting may have; None leaves its default."""
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1
_MOST_LOOKED_AT = 10_000
"""Longer sequences, such as vocabularies, are checked only when they are written into a message."""


def check_argument(name: str, value: object) -> None:
    """Refuse what no message can hold: in a value, or in what a mapping or sequence holds.

    Args:
        name: name of the parameter, for error messages.
        value: what the caller gave; arrays, dataclasses and functions are not looked into.

    Raises:
        InvalidInput: text holds a lone surrogate, a whole number does not fit 64 bits, or a number
            is NaN or infinite.
    """
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise InvalidInput(f"{name}: {describe_refusal(error)}") from error
        case bool():
            return
        case int() if not _LEAST <= value <= _MOST:
            raise InvalidInput(
                f"{name} is a whole number of {value.bit_length()} bits, wanted at most 64: give a "
                "smaller one"
            )
        case float() if not math.isfinite(value):
            raise InvalidInput(f"{name} is {value}, wanted a finite number: leave it out for none")
        case Mapping():
            for key, item in cast("Mapping[object, object]", value).items():
                check_argument(f"a key of {name}", key)
                check_argument(f"{name}[{key!a}]", item)
        case list() | tuple() | Set():
            items = cast("Sequence[object]", value)
            for item in items if len(items) <= _MOST_LOOKED_AT else ():
                check_argument(f"an item of {name}", item)
        case _:
            return


def describe_refusal(error: ValueError | OverflowError) -> str:
    """Say what is wrong with a value that could not be written into a message, and what to do."""
    if isinstance(error, UnicodeEncodeError):
        near = error.object[max(0, error.start - 10) : error.end + 10]
        return (
            f"text has a lone surrogate at {error.start}, near {near!r}, which UTF-8 cannot hold: "
            "replace it"
        )
    return (
        f"a value cannot be sent ({error}): give whole numbers of the field's size, finite numbers "
        "and text that UTF-8 can hold"
    )


def check_text(name: str, value: object, example: str) -> None:
    """Refuse what is no text.

    Args:
        name: name of the parameter.
        value: what the caller gave.
        example: a value that would do.

    Raises:
        InvalidInput: ``value`` is no str.
    """
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is {found(value)}, wanted text, such as {example!r}")


def check_whole(name: str, value: object, least: int | None) -> None:
    """Refuse what is no whole number of any integer type, or is too small.

    Args:
        name: name of the parameter.
        value: what the caller gave.
        least: the smallest number that is taken; None: any is.

    Raises:
        InvalidInput: ``value`` is no whole number, or below ``least``.
    """
    wanted = "wanted a whole number" + ("" if least is None else f" of at least {least}")
    if isinstance(value, bool) or not isinstance(value, SupportsIndex):
        raise InvalidInput(f"{name} is {found(value)}, {wanted}")
    try:
        number = operator.index(value)
    except TypeError as error:  # an array of several numbers
        raise InvalidInput(f"{name} is {found(value)}, {wanted}") from error
    if least is not None and number < least:
        raise InvalidInput(f"{name} is {value!r}; it must be {least} or more")


def check_number(name: str, value: object) -> None:
    """Refuse what is no number, or is NaN, with InvalidInput."""
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise InvalidInput(f"{name} is {found(value)}, wanted a number")


def check_one_of(name: str, value: object, choices: Sequence[object]) -> None:
    """Refuse what is none of some values, with InvalidInput."""
    if not any(type(value) is type(one) and value == one for one in choices):
        wanted = ", ".join(repr(one) for one in choices)
        raise InvalidInput(f"{name} is {found(value)}, wanted one of {wanted}")


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither True nor False, with InvalidInput."""
    check_one_of(name, value, (True, False))


def check_path(name: str, value: object) -> None:
    """Refuse what is no path, text or None, with InvalidInput."""
    if not (value is None or isinstance(value, str | Path)):
        raise InvalidInput(f"{name} is {found(value)}, wanted a path, or None")


def check_function(name: str, value: object) -> None:
    """Refuse what is neither None nor can be called, with InvalidInput."""
    if value is not None and not callable(value):
        raise InvalidInput(f"{name} is {found(value)}, wanted a function, or None")


def named_steps(steps: Sequence[int] | None) -> tuple[int, ...]:
    """Return the training steps that a caller names, ascending, each once; none for None.

    Raises:
        InvalidInput: ``steps`` is empty, or holds what is no training step.
    """
    return () if steps is None else tuple(sorted(set(check_steps(steps))))


def found(value: object) -> str:
    """Write a value and its type, in a line that can be read."""
    text = repr(value)
    return f"{text if len(text) <= 60 else text[:57] + '...'} ({type(value).__name__})"
