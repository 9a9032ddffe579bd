"""Which heavy modules the command line loads when it asks a server."""

import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from house_figures.figure import Figure
from house_figures.sources import ROOT
from isogloss.store import Store

HEAVY = ("torch", "triton", "numba", "faiss", "zarr", "numcodecs", "scipy", "transformers")
_FEATURES = 40
_MAIN = "from isogloss.service.cli.main import main; main()"
_LISTING = f"""
import os, sys
from isogloss.service.cli.main import main
try:
    main()
finally:
    loaded = [name for name in {HEAVY} if name in sys.modules]
    os.write(2, ("\\nloaded " + " ".join(loaded)).encode())
"""


def light() -> Figure:
    """Count the heavy modules in the processes of three commands, two of them asking a server."""
    with tempfile.TemporaryDirectory(prefix="isogloss-house-") as place:
        store = Path(place) / "store"
        recordings = _record(store)
        with _served(store):
            for recording, site in recordings.items():
                _run(
                    [
                        *("train", recording, "--site", site, "--dictionary", f"of-{recording}"),
                        *("--features", str(_FEATURES), "--k", "3", "--epochs", "6"),
                    ],
                    store,
                )
            first = next(iter(recordings))
            nearest = _answered(f"of-{first}", store)
            commands = {"--help": ["--help"], "describe": ["describe", first], "nearest": nearest}
            loaded = {name: _loaded_by(words, store) for name, words in commands.items()}
    return Figure(
        figure="light",
        value=len({module for modules in loaded.values() for module in modules}),
        bar=0,
        unit=f"modules of {', '.join(HEAVY)} loaded by --help, or by others against a server",
        peers=dict(loaded),
    )


def _answered(dictionary: str, store: Path) -> list[str]:
    """Return a query about the first feature that fires often enough; the probe is built by it."""
    refused = ""
    for feature in range(_FEATURES):
        words = ["nearest", dictionary, str(feature)]
        try:
            _run(words, store)
        except RuntimeError as error:
            refused = str(error)
        else:
            return words
    raise RuntimeError(f"no feature of {dictionary!r} can be asked for; the last said: {refused}")


def _record(store: Path) -> dict[str, str]:
    """Write two small recordings that the tests use, and return the site of each."""
    planted = _planted()
    with Store.open(store) as opened:
        for seed, recording in enumerate(planted.SITES):
            planted.record(opened, recording, seed=seed)
    return dict(planted.SITES)


def _planted() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "planted", ROOT / "tests" / "service" / "planted.py"
    )
    if spec is None or spec.loader is None:
        raise FileNotFoundError("tests/service/planted.py makes the recordings: restore it")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def _served(store: Path) -> Generator[None]:
    """Serve a store for the length of a block."""
    server = subprocess.Popen(
        [sys.executable, "-c", _MAIN, "serve", "--store", str(store), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    if server.stdout is None:
        raise RuntimeError("the server has no standard output")
    try:
        for line in server.stdout:
            if line == "}\n":  # the end of the JSON that says where it listens
                break
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
        server.stdout.close()


def _run(words: Sequence[str], store: Path, code: str = _MAIN) -> str:
    """Run a command and return what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"ISOGLOSS_STORE": str(store)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"isogloss {' '.join(words)} ended with {json.dumps(done.stderr)}")
    return done.stderr


def _loaded_by(words: Sequence[str], store: Path) -> list[str]:
    return _run(words, store, _LISTING).rpartition("loaded ")[2].split()
