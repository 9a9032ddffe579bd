"""Decide how long to wait between two tries while a server is away, and when to stop trying."""

import random
import time

from isogloss.errors import IsoglossError

RECONNECT_S = 60.0
"""How long callers go on trying while a server is away, unless told otherwise."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
_LEAST_SHARE = 0.5
"""A pause is cut at random to between this share and all of it: many do not come at once then."""


class Patience:
    """Pauses between tries, which double up to half a second, and a limit on their sum.

    The time is counted from the first failure after :meth:`reset`. Not thread-safe.
    """

    def __init__(self, limit_s: float = RECONNECT_S) -> None:
        """Begin without a failure.

        Args:
            limit_s: for how many seconds after the first failure to go on trying.
        """
        self._limit_s = limit_s
        self._since: float | None = None
        self._next_s = _FIRST_PAUSE_S

    def reset(self) -> None:
        """Forget earlier failures, since the server answered."""
        self._since = None
        self._next_s = _FIRST_PAUSE_S

    def pause_s(self, error: IsoglossError) -> float:
        """Return how long to wait before the next try.

        Args:
            error: why the last try failed.

        Raises:
            IsoglossError: ``error`` itself, once the limit has passed.
        """
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._limit_s:
            raise error
        pause_s = random.uniform(_LEAST_SHARE, 1.0) * self._next_s
        self._next_s = min(2 * self._next_s, _LONGEST_PAUSE_S)
        return pause_s
