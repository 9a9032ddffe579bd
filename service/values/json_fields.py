"""Read fields of JSON values in specs and in the catalog, and check their types."""

import hashlib
import sys
from collections.abc import Iterable, Mapping
from typing import cast

from isogloss.errors import InvalidInput
from isogloss.store import Revision, check_step


def text_of(values: Mapping[str, object], name: str) -> str:
    """Return a text field, or raise ``InvalidInput``."""
    value = values.get(name)
    if not isinstance(value, str):
        raise InvalidInput(f"{name} is {value!r}, wanted text")
    return value


def texts_of(values: Mapping[str, object], name: str) -> list[str]:
    """Return a list of texts, or raise ``InvalidInput``."""
    value = values.get(name)
    if not isinstance(value, list) or not all(
        isinstance(item, str) for item in cast("list[object]", value)
    ):
        raise InvalidInput(f"{name} is {value!r}, wanted a list of texts")
    return cast("list[str]", value)


def steps_of(values: Mapping[str, object]) -> tuple[int, ...]:
    """Return training steps, ascending; none where the field is missing, or ``InvalidInput``."""
    found = values.get("steps", [])
    if not isinstance(found, list):
        raise InvalidInput(f"steps is {found!r}, wanted a list of training steps")
    return sorted_steps(cast("list[object]", found))


def sorted_steps(steps: Iterable[object]) -> tuple[int, ...]:
    """Return training steps ascending, each once, or raise ``InvalidInput``."""
    return tuple(sorted({check_step(step) for step in steps}))


def object_of(values: Mapping[str, object], name: str) -> dict[str, object]:
    """Return an object field; {} if it is missing, ``InvalidInput`` if it is no object."""
    value = values.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{name} is {value!r}, wanted an object")
    return cast("dict[str, object]", value)


def share_of(values: Mapping[str, object], name: str) -> float | None:
    """Return a number field; None if it is missing, ``InvalidInput`` if it is no number."""
    value = values.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidInput(f"{name} is {value!r}, wanted a number")
    if not -sys.float_info.max <= value <= sys.float_info.max:
        raise InvalidInput(f"{name} is no finite number: give one, or leave it out")
    return float(value)


def revision_of(values: Mapping[str, object], name: str = "revision") -> Revision:
    """Return a revision of a recording, or raise ``InvalidInput``."""
    return Revision.from_dict(object_of(values, name))


def codes_id(dictionary_uid: str, probe_uid: str) -> str:
    """Return the catalog id of a dictionary's codes on a probe."""
    return "c" + hashlib.sha256(f"{dictionary_uid}/{probe_uid}".encode()).hexdigest()[:24]


def default_probe_id(recordings: Iterable[str], steps: Iterable[int] = ()) -> str:
    """Return the id of the default probe of recordings: the same for the same ids and steps."""
    names = "\n".join([*sorted(set(recordings)), *(f"step {step}" for step in steps)])
    return "probe-" + hashlib.sha256(names.encode()).hexdigest()[:12]
