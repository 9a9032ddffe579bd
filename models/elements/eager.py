"""Eager attention: fused kernels compute no patterns that a hook could see."""

import logging
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import cast
from weakref import WeakSet

from torch import nn

_log = logging.getLogger(__name__)

_SETTING = "_attn_implementation"
_SAID: WeakSet[nn.Module] = WeakSet()


@contextmanager
def eager_attention(module: nn.Module) -> Generator[None]:
    """Let models of transformers compute attention by plain operations while this is entered.

    Where another way was set (SDPA, Flash), that is logged once a model, since results differ in
    their last bits; it is set again afterwards, whatever happened.

    Args:
        module: the model. One that keeps no such setting is left alone.
    """
    was = [(config, getattr(config, _SETTING)) for config in _configs(module)]
    fused = sorted({str(way) for _, way in was if way not in (None, "eager")})
    if fused and module not in _SAID:
        _SAID.add(module)
        _log.warning(
            "%s computes attention by %s, which shows no patterns: it runs eagerly while they are "
            "read or replaced",
            type(module).__name__,
            " and ".join(fused),
        )
    try:
        for config, _ in was:
            setattr(config, _SETTING, "eager")
        yield
    finally:
        for config, way in was:  # a setting reaches the configurations inside: those come later
            setattr(config, _SETTING, way)


def _configs(module: nn.Module) -> list[object]:
    """Return each configuration with such a setting once, outer ones before those inside."""
    found: dict[int, object] = {}
    for child in module.modules():
        for config in _with_inner(getattr(child, "config", None)):
            if hasattr(config, _SETTING):
                found.setdefault(id(config), config)
    return list(found.values())


def _with_inner(config: object) -> Iterator[object]:
    if config is None:
        return
    yield config
    for name in cast("dict[str, object]", getattr(config, "sub_configs", None) or {}):
        yield from _with_inner(getattr(config, name, None))
