"""How many planted directions TopK finds by its defaults, where all are frequent or few are.

256 directions in 64 columns, 8 on a row, 512 features, 131,072 rows eight times over: about as
many steps as the peers were given when they were measured.
"""

import tempfile
from pathlib import Path

from house_figures.figure import Figure

from isogloss.dictionaries import PLANTED, run_trials

_KINDS = ("topk",)


def recovered(world: str) -> Figure:
    """Measure the share of a world's directions that is found at a cosine above 0.9."""
    with tempfile.TemporaryDirectory() as place:
        trials = run_trials({world: PLANTED[world]}, _KINDS, Path(place))
    own: dict[str, object] = {
        trial.kind: {name: round(value, 4) for name, value in trial.recovery.to_dict().items()}
        for trial in trials
    }
    return Figure(
        figure=f"recovered_{world}",
        value=None,
        bar=-0.005,
        at_most=False,
        unit="share of planted directions found, ours - the best peer's",
        peers={**own, "reason": "no peer is trained on these rows; our own scores stand here"},
    )
