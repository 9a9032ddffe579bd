"""Training of dictionaries, which a kill at any moment does not change."""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from isogloss.dictionaries.config import TrainConfig
from isogloss.dictionaries.initialise import tensor_hash
from isogloss.dictionaries.kinds.kind import StepBatch
from isogloss.dictionaries.provenance import TrainProgress
from isogloss.dictionaries.rows.batches import TrainingBatch
from isogloss.dictionaries.rows.measure import Measured
from isogloss.dictionaries.rows.source import Source
from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.dictionaries.training.checkpoints import CheckpointDirectory, exclusive
from isogloss.dictionaries.training.identity import RunIdentity
from isogloss.dictionaries.training.plan import TrainPlan, make_plan
from isogloss.dictionaries.training.ranks import RankGroup, TrainingRanks, code_hash, ranks_of
from isogloss.dictionaries.training.shares import shared_batches
from isogloss.dictionaries.training.skip import skipped, train_skip
from isogloss.dictionaries.training.state import TrainState, measure
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
    given: Tensor | None = None,
    ranks: TrainingRanks = "all",
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
        given: decoder directions to start from, ``[features, target_width]`` of raw rows, where
            ``config.init`` has ``directions="given"``.
        ranks: which processes train together, all with the same arguments. By default those of
            the process group that was initialised (under torchrun); where there is none, and for
            "one", this process alone. Each reads its own part of every batch and encodes a part;
            the first writes the checkpoints, and only it looks into the directory. Any number of
            ranks goes on from the checkpoint of any other.

    Returns:
        The dictionary, on the CPU, ready for raw activations; on every rank.

    Raises:
        JobCancelled: ``should_stop`` became true, on any rank.
        RankLost: another rank ended.
        Conflict: the directory holds another run, or another process trains in it; or ranks differ
            in release, config or revision.
        CorruptData: checkpoints are there but damaged.
        UnknownSite: the recording has no such site.
        InvalidInput: no such kind or wiring, settings or sites that they refuse, too few training
            rows, or rows that do not vary.
        NonFiniteRows: a row holds NaN or infinity.
    """
    told = on_progress or _ignore
    (made,) = train_together(
        [config],
        sources,
        [directory],
        on_progress=lambda _, progress: told(progress),
        should_stop=should_stop,
        device=device,
        given=[given],
        ranks=ranks,
    )
    return made


def train_together(
    configs: Sequence[TrainConfig],
    sources: Sequence[Source],
    directories: Sequence[Path],
    *,
    on_progress: Callable[[int, TrainProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    device: str | None = None,
    given: Sequence[Tensor | None] = (),
    ranks: TrainingRanks = "all",
) -> list[SparseDictionary]:
    """Train several dictionaries on the rows of the same sites; what they read is read once.

    Each ends with the bits that :func:`train` gives it alone. Runs share a read where ``rows_seed``
    (or else ``seed``), ``batch_rows``, ``holdout``, ``leave_out`` and ``steps`` are the same;
    others are read after one another. A run that was killed resumes from its own checkpoint.

    Args:
        configs: settings of each, at least one.
        sources: the sites that the wiring of each wants.
        directories: the directory of each run, all different.
        on_progress: called with the place of a run and its progress, as :func:`train` calls it.
        should_stop: asked before each step; once true, all runs save a checkpoint and stop.
        device: where to train; None takes the first CUDA device when torch sees one, else the CPU.
        given: for each config the decoder to start from, as :func:`train` takes it; empty: none.
        ranks: which processes train together, as :func:`train` takes it.

    Returns:
        The dictionaries in the order of the configs, on the CPU.

    Raises:
        JobCancelled: ``should_stop`` became true, on any rank.
        RankLost: another rank ended.
        Conflict: a directory holds another run, or another process trains in it; or ranks differ.
        CorruptData: checkpoints are there but damaged.
        UnknownSite: the recording has no such site.
        InvalidInput: as for :func:`train`; or there is not one directory for each config.
        NonFiniteRows: a row holds NaN or infinity.
    """
    decoders, place, group = [*given] or [None] * len(configs), _device(device), ranks_of(ranks)
    plans = group.agree(partial(_plans, configs, sources, directories, decoders))
    identities = [RunIdentity.of(plan) for plan in plans]
    _require_same(group, identities, decoders, place)
    told, asked = on_progress or _ignore_several, should_stop or _never
    with ExitStack() as held:
        shared = _Shared(ranks=group, place=place, workspace=Workspace(), measured=_MeasuredOnce())
        runs = [
            _Run(
                plan=plan,
                identity=identity,
                shared=shared,
                checkpoints=group.agree(partial(_checkpoints, held, directories[number], group)),
                on_progress=partial(told, number),
                given=decoders[number],
            )
            for number, (plan, identity) in enumerate(zip(plans, identities, strict=True))
        ]
        for together in _reading_the_same(runs):
            _go(together, asked, group)
        return [run.made() for run in runs]


def _plans(
    configs: Sequence[TrainConfig],
    sources: Sequence[Source],
    directories: Sequence[Path],
    decoders: Sequence[Tensor | None],
) -> list[TrainPlan]:
    """Return what each run will do; rows that may be trained on are found once for all."""
    _check_as_many(configs, directories, decoders)
    plans: list[TrainPlan] = []
    for config in configs:
        plans.append(make_plan(config, sources, plans))
    return plans


def _require_same(
    ranks: RankGroup,
    identities: Sequence[RunIdentity],
    decoders: Sequence[Tensor | None],
    place: torch.device,
) -> None:
    """Refuse ranks that differ; one run stands in the error without its number."""
    if ranks.world == 1:
        return  # reading the code takes a while
    runs = {f"run {number}": one.to_dict() for number, one in enumerate(identities)}
    ranks.require_same(
        {
            **(runs if len(runs) > 1 else runs.get("run 0", {})),
            "code": code_hash(),
            "device": place.type,
            "given": [None if one is None else tensor_hash(one) for one in decoders],
        }
    )


def _checkpoints(held: ExitStack, directory: Path, ranks: RankGroup) -> CheckpointDirectory | None:
    """Return the locked directory of a run, on the rank that reads and writes it."""
    return held.enter_context(exclusive(directory)) if ranks.is_first else None


def _check_as_many(
    configs: Sequence[TrainConfig],
    directories: Sequence[Path],
    decoders: Sequence[Tensor | None],
) -> None:
    if not configs or len({*directories}) != len(configs) or len(directories) != len(configs):
        raise InvalidInput(
            f"there are {len(configs)} configs and {len({*directories})} different directories of "
            f"{len(directories)}; wanted one directory for each of at least one config"
        )
    if len(decoders) != len(configs):
        raise InvalidInput(f"given has {len(decoders)} decoders for {len(configs)} configs")


class _MeasuredOnce:
    """Measures rows, once for all plans that have the same."""

    def __init__(self) -> None:
        self._known: list[tuple[TrainPlan, Measured]] = []

    def of(self, plan: TrainPlan) -> Measured:
        for other, found in self._known:
            same = other.connection == plan.connection
            same &= other.config.leave_out == plan.config.leave_out
            if same and np.array_equal(other.keep, plan.keep):
                return found
        self._known.append((plan, measure(plan)))
        return self._known[-1][1]


class _Shared(NamedTuple):
    """What the runs of one call have in common."""

    ranks: RankGroup
    place: torch.device
    workspace: Workspace
    measured: _MeasuredOnce


def _reading_the_same(runs: "Sequence[_Run]") -> "list[list[_Run]]":
    """Group the runs that read the same rows in the same order."""
    groups: list[list[_Run]] = []
    for run in runs:
        own = run.plan
        for group in groups:
            other = group[0].plan
            same = (own.rows_seed, own.derived.batch_rows, own.config.leave_out) == (
                *(other.rows_seed, other.derived.batch_rows),
                other.config.leave_out,
            )
            if same and np.array_equal(own.keep, other.keep):
                group.append(run)
                break
        else:
            groups.append([run])
    return groups


def _go(runs: "Sequence[_Run]", should_stop: Callable[[], bool], ranks: RankGroup) -> None:
    """Take the remaining steps of runs that read the same."""
    unfinished = [run for run in runs if run.state.step < run.plan.total_steps]
    if not unfinished:
        return
    plan, measured = unfinished[0].plan, unfinished[0].state.measured
    batches = shared_batches(
        plan,
        measured,
        ranks,
        start_step=min(run.state.step for run in unfinished),
        stop_step=max(run.plan.total_steps for run in unfinished),
    )
    with closing(batches):
        for batch in batches:
            if ranks.any(own=should_stop()):
                for run in unfinished:
                    run.save()
                step = min(run.state.step for run in unfinished)
                raise JobCancelled(
                    f"training was cancelled after step {step} of {plan.total_steps}; "
                    "train again with the same settings to go on from there"
                )
            for run in unfinished:
                run.take(batch)
    for run in unfinished:
        run.save()


class _Run:
    """One process's share of a run."""

    def __init__(
        self,
        *,
        plan: TrainPlan,
        identity: RunIdentity,
        shared: _Shared,
        checkpoints: CheckpointDirectory | None,
        on_progress: Callable[[TrainProgress], None],
        given: Tensor | None,
    ) -> None:
        self.plan = plan
        self._given = given
        self._identity = identity
        self._checkpoints = checkpoints
        self._shared, self._ranks = shared, shared.ranks
        self._on_progress = on_progress
        self.state = self._begin()
        columns = plan.columns
        self._feature_columns = None if columns is None else columns.to(shared.place)
        self._saved = -1
        self._said_few = False
        self._first_step = self.state.step
        self._started = self._reported = time.monotonic()

    def _begin(self) -> TrainState:
        """Return the state of the newest checkpoint, or a new one; the first rank's on all."""
        begun = self._ranks.agree(self._own_state)
        if self._ranks.world == 1 and begun is not None:
            return begun
        known = None if begun is None else begun.checkpoint(self._identity)
        handed, plan, place = self._ranks.hand_out(known), self.plan, self._shared.place
        restore = partial(TrainState.restore, handed, plan, self._identity, place, self._given)
        return self._ranks.agree(restore)

    def _own_state(self) -> TrainState | None:
        """Return the state that the first rank finds or makes; None on the others."""
        if self._checkpoints is None:
            return None
        plan, place = self.plan, self._shared.place
        found = self._checkpoints.newest()
        if found is None:
            measured = self._shared.measured.of(plan)
            return TrainState.start_with(plan, measured, place, self._given)
        state = TrainState.restore(found, plan, self._identity, place, self._given)
        _LOG.info("resuming at step %d of %d", state.step, plan.total_steps)
        return state

    def take(self, batch: TrainingBatch) -> None:
        """Take the step of a batch, unless this run has taken it or ended before it."""
        plan = self.plan
        if batch.step != self.state.step or batch.step >= plan.total_steps:
            return
        self._step(batch)
        self._report()
        if self.state.step % plan.config.checkpoint_every == 0:
            self.save()

    def save(self) -> None:
        """Write a checkpoint of where the run is, unless it is there."""
        if self._saved != self.state.step:
            self._ranks.require_equal(self.state.tensors)
            self._ranks.agree(self._write)
            self._saved = self.state.step

    def _write(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.save(self.state.checkpoint(self._identity))

    def made(self) -> SparseDictionary:
        """Return the dictionary."""
        return self.state.export(self.plan, self._identity, self._given)

    def _step(self, batch: TrainingBatch) -> None:
        plan, state = self.plan, self.state
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
            dead=state.dead(plan.derived.dead_after_rows),
            workspace=self._shared.workspace,
            columns=self._feature_columns,
            parts=plan.parts,
            share=self._ranks.share,
        )
        result = plan.kind.step(state.tensors, taken)
        if state.held is not None:
            state.held.apply(state.tensors)
        state.count_parts(plan, batch, taken, result)
        if plan.connection.skip:
            train_skip(state.tensors, centred, taken, result)
        state.count(result, len(batch.rows))

    def _say_few(self) -> None:
        """Warn once where fewer features live than are meant to fire on one row."""
        live, wanted = self.state.live(self.plan.derived.dead_after_rows), self.plan.kind.fires
        if live < wanted and not self._said_few:
            self._said_few = True
            _LOG.warning(
                "%d of %d features fired in the last %d rows, fewer than the %g that are meant to "
                "fire on each row: lower k (or target_l0), or look whether the rows vary in as "
                "many directions",
                live,
                self.plan.kind.features,
                self.plan.derived.dead_after_rows,
                wanted,
            )

    def _report(self) -> None:
        plan, state = self.plan, self.state
        now = time.monotonic()
        steps = state.step - self._first_step
        rate = steps * plan.derived.batch_rows / max(now - self._started, 1e-9)
        due = state.step % plan.curve_every == 0 or state.step == plan.total_steps
        if due:
            self._say_few()
        if due or now - self._reported >= _REPORT_S:
            self._reported = now
            self._on_progress(state.progress(plan, rows_per_s=rate, close_window=due))


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


def _ignore_several(place: int, progress: TrainProgress) -> None:
    """Take no notice."""


def _never() -> bool:
    return False
