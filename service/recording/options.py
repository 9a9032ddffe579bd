"""Options of a live recorder, and what it counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from isogloss.errors import InvalidInput
from isogloss.service.values.arguments import check_flag, check_number, check_one_of, check_whole
from isogloss.short_repr import short_repr


def check_sample(share: float) -> None:
    """Raise InvalidInput for what is no share of the documents to record."""
    check_number("sample", share)
    if not 0 < share <= 1:
        raise InvalidInput(f"sample is {share}; it must be in (0, 1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class RecorderOptions:
    """Which passes a live recorder keeps, its queue, and what happens when something goes wrong."""

    on_full: Literal["block", "drop"] = "block"
    """When the queue is full: ``block`` makes the loop wait for room, ``drop`` halves the share of
    documents that is kept, again until there is room. Which documents stay depends on their ids
    alone, never on the load.
    """
    queue_bytes: int = 256 << 20
    """Most bytes of rows in the queue; a single pass may be larger than this."""
    batch_rows: int = 4096
    """Least rows of one batch, unless its bytes reach 16 MiB before, or the training step changes.
    """
    wait_s: float = 300.0
    """For how many seconds the loop waits for room in the queue, and at the end until all rows are
    durable. After that the error is told, and the loop goes on.
    """
    strict: bool = False
    """Whether errors are raised in the loop that runs the model."""
    sample: float = 1.0
    """Share of the documents that is recorded, in ``(0, 1]``; a hash of a document's id decides, so
    that two models keep the same documents.
    """
    every: int = 1
    """Only passes at training steps that this divides are recorded."""
    again: bool = False
    """Whether a document is stored again that the recording holds at the training step already."""

    def __post_init__(self) -> None:
        check_one_of("on_full", self.on_full, ("block", "drop"))
        for name in ("queue_bytes", "batch_rows", "every"):
            check_whole(name, getattr(self, name), 1)
        for name in ("strict", "again"):
            check_flag(name, getattr(self, name))
        check_number("wait_s", self.wait_s)
        if not self.wait_s > 0:
            raise InvalidInput(f"wait_s is {self.wait_s}; it must be more than 0 seconds")
        check_sample(self.sample)


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleRate:
    """The share of documents that a recorder keeps, from some document on."""

    share: float
    """Kept are the documents whose sample position is below this, in ``(0, 1]``."""
    first_document: int | None = None
    """Id of the first document to which it was applied; None: from the start."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RecorderCounts:
    """How many passes and rows a recorder has seen, queued, stored and left out so far."""

    passes: int
    """Forward passes of the model."""
    rows: int
    """Rows taken into the queue."""
    durable_rows: int
    """Rows on the server's disk."""
    left_out: Mapping[str, int]
    """Passes that were not recorded, by the reason: an error's message without its numbers."""
    examples: Mapping[str, str]
    """For each reason in ``left_out`` the whole message of the first pass."""
    known_documents: int
    """Documents not stored again, since the recording holds them at that training step, or an
    earlier sequence of the pass was the same. In a loop that names no step, sequences that are
    alike all have rows.
    """
    sampled_out: int
    """Documents left out since their sample position is not below the share that is kept."""
    rates: tuple[SampleRate, ...]
    """Shares of documents that were kept, in the order in which they came into force."""
    overflows: Mapping[str, int]
    """For each site the numbers that are finite in the model and infinite as they are stored."""
    without_text: int
    """Documents recorded by their token ids, in a recording with text: their tokens do not encode
    back from the decoded text. Their spans are empty.
    """
    lost_rows: int
    """Rows that were taken into the queue and could not be stored."""
    changed_weights: int
    """Passes whose weights were others than at the first pass of the same training step: the loop
    trains the model and names no step, or does not move it on.
    """

    __repr__ = short_repr

    @property
    def failed_passes(self) -> int:
        """Passes that were not recorded because of an error; ``left_out`` says why."""
        return sum(self.left_out.values())
