"""Record a live model: hooks on its forward pass, a queue, and a thread that appends.

The hooks copy rows to the CPU and return. What goes wrong after that costs the pass that it
concerns, which is counted with its reason; only an error of the store itself stops recording. The
loop that runs the model gets an exception only with ``strict``.
"""

import itertools
import logging
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Literal, cast

from torch import nn

from isogloss.errors import Conflict, DeadlineExceeded, InvalidInput, IsoglossError
from isogloss.models import (
    ModelMode,
    PassReader,
    PassRows,
    TextDocument,
    WeightWatch,
    unwrapped,
)
from isogloss.service.recording.options import RecorderCounts, RecorderOptions
from isogloss.service.recording.queue import SAY_AFTER_S, PassQueue, QueuedPass
from isogloss.service.recording.sampling import check_producer
from isogloss.service.recording.sender import Sender
from isogloss.service.recording.tally import Tally
from isogloss.service.recording.target import Target
from isogloss.service.recording.tensors import DTYPES, HostCopies
from isogloss.service.recording.texts import DocumentNames
from isogloss.service.values.arguments import found
from isogloss.store import Document, check_step

_log = logging.getLogger(__name__)

_MAX_TICKETS = 1 << 16
StepSource = int | Callable[[], int]
"""The training step: a number, or a function that is asked at each pass."""


@dataclass(slots=True)
class _Texts:
    """Texts of the passes that follow, of which each pass takes as many as it has sequences."""

    left: list[TextDocument]
    is_lost: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Ticket:
    """What held when a pass was made; its rows may be given later."""

    step: int
    texts: _Texts | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LiveReading:
    """How the passes of a model are read."""

    special_ids: frozenset[int] = frozenset()
    """Ids of the special tokens, of which no rows are recorded."""
    pad_id: int | None = None
    """Id of padding, for passes without a mask; None: not known."""
    call: int | None = None
    """Which call to read of a site that is called several times in one pass."""
    layout: Literal["batch_first"] | None = None
    """That outputs are ``[sequences, tokens, width]``; None: their sizes tell."""
    ids: str | None = None
    """Argument of the forward pass that holds the ids which all sites work on; None: it is told."""


