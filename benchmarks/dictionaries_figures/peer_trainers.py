# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUnknownParameterType=false, reportUnknownArgumentType=false
# (the peers are installed in an environment of their own: benchmarks/peers.txt)
"""The trainers of SAELens, dictionary_learning and sparsify, a step at a time.

Each is driven as its own loop drives it, at its own defaults but for what a cell sets: features, k,
batch, rate and the length of its schedule. Their loops want a model or a dashboard around them;
what they do with a batch of rows is done here by the same calls in the same order.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor


class Reconstruction(NamedTuple):
    """What a trained dictionary makes of rows."""

    rows: Tensor
    """``[rows, width]``."""
    fires: Tensor
    """Which features fire on each row, bool ``[rows, features]``."""


class PeerRun(NamedTuple):
    """What a run of a peer is given."""

    width: int
    features: int
    k: int
    batch_rows: int
    steps: int
    rate: float | None
    """Peak learning rate; None: the peer's own default."""
    seed: int


class Peer(ABC):
    """A peer's trainer."""

    @abstractmethod
    def step(self, rows: Tensor) -> None:
        """Take a step on ``[batch_rows, width]``."""

    def finish(self) -> None:  # noqa: B027 (only some have anything to do)
        """Do what the peer's loop does after its last step."""

    @abstractmethod
    def held(self) -> list[Tensor]:
        """Return weights and what the optimiser keeps of each, such as moments."""

    @abstractmethod
    def directions(self) -> Tensor:
        """Return what each feature writes, ``[features, width]``."""

    @abstractmethod
    def reconstruct(self, rows: Tensor) -> Reconstruction:
        """Reconstruct rows that were not trained on."""


