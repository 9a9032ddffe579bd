"""Uses a kind by name through the public names of the room, for test_toy_kind.py.

Usage: ``use_kind.py train STORE RECORDING DIRECTORY CONFIG`` trains and saves; ``use_kind.py encode
DIRECTORY ROWS`` loads and encodes random rows. Each prints a JSON object.
"""

import json
import sys
from pathlib import Path

import torch

from isogloss.dictionaries import (
    Source,
    TrainConfig,
    evaluate,
    held_out_batches,
    kind_names,
    kind_schema,
    load_dictionary,
    save_dictionary,
    train,
)
from isogloss.store import Store

SITE = "encoder.layer.3"


def _train(store: str, recording: str, directory: str, settings: str) -> dict[str, object]:
    reader = Store.attach(Path(store)).recording(recording).reader()
    config = TrainConfig.from_dict(json.loads(settings))
    made = train(config, [Source(reader=reader, site=SITE)], Path(directory) / "run")
    save_dictionary(made, Path(directory))
    held_out = held_out_batches(reader, SITE, holdout=config.holdout)
    return {
        "kinds": kind_names(),
        "schema": kind_schema(config.kind),
        "first_fvu": made.provenance.curve[0].fvu,
        "fvu": evaluate(made, held_out).fvu,
        "sha256": made.provenance.weights_sha256,
    }


def _encode(directory: str, rows: str) -> dict[str, object]:
    read = load_dictionary(Path(directory))
    generator = torch.Generator().manual_seed(1)
    codes = read.encode(torch.randn(int(rows), read.width, generator=generator))
    return {
        "kind": read.kind,
        "rows": codes.rows,
        "positive": int((codes.values > 0).sum()),
        "decoded": list(read.decode(codes).shape),
    }


if __name__ == "__main__":
    verb, *arguments = sys.argv[1:]
    answer = _train(*arguments) if verb == "train" else _encode(*arguments)
    sys.stdout.write(json.dumps(answer))
