"""isogloss: which features do two models share?

``connect`` opens a store (a path) or a server (``unix:...`` or ``host:port``) and gives one client
API for all of it. Nothing heavy is imported until a name is used.
"""

from typing import TYPE_CHECKING

from isogloss.errors import load_name
from isogloss.version import __version__

if TYPE_CHECKING:
    from isogloss.service.client.client import AsyncClient, Client
    from isogloss.service.client.connect import connect, connect_async

__all__ = ["AsyncClient", "Client", "__version__", "connect", "connect_async"]

_HOMES = {
    "AsyncClient": "isogloss.service.client.client",
    "Client": "isogloss.service.client.client",
    "__version__": "isogloss.version",
    "connect": "isogloss.service.client.connect",
    "connect_async": "isogloss.service.client.connect",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'isogloss' has no attribute {name!r}; public: {__all__}")
    return load_name(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