class SAELens(Peer):
    """``SAETrainer.fit`` of a ``TopKTrainingSAE``: ``step``, then the count of steps.

    Decay over the last 30 % to 0 and a rise over 5 %, which its runs of some hundred steps gained
    from; dead features after a tenth of the run instead of 1,000 steps, which it would not reach.
    """

    def __init__(self, run: PeerRun) -> None:
        from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
        from sae_lens.config import SAETrainerConfig
        from sae_lens.training.sae_trainer import SAETrainer

        torch.manual_seed(run.seed)
        sized = TopKTrainingSAEConfig(d_in=run.width, d_sae=run.features, k=run.k)
        self._sae = TopKTrainingSAE(sized)
        config = SAETrainerConfig(
            total_training_samples=run.steps * run.batch_rows,
            train_batch_size_samples=run.batch_rows,
            lr=3e-4 if run.rate is None else run.rate,
            lr_warm_up_steps=max(1, round(0.05 * run.steps)),
            lr_decay_steps=int(0.3 * run.steps),
            lr_end=0.0,
            dead_feature_window=max(1, run.steps // 10),
        )
        self._trainer = SAETrainer(config, self._sae, iter([]))

    def step(self, rows: Tensor) -> None:
        """Take a step."""
        self._trainer.step(rows)
        self._trainer.n_training_steps += 1

    def held(self) -> list[Tensor]:
        """Return weights and moments."""
        return _tensors(self._sae.parameters(), self._trainer.optimizer)

    def directions(self) -> Tensor:
        """Return the decoder."""
        return self._sae.W_dec.detach()

    @torch.no_grad()
    def reconstruct(self, rows: Tensor) -> Reconstruction:
        """Encode and decode."""
        found = self._sae.encode(rows)
        return Reconstruction(self._sae.decode(found), found > 0)


class DictionaryLearning(Peer):
    """``TopKTrainer.update``, as ``trainSAE`` calls it; rise over 5 %, decay over the last 30 %."""

    def __init__(self, run: PeerRun) -> None:
        from dictionary_learning.trainers.top_k import TopKTrainer

        self._trainer = TopKTrainer(
            steps=run.steps + 1,
            activation_dim=run.width,
            dict_size=run.features,
            k=run.k,
            layer=0,
            lm_name="none",
            lr=run.rate,
            warmup_steps=max(1, round(0.05 * run.steps)),
            decay_start=int(0.7 * run.steps),
            seed=run.seed,
            device="cpu",
        )
        self._step = 0

    def step(self, rows: Tensor) -> None:
        """Take a step."""
        self._trainer.update(self._step, rows)
        self._step += 1

    def held(self) -> list[Tensor]:
        """Return weights and moments."""
        return _tensors(self._trainer.ae.parameters(), self._trainer.optimizer)

    def directions(self) -> Tensor:
        """Return the decoder."""
        return self._trainer.ae.decoder.weight.detach().T

    @torch.no_grad()
    def reconstruct(self, rows: Tensor) -> Reconstruction:
        """Encode and decode."""
        found = self._trainer.ae.encode(rows)
        return Reconstruction(self._trainer.ae.decode(found), found > 0)


class Sparsify(Peer):
    """What ``Trainer`` of sparsify does with the rows of a hook point; its loop wants a model.

    Its default optimiser is signum with ScheduleFree; ``SparsifyAdam`` is its other one.
    """

    def __init__(self, run: PeerRun) -> None:
        from sparsify.config import SparseCoderConfig
        from sparsify.sparse_coder import SparseCoder

        torch.manual_seed(run.seed)
        sized = SparseCoderConfig(num_latents=run.features, k=run.k)
        self._coder = SparseCoder(run.width, sized, dtype=torch.float32)
        self._silent = torch.zeros(run.features, dtype=torch.long)
        self._started = False
        self._optimise(run)

    def _optimise(self, run: PeerRun) -> None:
        from schedulefree import ScheduleFreeWrapper
        from sparsify.sign_sgd import SignSGD

        rate = run.rate or 5e-3 / (run.features / 2**14) ** 0.5
        group = {"params": self._coder.parameters(), "lr": rate}
        self._optimiser = ScheduleFreeWrapper(SignSGD([group]), momentum=0.95)
        self._optimiser.train()
        self._schedule: Callable[[], None] = lambda: None

    def step(self, rows: Tensor) -> None:
        """Take a step."""
        coder = self._coder
        if not self._started:
            coder.b_dec.data = rows.mean(0)
            self._started = True
        coder.set_decoder_norm_to_unit_norm()
        variance = (rows - rows.mean(0)).pow(2).sum()
        found = coder(x=rows, y=rows, dead_mask=None, total_variance=variance)
        fired = torch.zeros_like(self._silent, dtype=torch.bool)
        fired[found.latent_indices.flatten()] = True
        float(found.fvu.detach())  # its running mean
        (found.fvu + found.multi_topk_fvu / 8).backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        self._optimiser.step()
        self._optimiser.zero_grad()
        self._schedule()
        self._silent += len(rows)
        self._silent[fired] = 0

    def held(self) -> list[Tensor]:
        """Return weights and the optimiser's state."""
        inner = getattr(self._optimiser, "base", self._optimiser)
        return _tensors(self._coder.parameters(), self._optimiser, inner)

    def directions(self) -> Tensor:
        """Return the decoder."""
        return self._coder.W_dec.detach()

    def finish(self) -> None:
        """Take ScheduleFree's mean of the weights, as its checkpoints do."""
        self._optimiser.eval()

    @torch.no_grad()
    def reconstruct(self, rows: Tensor) -> Reconstruction:
        """Encode and decode."""
        found = self._coder(rows)
        fires = torch.zeros(len(rows), self._coder.num_latents, dtype=torch.bool)
        return Reconstruction(
            found.sae_out, fires.scatter_(1, found.latent_indices, found.latent_acts > 0)
        )


class SparsifyAdam(Sparsify):
    """The same with Adam and its linear schedule."""

    def _optimise(self, run: PeerRun) -> None:
        from transformers import get_linear_schedule_with_warmup

        rate = run.rate or 2e-4 / (run.features / 2**14) ** 0.5
        self._adam = torch.optim.Adam(self._coder.parameters(), lr=rate)
        self._optimiser = self._adam
        rise = max(1, round(0.05 * run.steps))
        self._schedule = get_linear_schedule_with_warmup(self._adam, rise, run.steps).step

    def finish(self) -> None:
        """Bring the directions to norm 1, as its next step would."""
        self._coder.set_decoder_norm_to_unit_norm()


def _tensors(parameters: Iterable[Tensor], *optimisers: torch.optim.Optimizer) -> list[Tensor]:
    found = {id(one): one for one in parameters}
    for optimiser in optimisers:
        for state in optimiser.state.values():
            found |= {id(one): one for one in state.values() if isinstance(one, Tensor)}
    return [*found.values()]


PEERS: dict[str, Callable[[PeerRun], Peer]] = {
    "saelens": SAELens,
    "dictionary_learning": DictionaryLearning,
    "sparsify": Sparsify,
    "sparsify_adam": SparsifyAdam,
}
