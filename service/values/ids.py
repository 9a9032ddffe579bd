"""Ids that are made up when the caller gives none: readable, and equal for equal work."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping

from isogloss.errors import InvalidInput
from isogloss.service.values.results import DictionaryInfo
from isogloss.service.values.settings import Setting

_MAX_ID = 63
_HASH = 8


def slug(text: str) -> str:
    """Return a resource id that begins like ``text`` and is different for different texts."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    digest = hashlib.sha256(text.encode()).hexdigest()[:_HASH]
    head = plain if plain[:1].isalpha() else f"x-{plain}"
    return f"{head[: _MAX_ID - _HASH - 1].rstrip('-')}-{digest}"


def dictionary_id(recording: str, site: str, config: Mapping[str, Setting]) -> str:
    """Return the default id of what a training makes."""
    known = json.dumps({k: v for k, v in config.items() if v is not None}, sort_keys=True)
    digest = hashlib.sha256(f"{site}\n{known}".encode()).hexdigest()[:_HASH]
    head = slug(f"{recording}-{config.get('features')}")[: -_HASH - 1]
    return f"{head[: _MAX_ID - _HASH - 1].rstrip('-')}-{digest}"


def match_id(a: str, b: str, probe: str | None, settings: Mapping[str, Setting]) -> str:
    """Return the default id of a match."""
    known = json.dumps({k: v for k, v in settings.items() if v is not None}, sort_keys=True)
    digest = hashlib.sha256(f"{a}\n{b}\n{probe}\n{known}".encode()).hexdigest()[:_HASH]
    half = (_MAX_ID - _HASH - 2) // 2
    return f"{a[:half].rstrip('-')}-{b[:half].rstrip('-')}-{digest}"


def id_of(dictionary: DictionaryInfo | str) -> str:
    """Return the id of a dictionary that may be given as its id."""
    return dictionary if isinstance(dictionary, str) else dictionary.id


def request_id(given: str | None) -> str:
    """Return what makes a creating call repeatable: the given id, or a new one."""
    return given if given is not None else str(uuid.uuid4())


def train_config(
    required: Mapping[str, Setting], more: Mapping[str, Setting] | None
) -> dict[str, Setting]:
    """Join the settings given by keyword with those in ``more``; InvalidInput for one in both."""
    twice = sorted(name for name in more or {} if name in required and required[name] is not None)
    if twice:
        raise InvalidInput(f"settings {', '.join(twice)} are given twice: leave them out of more")
    return {**required, **(more or {})}
