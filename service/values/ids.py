"""Ids that are made up when the caller gives none: readable, and equal for equal work."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Protocol

from isogloss.errors import InvalidInput
from isogloss.service.values.arguments import Setting, found
from isogloss.service.values.results import SiteRef

_MAX_ID = 63
_HASH = 8


def slug(text: str) -> str:
    """Return a resource id that begins like ``text`` and is different for different texts."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
    head = plain if plain[:1].isalpha() else f"x-{plain}"
    return f"{head[: _MAX_ID - _HASH - 1].rstrip('-')}-{digest}"


def dictionary_id(sources: Sequence[SiteRef], features: int, config: Mapping[str, object]) -> str:
    """Return the default id of what a training makes."""
    known = json.dumps({k: v for k, v in config.items() if v is not None}, sort_keys=True)
    sites = "\n".join(f"{source.recording}\n{source.site}" for source in sources)
    digest = hashlib.sha256(f"{sites}\n{known}".encode()).hexdigest()[:_HASH]
    head = slug(f"{sources[0].recording}-{features}")[: -_HASH - 1]
    return f"{head[: _MAX_ID - _HASH - 1].rstrip('-')}-{digest}"


def match_id(
    a: str,
    b: str,
    probe: str | None,
    settings: Mapping[str, Setting],
    steps: Sequence[int] = (),
    references: Sequence[Sequence[str]] = (),
) -> str:
    """Return the default id of a match."""
    known = json.dumps({k: v for k, v in settings.items() if v is not None}, sort_keys=True)
    known += "".join(f"\nstep {step}" for step in steps)
    if any(references):
        known += f"\nreferences {json.dumps(references)}"
    digest = hashlib.sha256(f"{a}\n{b}\n{probe}\n{known}".encode()).hexdigest()[:_HASH]
    half = (_MAX_ID - _HASH - 2) // 2
    return f"{a[:half].rstrip('-')}-{b[:half].rstrip('-')}-{digest}"


def floor_id(dictionary: str, how: str, seed: int) -> str:
    """Return the default id of a floor of a dictionary."""
    digest = hashlib.sha256(f"{dictionary}\n{how}\n{seed}".encode()).hexdigest()[:_HASH]
    head = f"{dictionary[: _MAX_ID - _HASH - len(how) - 2].rstrip('-')}-{how.replace('_', '-')}"
    return f"{head}-{digest}"


class HasId(Protocol):
    """A dictionary, whether described or in the hand."""

    @property
    def id(self) -> str:
        """Its resource id."""
        ...


def id_of(dictionary: HasId | str) -> str:
    """Return the id of a dictionary, or of another result, that may be given as its id.

    Raises:
        InvalidInput: it is neither.
    """
    given: object = getattr(dictionary, "id", dictionary)
    if not isinstance(given, str):
        raise InvalidInput(f"{found(dictionary)} is given, wanted an id or what has one")
    return given


def request_id(given: str | None) -> str:
    """Return what makes a creating call repeatable: the given id, or a new one."""
    return given if given is not None else str(uuid.uuid4())
