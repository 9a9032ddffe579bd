# pyright: reportMissingImports=false, reportUnknownLambdaType=false
# (the peers are installed in an environment of their own)
"""Peers' training steps beside ours, step by step in one process.

The peers are installed apart, in an environment that also finds isogloss: ``ISOGLOSS_PEERS`` names
its Python. Without it, or where a peer does not import, its figures have no value but the reason.

``$ISOGLOSS_PEERS -m dictionaries_figures.peers PEER FEATURES`` prints both medians as JSON.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from house_figures.figure import Figure
from torch import Tensor

ROWS, THREADS, SETTLING, TIMED, K, WIDTH = 1024, 2, 8, 12, 32, 384
BARS = {
    "vs_dictionary_learning_3k": ("dictionary_learning", 3072, 4.3),
    "vs_dictionary_learning_12k": ("dictionary_learning", 12_288, 6.3),
    "vs_saelens_3k": ("saelens", 3072, 5.0),
    "vs_saelens_12k": ("saelens", 12_288, 8.0),
    "vs_sparsify_3k": ("sparsify", 3072, 2.8),
    "vs_sparsify_12k": ("sparsify", 12_288, 2.8),
}


def beside(name: str) -> Figure:
    """Measure how many times faster our step is than a peer's."""
    peer, features, bar = BARS[name]
    found = _asked(peer, features)
    value = None if "reason" in found else found["theirs_s"] / found["ours_s"]
    return Figure(
        figure=name,
        value=None if value is None else round(value, 2),
        bar=bar,
        at_most=False,
        unit=f"median step of {peer} / ours, TopK, {features} features, batch 1024, two threads",
        peers=dict(found),
        runs=TIMED if value is not None else 0,
    )


def _asked(peer: str, features: int) -> dict[str, float]:
    python = os.environ.get("ISOGLOSS_PEERS")
    if not python:
        return {"reason": "ISOGLOSS_PEERS names no Python with the peer"}  # pyright: ignore[reportReturnType]
    done = subprocess.run(
        [python, "-m", "dictionaries_figures.peers", peer, str(features)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_WAIT_POLICY": "passive", "SPARSIFY_DISABLE_TRITON": "1"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        return {"reason": last[:200]}  # pyright: ignore[reportReturnType] (said instead of a value)
    return json.loads(done.stdout.splitlines()[-1])


def _saelens(features: int) -> Callable[[Tensor], object]:
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=WIDTH, d_sae=features, k=K))
    config = SAETrainerConfig(
        total_training_samples=10**6,
        train_batch_size_samples=ROWS,
        lr=3e-3,
        lr_warm_up_steps=1,
        lr_decay_steps=0,
        lr_end=3e-3,
        dead_feature_window=1000,
    )
    return SAETrainer(config, sae, iter([])).step


def _dictionary_learning(features: int) -> Callable[[Tensor], object]:
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=1000, activation_dim=WIDTH, dict_size=features, k=K, layer=0, lm_name="x",
        warmup_steps=1, seed=0, device="cpu",
    )  # fmt: skip
    count = iter(range(1000))
    return lambda rows: trainer.update(next(count), rows)


def _sparsify(features: int) -> Callable[[Tensor], object]:
    from sparsify.config import SparseCoderConfig
    from sparsify.sparse_coder import SparseCoder

    coder = SparseCoder(WIDTH, SparseCoderConfig(num_latents=features, k=K), dtype=torch.float32)
    optimiser = torch.optim.Adam(coder.parameters(), lr=1e-3)

    def step(rows: Tensor) -> None:
        coder.set_decoder_norm_to_unit_norm()
        coder(x=rows, y=rows, dead_mask=None).fvu.backward()
        coder.remove_gradient_parallel_to_decoder_directions()
        optimiser.step()
        optimiser.zero_grad()

    return step


_PEERS = {
    "saelens": _saelens,
    "dictionary_learning": _dictionary_learning,
    "sparsify": _sparsify,
}


def _interleaved(peer: str, features: int) -> dict[str, float]:
    from dictionaries_figures.rows import batches
    from dictionaries_figures.speeds import Stepped

    torch.set_num_threads(THREADS)
    rows = batches(SETTLING + TIMED, ROWS)
    theirs, ours = _PEERS[peer](features), Stepped("topk", {"features": features, "k": K}, rows)
    seconds: list[float] = []
    for batch in rows:
        began = time.perf_counter()
        theirs(batch.clone())
        seconds.append(time.perf_counter() - began)
        ours.take(batch)
    return {
        "theirs_s": statistics.median(seconds[SETTLING:]),
        "ours_s": statistics.median(ours.seconds[SETTLING:]),
    }


if __name__ == "__main__":
    print(json.dumps(_interleaved(sys.argv[1], int(sys.argv[2]))))
