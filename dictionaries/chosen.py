"""The kind and the wiring of a run, each made of its own part of the settings."""

from collections.abc import Mapping
from dataclasses import fields

from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.kinds.kind import Kind
from isogloss.dictionaries.kinds.load import kind_class, make_kind
from isogloss.dictionaries.settings import nearest
from isogloss.dictionaries.wirings.load import make_wiring, wiring_settings
from isogloss.dictionaries.wirings.wiring import Wiring
from isogloss.errors import InvalidInput


def kind_of(config: TrainConfig) -> Kind:
    """Return the kind of a run with its settings.

    Raises:
        InvalidInput: there is no such kind or wiring, or the kind refuses a setting.
    """
    return make_kind(config.kind, _split(config)[0])


def wiring_of(config: TrainConfig) -> Wiring:
    """Return the wiring of a run with its settings.

    Raises:
        InvalidInput: there is no such kind or wiring, or the wiring refuses a setting.
    """
    return make_wiring(config.wiring, _split(config)[1])


def _split(config: TrainConfig) -> tuple[Mapping[str, object], Mapping[str, object]]:
    """Deal the settings out by name: those of the kind, those of the wiring."""
    of_kind = [field.name for field in fields(kind_class(config.kind))]
    of_wiring = wiring_settings(config.wiring)
    if both := sorted({*of_kind} & {*of_wiring}):
        raise InvalidInput(
            f"kind {config.kind!r} and wiring {config.wiring!r} both have settings {both}, so "
            "nobody could say whose is meant: rename them in one of the two packages"
        )
    if unknown := sorted({*config.settings} - {*of_kind} - {*of_wiring}):
        near = nearest(unknown, [*of_kind, *of_wiring])
        raise InvalidInput(
            f"unknown settings {unknown}{near}; kind {config.kind!r} has {of_kind}, wiring "
            f"{config.wiring!r} has {of_wiring}"
        )
    given = config.settings.items()
    return (
        {name: value for name, value in given if name in of_kind},
        {name: value for name, value in given if name in of_wiring},
    )
