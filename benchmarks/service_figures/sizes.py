"""How much each figure of the service measures: in full, or a little to try the code."""

from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What is sent, asked and waited for."""

    rounds: int = 5
    """Interleaved rounds, of which medians are taken."""
    wire_bytes: int = 256 * MIB
    """Sent by each lane in a round."""
    direct_bytes: int = 1024 * MIB
    """Sent by the direct lane in a round: of it the server sees only that it begins and ends."""
    durable_bytes: int = 256 * MIB
    """Sent by all streams of a round together."""
    durable_rounds: int = 3
    """Interleaved rounds of streams and the bare file."""
    memory_s: float = 40.0
    """For how long streams and readers press on a server's memory."""
    memory_streams: int = 128
    """Producers that press on it."""
    victim_s: float = 8.0
    """For how long the victim's calls are timed in each abuse."""
    quiet_s: float = 2.0
    """For how long they are timed before each abuse, which together is the quiet time."""
    dictionaries: int = 8
    """Of the atlas."""
    features: int = 24_576
    """Of each dictionary."""
    segments: int = 65_536
    """Of the probe."""
    queries: int = 400
    """Questions of each kind."""
    executions: int = 20_000
    """Calls of the fuzzer in this run."""
    are_kept: bool = True
    """Whether what the fuzzer finds is added to what earlier runs found."""
    directory: Path | None = None
    """On which disk the durable figures write; None: that of temporary files."""


SMALL = Sizes(
    rounds=2,
    wire_bytes=8 * MIB,
    direct_bytes=8 * MIB,
    durable_bytes=4 * MIB,
    durable_rounds=1,
    memory_s=2.0,
    memory_streams=8,
    victim_s=0.5,
    quiet_s=0.3,
    dictionaries=2,
    features=256,
    segments=512,
    queries=20,
    executions=300,
    are_kept=False,
)
"""Enough to run every line; the numbers mean nothing."""