class Recorder:
    """Records the activations at a model's sites while it is entered. Made by ``client.record``.

    Each sequence of each pass is one document, named by its text where that is known, else by its
    token ids. Its rows are the positions that the attention mask keeps, without special tokens. A
    document that the recording holds at the training step already is not stored again.

    ``step`` is the training step of the passes that follow; the loop sets it.
    """

    def __init__(
        self,
        module: nn.Module,
        target: Target,
        names: DocumentNames,
        *,
        producer: str,
        settings: LiveReading,
        step: StepSource = 0,
        skip_first: int = 0,
        options: RecorderOptions | None = None,
        writes: bool = True,
    ) -> None:
        """Make a recorder; it sets its hooks when it is entered.

        Args:
            module: the live model; its forward pass takes ``input_ids`` by name, or as the first
                argument.
            target: the recording, which may not exist yet.
            names: names the documents of a pass.
            producer: name of the stream of batches.
            settings: how passes are read.
            step: training step of the first passes, or a function that gives it for each.
            skip_first: how many content tokens of each document have no row.
            options: size of the queue, and what happens when it is full.
            writes: False: this process records nothing, since another one does.
        """
        self._options = options or RecorderOptions()
        self._target = target
        self._names = names
        self._special = settings.special_ids
        self._writes = writes
        self._reader = self._new_reader(module, settings)
        self._module = unwrapped(module)
        self._mode = ModelMode(
            self._module, None if target.spec is None else target.spec.provenance
        )
        self._weights = WeightWatch(self._module)
        self._copies = HostCopies()
        self._tally = Tally()
        self._queue = PassQueue(self._options, self._tally)
        self._sender = Sender(
            self._queue,
            target,
            names,
            self._tally,
            producer=check_producer(producer),
            options=self._options,
            skip_first=skip_first,
        )
        self._step: StepSource = step
        self._said = threading.local()
        self._tickets: dict[int, _Ticket] = {}
        self._numbers: dict[tuple[int, int], int] = {}
        self._next_ticket = itertools.count(1)
        self._worker: threading.Thread | None = None
        self._is_left = self._is_abandoned = False

    def _new_reader(self, module: nn.Module, settings: LiveReading) -> PassReader:
        return PassReader(
            module,
            self._target.description.sites,
            take=self._seen,
            leave_out=self._left_out,
            special_ids=self._special,
            pad_id=settings.pad_id,
            call=settings.call,
            layout=settings.layout,
            ids=settings.ids,
            step=self._new_ticket,
            lose=self._lose_texts,
        )

    @property
    def _texts(self) -> _Texts | None:
        """What this thread said of the texts of its passes."""
        return getattr(self._said, "texts", None)

    @property
    def step(self) -> int:
        """The training step of the passes that follow."""
        return self._step() if callable(self._step) else self._step

    @step.setter
    def step(self, step: StepSource) -> None:
        self._step = step

    @property
    def error(self) -> Exception | None:
        """Why recording stopped, an error of the store; None as long as it goes on."""
        return self._sender.error

    @property
    def counts(self) -> RecorderCounts:
        """How many passes and rows were seen, queued, made durable and left out so far."""
        self._sender.confirm()
        counts = self._tally.counts()
        if self._is_abandoned:  # its thread may still wait for a call
            return replace(counts, lost_rows=counts.rows - counts.durable_rows)
        return counts

    @property
    def route(self) -> str:
        """A text: ``direct`` to the disk, or ``through`` the owner, and why if not direct.

        Before the first pass of a new recording it says that nothing is open yet.
        """
        return self._sender.route

    def open(self, widths: Mapping[str, int]) -> None:
        """Create the recording and open its stream at once, not at the first pass.

        The mode that the model is in now is the recording's.

        Args:
            widths: width of each site.

        Raises:
            AlreadyExists: a different recording has that id.
            InvalidInput: ``widths`` lacks a site.
            IsoglossError: the stream cannot be opened.
        """
        _check_widths(widths, self._target.description.sites)
        if self._writes:
            self._sender.open(widths, self._mode.seen(is_training=self._module.training))

    def known(
        self, sequences: Sequence[str] | Sequence[Sequence[int]], *, step: int | None = None
    ) -> list[bool]:
        """Tell which documents need no further pass: where a loop that began again goes on.

        Args:
            sequences: texts, or token ids as the model reads them, without padding.
            step: the training step; None: that of the next pass.

        Returns:
            For each sequence whether the recording holds it at that step, or this recorder took it,
            also where it is not sent yet. Passes that the reader holds back, such as those of a
            generation that has not ended, are not known.

        Raises:
            InvalidInput: texts are given, and the recording knows none.
        """
        texts = [one for one in sequences if isinstance(one, str)]
        ids = [one for one in sequences if not isinstance(one, str)]
        if texts and ids:
            raise InvalidInput(
                f"{len(texts)} of {len(sequences)} sequences are texts and {len(ids)} token ids; "
                "give one kind"
            )
        for one in ids:
            Document.from_token_ids(one)  # refuses what are no token ids
        documents = (
            self._names.of_texts(texts) if texts else self._names.of_token_ids(ids, self._special)
        )
        at = check_step(self.step if step is None else step)
        waiting = self._waiting(at)
        return [document in waiting or self._target.has(at, document) for document in documents]

    def _waiting(self, step: int) -> set[int]:
        """Return the documents of the passes that wait in the queue, or are being sent."""
        found: set[int] = set()
        for queued in self._queue.waiting():
            if queued.step == step:
                with suppress(IsoglossError):  # such a pass is left out when it is sent
                    named = queued.named or self._named(queued).named or ()
                    found |= {one.document.id for one in named}
        return found

    @contextmanager
    def documents(self, texts: Sequence[str | TextDocument]) -> Generator[None]:
        """Say which texts the passes in the block read, in the order of their sequences.

        Passes of other threads are not meant: each says for itself.

        Each pass takes as many texts as it has sequences. A pass whose tokens are not those that
        its texts encode to is left out; a text may be longer than what the model reads of it.

        Args:
            texts: the texts, with their sources where they are :class:`TextDocument`.

        Raises:
            InvalidInput: the recording has no spans, since its tokenizer gives none.
        """
        if not self._names.has_spans:
            raise InvalidInput(
                "recorder.documents() needs a fast tokenizer, which tells where tokens lie in a "
                "text: give one to client.record"
            )
        # a sequence without content has no rows, and is not among those of its pass
        given = [
            text if isinstance(text, TextDocument) else TextDocument(text=text)
            for text in texts
            if self._names.has_content(text if isinstance(text, str) else text.text)
        ]
        before, self._said.texts = self._texts, _Texts(given)
        try:
            yield
        finally:
            self._said.texts = before

    def flush(self) -> bool:
        """Wait, for at most ``wait_s``, until the rows of all passes so far are durable.

        Call it before a checkpoint is saved: a loop that goes on from there does not show the
        passes before it again. Passes that the reader holds back, such as those of a generation
        that has not ended, are not among them.

        Returns:
            Whether they are durable.

        Raises:
            IsoglossError: they are not, and the options say ``strict``.
        """
        if self._worker is None or self._is_left:
            return self.error is None
        try:
            self._queue.flush()
        except Exception as error:
            if self._options.strict:
                raise
            _log.warning("rows are not durable yet, the loop goes on: %s", error)
            return False
        return True

    def __enter__(self) -> "Recorder":
        if self._worker is not None or self._is_left:
            raise Conflict("this recorder was entered before: make a new one with client.record")
        if not self._writes:
            return self
        self._reader.__enter__()
        self._worker = threading.Thread(target=self._sender.run, name="isogloss-recorder")
        self._worker.daemon = True
        self._worker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the hooks and wait, for at most ``wait_s``, until all queued rows are durable.

        With ``strict`` the error that stopped recording is raised, unless the block raised one
        itself.
        """
        self._is_left = True
        if self._worker is None:
            return
        try:
            self._reader.__exit__(None, None, None)  # may give the rows of documents it held
        finally:
            self._queue.close()
            self._wait(self._worker)
        self._say_what_is_missing()
        if self._options.strict and self.error is not None and error is None:
            raise self.error

    def _wait(self, worker: threading.Thread) -> None:
        """Wait for the recorder's thread; end what it waits for when that takes too long."""
        wait_s = self._options.wait_s
        worker.join(min(SAY_AFTER_S, wait_s))
        if worker.is_alive() and wait_s > SAY_AFTER_S:
            _log.warning(
                "waiting until all rows are durable (%s), for at most %g s", self.route, wait_s
            )
            worker.join(wait_s - SAY_AFTER_S)
        if worker.is_alive():
            self._sender.give_up(
                DeadlineExceeded(
                    f"waited {wait_s:g} s until all rows are durable ({self.route}): the store "
                    "takes no rows; see counts.lost_rows, and run the loop again for those"
                )
            )
            worker.join(SAY_AFTER_S)
            self._is_abandoned = worker.is_alive()

    def _say_what_is_missing(self) -> None:
        counts = self.counts
        if counts.lost_rows:
            _log.error("%d rows were taken and are not stored", counts.lost_rows)
        if counts.failed_passes and not counts.rows and not counts.known_documents:
            _log.error(
                "none of %d passes was recorded: %s",
                counts.passes,
                "; ".join(counts.examples.values()),
            )

    # In the loop.

    def _new_ticket(self) -> int:
        """Note the step and the texts of a pass; the reader gives the number back with its rows."""
        step, texts = check_step(self.step), self._texts
        if self._weights.has_changed(step):
            self._tally.change_weights(step)
        # one number for what is alike, in any thread: the reader joins passes of a generation by it
        key = (step, id(texts))  # the texts live as long as the ticket
        if key not in self._numbers:
            number = next(self._next_ticket)
            self._numbers[key], self._tickets[number] = number, _Ticket(step, texts)
            if len(self._tickets) > _MAX_TICKETS:  # of steps long past
                del self._tickets[self._numbers.pop(next(iter(self._numbers)))]
        return self._numbers[key]

    def _seen(self, rows: PassRows) -> None:
        self._tally.add("passes", rows.passes)
        try:
            queued = self._queued(rows, self._tickets[rows.step])
            if queued is not None:
                self._queue.put(queued)
        except Exception as error:  # a loop must survive its recorder, unless told otherwise
            self._leave_out(error)

    def _lose_texts(self, ticket: int | None) -> None:
        """Mark the texts of a pass that is left out: how many sequences it had is not known.

        Args:
            ticket: of the pass; None: it is one of this thread, and has none.
        """
        made = None if ticket is None else self._tickets.get(ticket)
        texts = self._texts if ticket is None else made and made.texts
        if texts is not None:
            texts.is_lost = True

    def _left_out(self, error: Exception) -> None:
        self._tally.add("passes")
        self._leave_out(error)

    def _leave_out(self, error: Exception) -> None:
        self._tally.leave_out(error)
        if self._options.strict:
            raise self.error or error

    def _queued(self, rows: PassRows, ticket: _Ticket) -> QueuedPass | None:
        texts = _take_texts(ticket.texts, len(rows.documents))
        if ticket.step % self._options.every or not rows.rows:
            return None
        self._mode.check(is_training=rows.is_training)
        mode = self._mode.seen(is_training=rows.is_training)
        self._sender.show(mode)
        dtype = DTYPES[self._target.description.dtype]
        queued = QueuedPass(
            sites={name: self._copies.start(rows.sites[name], dtype) for name in rows.sites},
            token_id=rows.token_id,
            position=rows.position,
            document_index=rows.document_index,
            documents=rows.documents,
            texts=None if texts is None else tuple(text.text for text in texts),
            groups=None if texts is None else tuple(text.group for text in texts),
            named=None,
            step=ticket.step,
            rate=self._queue.rate,
            mode=mode,
        )
        if self._options.on_full == "drop" or self._options.sample < 1:
            # a hash of the names decides what is kept, before the queue is looked at
            return self._named(queued).below(self._queue.rate, self._tally)
        return queued

    def _named(self, queued: QueuedPass) -> QueuedPass:
        content = queued.content()
        named = self._names.name(queued.documents, content, queued.texts, queued.groups)
        return replace(queued, named=named)


def _take_texts(given: _Texts | None, sequences: int) -> Sequence[TextDocument] | None:
    if given is None:
        return None
    if given.is_lost or len(given.left) < sequences:
        found = f"{len(given.left)} texts are left"
        why = "a pass before it was left out" if given.is_lost else found
        given.is_lost = True
        raise InvalidInput(
            f"a pass of {sequences} sequences has no texts, since {why}: give "
            "recorder.documents() a text for each sequence of the passes in its block"
        )
    taken, given.left = given.left[:sequences], given.left[sequences:]
    return taken


def _check_widths(widths: object, sites: Sequence[str]) -> None:
    lacking = not isinstance(widths, Mapping) or any(site not in widths for site in sites)
    if lacking:
        wanted = ", ".join(f"{site!r}: 768" for site in sites)
        raise InvalidInput(
            f"widths is {found(cast('object', widths))}, wanted the width of each site, such as "
            f"{{{wanted}}}"
        )


__all__ = ["LiveReading", "Recorder", "StepSource"]
