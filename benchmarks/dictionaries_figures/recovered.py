"""How many planted directions TopK finds by its defaults, where all are frequent or few are.

256 directions in 64 columns, 8 on a row, 512 features, 131,072 rows eight times over. Peers are
trained on the same rows, in steps of 512, with the rate 2e-3, at which each of them was measured to
find as many as at any other; sparsify by Adam, because its default rate means nothing at this size.

``PYTHON -m dictionaries_figures.recovered WORLD PEER`` trains a peer and prints what it found.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from house_figures.figure import Figure
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dictionaries_figures.peer_trainers import PEERS, PeerRun
from dictionaries_figures.study import peers_python
from isogloss.dictionaries import PLANTED, run_trials

ROWS, EPOCHS, BATCH, RATE, FOUND = 131_072, 8, 512, 2e-3, 0.9
_PEERS = ("saelens", "dictionary_learning", "sparsify_adam")


def recovered(world: str) -> Figure:
    """Measure the share of a world's directions that is found at a cosine above 0.9."""
    with tempfile.TemporaryDirectory() as place:
        (trial,) = run_trials({world: PLANTED[world]}, ("topk",), Path(place), rows=ROWS)
    found = {peer: _asked(world, peer) for peer in _PEERS}
    scores = [one for one in found.values() if not isinstance(one, str)]
    own = trial.recovery.recovered
    return Figure(
        figure=f"recovered_{world}",
        value=round(own - max(scores), 4) if scores else None,
        bar=-0.005,
        at_most=False,
        unit="share of planted directions found, ours - the best peer's",
        peers={
            "ours": {name: round(one, 4) for name, one in trial.recovery.to_dict().items()},
            **found,
        },
        is_doubtful=len(scores) < len(_PEERS),
    )


def _asked(world: str, peer: str) -> float | str:
    python = peers_python()
    if not python.exists():
        return f"{python} is not there: make bench-peers"
    done = subprocess.run(
        [python, "-m", "dictionaries_figures.recovered", world, peer],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "SPARSIFY_DISABLE_TRITON": "1", "WANDB_MODE": "disabled"},
    )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["it ended without a word"])[-1][:200]
    return float(json.loads(done.stdout.splitlines()[-1]))


def share_found(directions: NDArray[np.floating], decoder: NDArray[np.floating]) -> float:
    """Return the share of directions with a partner above 0.9, matched one to one."""
    norms = np.maximum(np.linalg.norm(decoder, axis=1, keepdims=True), 1e-300)
    cosines = directions.astype(np.float64) @ (decoder / norms).T
    true, own = linear_sum_assignment(cosines, maximize=True)
    return float((cosines[true, own] > FOUND).sum() / len(directions))


def _of_peer(world: str, peer: str) -> float:
    planted = PLANTED[world]
    count = ROWS // planted.block(0).rows.shape[0]
    rows = torch.from_numpy(np.concatenate([planted.block(n).rows for n in range(count)]))
    variance = float((rows.double() - rows.double().mean(0)).square().sum(1).mean())
    rows *= (rows.shape[1] / variance) ** 0.5
    run = PeerRun(
        width=planted.width,
        features=2 * planted.features,
        k=max(1, round(planted.fires)),
        batch_rows=BATCH,
        steps=EPOCHS * ROWS // BATCH,
        rate=RATE,
        seed=0,
    )
    trained = PEERS[peer](run)
    for epoch in range(EPOCHS):
        order = torch.randperm(ROWS, generator=torch.Generator().manual_seed(epoch))
        for part in order.split(BATCH):
            trained.step(rows[part])
    trained.finish()
    return share_found(planted.directions(), trained.directions().double().numpy())


if __name__ == "__main__":
    print(json.dumps(_of_peer(sys.argv[1], sys.argv[2])))
