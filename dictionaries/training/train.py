"""Training of one dictionary, which a kill at any moment does not change."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import torch
from torch import Tensor

from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.kinds.kind import StepBatch
from isogloss.dictionaries.provenance import TrainProgress
from isogloss.dictionaries.rows.batches import TrainingBatch, joined_batches
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.dictionaries.training.checkpoints import CheckpointDirectory, exclusive
from isogloss.dictionaries.training.identity import RunIdentity
from isogloss.dictionaries.training.plan import TrainPlan, make_plan
from isogloss.dictionaries.training.skip import skipped, train_skip
from isogloss.dictionaries.training.state import TrainState
from isogloss.errors import InvalidInput, JobCancelled
from isogloss.kernels import Workspace

_LOG = logging.getLogger(__name__)
_REPORT_S = 1.0


def train(
    config: TrainConfig,
    sources: Sequence[Source],
    directory: Path,
    *,
    on_progress: Callable[[TrainProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str | None = None,
) -> SparseDictionary:
    """Train a dictionary on the rows of sites, resuming from ``directory`` where it holds a run.

    The loss is that of the kind, see its file in ``kinds/``. Killed at any moment and called again
    with the same arguments, it returns bitwise the tensors of an uninterrupted run; so it does for
    any number of threads.

    Args:
        config: settings.
        sources: the sites that the wiring wants, such as one for an autoencoder, in its order. Each
            has a reader that is pinned by its revision. Of several recordings the rows that all of
            them have are joined by document and position.
        directory: directory of this run: checkpoints go here.
        on_progress: called about once a second, and at every point of the training curve.
        should_stop: asked before each step; once true, the run saves a checkpoint and stops.
        device: where to train; None takes the first CUDA device when torch sees one, else the CPU.

    Returns:
        The dictionary, on the CPU, ready for raw activations.

    Raises:
        JobCancelled: ``should_stop`` became true.
        Conflict: the directory holds another run, or another process trains in it.
        CorruptData: checkpoints are there but damaged.
        UnknownSite: the recording has no such site.
        InvalidInput: no such kind or wiring, settings or sites that they refuse, too few training
            rows, or rows that do not vary.
        NonFiniteRows: a row holds NaN or infinity.
    """
    place = _device(device)
    plan = make_plan(config, sources)
    identity = RunIdentity.of(plan)
    with exclusive(directory) as checkpoints:
        found = checkpoints.newest()
        if found is None:
            state = TrainState.start(plan, place)
        else:
            state = TrainState.restore(found, plan, identity, place)
            _LOG.info("resuming at step %d of %d", state.step, plan.total_steps)
        run = _Run(plan=plan, identity=identity, state=state, checkpoints=checkpoints)
        run.go(on_progress or _ignore, should_stop or _never)
        return state.export(plan, identity)


class _Run:
    """One process's share of a run."""

    def __init__(
        self,
        *,
        plan: TrainPlan,
        identity: RunIdentity,
        state: TrainState,
        checkpoints: CheckpointDirectory,
    ) -> None:
        self._plan = plan
        self._identity = identity
        self._state = state
        self._checkpoints = checkpoints
        self._workspace = Workspace()
        self._feature_columns = None if plan.columns is None else plan.columns.to(state.device)
        self._saved = -1
        self._first_step = state.step
        self._started = self._reported = time.monotonic()

    def go(
        self,
        on_progress: Callable[[TrainProgress], None],
        should_stop: Callable[[], bool],
    ) -> None:
        """Take the remaining steps."""
        plan, state = self._plan, self._state
        if state.step == plan.total_steps:
            return
        measured = state.measured
        batches = joined_batches(
            plan.joined,
            scales=measured.scales,
            seed=plan.seed,
            batch_rows=plan.config.batch_rows,
            keep=plan.keep,
            start_step=state.step,
            stop_step=plan.total_steps,
            usual=measured.usual,
            leave_out=measured.leave_out,
        )
        with closing(batches):
            for batch in batches:
                if should_stop():
                    self._save()
                    raise JobCancelled(
                        f"training was cancelled after step {state.step} of {plan.total_steps}; "
                        "train again with the same settings to go on from there"
                    )
                self._step(batch)
                self._report(on_progress)
                if state.step % plan.config.checkpoint_every == 0:
                    self._save()
        self._save()

    def _step(self, batch: TrainingBatch) -> None:
        plan, state = self._plan, self._state
        state.left_out(batch.left_out)
        if len(batch.rows) == 0:
            state.pass_over()
            return
        rows = batch.rows.to(state.device)
        reads = _columns(rows, plan.connection.reads)
        same = plan.connection.reads_what_it_writes
        target = reads if same else _columns(rows, plan.connection.writes)
        centred = reads
        if plan.connection.skip:
            columns = plan.connection.reads
            mean = state.normalisation.mean[columns.start : columns.stop]
            centred = reads - mean.to(reads)
            target = target - skipped(state.tensors, centred)
        taken = StepBatch(
            rows=reads,
            target=target,
            step=batch.step + 1,
            total_steps=plan.total_steps,
            learning_rate=plan.learning_rate(batch.step),
            variance=state.normalisation.variance,
            dead=state.dead(plan.dead_after_rows),
            workspace=self._workspace,
            columns=self._feature_columns,
            parts=plan.parts,
        )
        result = plan.kind.step(state.tensors, taken)
        state.count_parts(plan, batch, taken, result)
        if plan.connection.skip:
            train_skip(state.tensors, centred, taken, result)
        state.count(result, len(batch.rows))

    def _report(self, on_progress: Callable[[TrainProgress], None]) -> None:
        plan, state = self._plan, self._state
        now = time.monotonic()
        steps = state.step - self._first_step
        rate = steps * plan.config.batch_rows / max(now - self._started, 1e-9)
        due = state.step % plan.curve_every == 0 or state.step == plan.total_steps
        if due or now - self._reported >= _REPORT_S:
            self._reported = now
            on_progress(state.progress(plan, rows_per_s=rate, close_window=due))

    def _save(self) -> None:
        if self._saved != self._state.step:
            self._checkpoints.save(self._state.checkpoint(self._identity))
            self._saved = self._state.step


def _columns(rows: Tensor, columns: range) -> Tensor:
    if len(columns) == rows.shape[1]:
        return rows
    return rows[:, columns.start : columns.stop].contiguous()


def _device(name: str | None) -> torch.device:
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"device {name!r} is not one of torch's: {error}") from error


def _ignore(progress: TrainProgress) -> None:
    """Take no notice."""


def _never() -> bool:
    return False
