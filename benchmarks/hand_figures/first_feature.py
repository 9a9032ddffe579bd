"""How long it takes from an empty environment to a feature's texts, by the README's lines alone.

A virtual environment is made, this package installed with pip's cache as it is, TransformerLens
beside it; then an own tiny model of it is recorded in a loop, a dictionary trained, and
the contexts of its liveliest feature printed. It takes minutes and needs a package index, so it is
measured with ``--full`` only:
``PYTHONPATH=src:benchmarks python -m hand_figures.first_feature --json --full``.
"""

import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from house_figures.figure import Figure, show

ROOT = Path(__file__).resolve().parents[2]
_USER = """
import torch
import isogloss
from isogloss.models import LoadedModel
from transformer_lens import HookedTransformer, HookedTransformerConfig

torch.manual_seed(0)
config = HookedTransformerConfig(
    n_layers=2, d_model=32, n_ctx=64, d_head=8, n_heads=4, act_fn="relu", d_vocab=200
)
model = HookedTransformer(config)
loader = [torch.randint(0, 200, (8, 48)) for _ in range(24)]
with isogloss.connect("./my-store") as client:
    with client.record(model, sites=["blocks.1.hook_resid_post"], recording="run-12") as recorder:
        for batch in loader:
            model(batch)
    dictionary = client.train(
        "run-12", site="blocks.1.hook_resid_post", features=64, k=8, epochs=20
    ).result()
    rows = client.read("run-12", "blocks.1.hook_resid_post", 0, 512)
    values, indices = client.encode(dictionary, rows.astype("float32"))
    shown = client.feature(dictionary.feature(int(indices[0, 0])))
    for place in shown.contexts[:3]:
        print("context", place.value, place.before, place.peak, place.after)
"""


def measure(*, is_full: bool) -> Iterator[dict[str, object]]:
    """Do what a newcomer does, and tell the minutes; without ``is_full`` nothing is measured."""
    minutes, peers = None, dict[str, object](reason="measured with --full: it installs packages")
    if is_full:
        with tempfile.TemporaryDirectory(prefix="isogloss-first-") as folder:
            minutes, peers = _walk(Path(folder))
    yield Figure(
        figure="first_feature",
        value=minutes,
        bar=5.0,
        unit="minutes",
        peers=peers,
        is_doubtful=is_full and not peers.get("contexts"),
    ).to_dict()


def _walk(folder: Path) -> tuple[float, dict[str, object]]:
    began = time.perf_counter()
    venv.create(folder / "env", with_pip=True)
    python = str(folder / "env" / "bin" / "python")
    wanted = (ROOT / "examples" / "recording" / "transformer-lens-3.txt").read_text().split()
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", ROOT / "constraints.txt"]
    subprocess.run([*install, f"{ROOT}[server]", *wanted], check=True)
    installed = time.perf_counter()
    ended = subprocess.run(
        [python, "-c", _USER], cwd=folder, capture_output=True, text=True, check=False
    )
    done = time.perf_counter()
    return (done - began) / 60, {
        "install_minutes": round((installed - began) / 60, 2),
        "contexts": ended.stdout.count("context "),
        "error": ended.stderr[-400:] if ended.returncode else "",
    }


if __name__ == "__main__":
    sys.exit(show(measure(is_full="--full" in sys.argv), is_json="--json" in sys.argv))
