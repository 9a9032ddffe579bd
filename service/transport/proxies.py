"""Proxies that the environment names, which gRPC asks unless it is told otherwise."""

import ipaddress
import os

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")
"""Variables that gRPC asks for a proxy, in this order."""


def is_local(address: str) -> bool:
    """Say whether an address is one of this machine."""
    if address.startswith("unix:"):
        return True
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost" or host.lower().endswith(".localhost")


def proxy_in_the_way(address: str) -> str:
    """Return what to add to an error about a server that is not reached: which proxy was asked."""
    if is_local(address):
        return ""
    for name in _VARIABLES:
        if proxy := os.environ.get(name):
            return (
                f"; the environment variable {name} sends calls through {_without_secrets(proxy)}: "
                "name the server's host in no_proxy if it is reached directly"
            )
    return ""


def _without_secrets(proxy: str) -> str:
    """Return a proxy's address without the name and password that may stand in it."""
    return proxy.rpartition("@")[2].rpartition("://")[2]
