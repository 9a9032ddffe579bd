"""How many calls a server answers at a time, and how slowly they may go on."""

from dataclasses import dataclass, fields

from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class CallLimits:
    """Limits of calls; all finite."""

    max_calls: int = 1024
    """Calls of all kinds at a time, shared between clients; more are refused with
    ResourceExhausted."""
    streams: int = 64
    """Calls at a time that read rows or follow upkeep; each has a thread while its next message is
    made."""
    threads: int = 16
    """Threads that answer all other calls."""
    read_idle_s: float = 300.0
    """Within so many seconds who reads a stream must take each message."""
    read_total_s: float = 24 * 3600.0
    """For how many seconds a stream may be read."""
    part_idle_s: float = 60.0
    """Within so many seconds the next part of a batch must come that has begun: what came of it
    holds memory."""
    part_bytes_per_s: int = 256 << 10
    """Pace at which a batch must come, on the whole, beyond the first ``part_idle_s`` seconds."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value: float = getattr(self, field.name)
            if not value > 0:
                raise InvalidInput(f"{field.name} is {value}, wanted more than 0")
