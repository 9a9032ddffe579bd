"""Largest sizes of what ingest holds in memory and accepts."""

from dataclasses import dataclass

from isogloss.errors import InvalidInput


@dataclass(frozen=True, kw_only=True, slots=True)
class IngestLimits:
    """Largest sizes of what one server holds in memory and accepts; all finite."""

    part_bytes: int = 1 << 20
    """Payload of a part that clients are asked to send; up to four times as much is taken."""
    batch_bytes: int = 64 << 20
    """Largest batch."""
    window_bytes: int = 32 << 20
    """Bytes that a producer may have sent and that are not durable yet."""
    held_bytes: int = 256 << 20
    """Memory for what passes through, over all clients. Batches that wait for the disk may take
    half of it, or what the largest one needs; beyond that nothing is read from the network. The
    rest is for messages to who reads, and for what grpc and the C library hold of both."""
    group_bytes: int = 64 << 20
    """Most bytes of one group commit, unless a single batch is larger."""
    sessions: int = 512
    """Producers at a time."""
    idle_session_s: float = 60.0
    """A producer that sent nothing for so many seconds may be ended where another one comes and the
    limit is reached; it connects again with its next batch."""
    idle_lane_s: float = 5.0
    """For how many seconds a lane stays open after its last producer left."""

    @property
    def waiting_bytes(self) -> int:
        """Bytes of batches that may wait for the disk, over all producers."""
        return max(self.batch_bytes, self.held_bytes // 2)

    def __post_init__(self) -> None:
        if not 0 < self.part_bytes <= self.batch_bytes <= self.held_bytes:
            raise InvalidInput(
                f"limits must grow: part {self.part_bytes}, batch {self.batch_bytes}, "
                f"held {self.held_bytes} bytes"
            )
        if min(self.window_bytes, self.group_bytes, self.sessions) < 1:
            raise InvalidInput("limits on the window, the group and the sessions must be positive")
