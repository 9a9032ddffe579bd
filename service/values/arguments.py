"""What callers give to a call, checked before anything of it is sent."""

import math
from collections.abc import Mapping, Sequence, Set
from typing import cast

from isogloss.errors import InvalidInput

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
