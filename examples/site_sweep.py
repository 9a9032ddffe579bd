"""Choose the demo's sites: which pair of sites shares most features beyond token identity?

Runs on the quarter of the sources that the demo never records. For every pair of candidate sites it
trains a small dictionary on each and counts the mutual pairs with r >= .5 whose correlation given
the token is at least .3. The result is kept in ``site_sweep.json``, which the demo reads.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from demo import CONTROL, PAIR, SWEEP, K, bar, console, corpus, short_name, site_slug

import isogloss
from isogloss.models import load_model
from isogloss.service import Client, DictionaryInfo, DocumentOptions

CANDIDATES = {
    "packaged:minilm-l6": [
        "encoder.layer.1",
        "encoder.layer.2",
        "encoder.layer.3",
        "encoder.layer.4",
    ],
    "packaged:mpnet-base": [
        "encoder.layer.3",
        "encoder.layer.5",
        "encoder.layer.7",
        "encoder.layer.9",
    ],
    "packaged:paraphrase-minilm-l3": ["encoder.layer.0", "encoder.layer.1"],
}
FEATURES, EPOCHS = 1536, 8.0


class Result(TypedDict):
    """What one pair of sites shares."""

    pair: str
    sites: list[str]
    fvu: list[float]
    mutual_r_03: int
    mutual_r_05: int
    beyond_token_r_05: int


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweep and write its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=10_000, help="passages, at most")
    parser.add_argument("--output", type=Path, default=SWEEP)
    found = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory, isogloss.connect(directory) as client:
        trained = {
            model: learn(client, model, sites, found.documents)
            for model, sites in CANDIDATES.items()
        }
        results = [
            compare(client, pair, a, b)
            for pair in (PAIR, CONTROL)
            for a in trained[pair[0]]
            for b in trained[pair[1]]
        ]
    document = {
        "what": " ".join((__doc__ or "").split()),
        "settings": {"features": FEATURES, "k": K, "epochs": EPOCHS},
        "chosen": chosen(results),
        "results": results,
    }
    found.output.write_text(json.dumps(document, indent=1) + "\n")
    console.print(f"chosen: {document['chosen']}")
    return 0


def learn(client: Client, name: str, sites: Sequence[str], documents: int) -> list[DictionaryInfo]:
    """Record all candidate sites of a model in one pass, and train a dictionary on each."""
    texts = corpus(documents, for_sweep=True)
    recording = short_name(name)
    with bar(f"record {recording}", len(texts)) as show:
        client.record_documents(
            load_model(name), texts, sites=sites, recording=recording,
            options=DocumentOptions(corpus="python-standard-library"),
            on_progress=lambda progress: show(progress.documents),
        )  # fmt: skip
    return [
        client.train(
            recording, site=site, features=FEATURES, k=K, epochs=EPOCHS,
            dictionary=f"{recording}-{site_slug(site)}",
        ).result()
        for site in sites
    ]  # fmt: skip


def compare(client: Client, pair: tuple[str, str], a: DictionaryInfo, b: DictionaryInfo) -> Result:
    """Match two dictionaries and count what they share."""
    match = client.match(a, b).result()
    pairs = [p for p in client.pairs(match, min_r=0.3) if p.replicates == "yes"]
    strong = [p for p in pairs if p.r >= 0.5]
    result: Result = {
        "pair": " ".join(pair),
        "sites": [a.site, b.site],
        "fvu": [round(d.metrics["fvu"], 4) for d in (a, b)],
        "mutual_r_03": len(pairs),
        "mutual_r_05": len(strong),
        "beyond_token_r_05": sum(p.partial_token >= 0.3 for p in strong),
    }
    console.print(result)
    return result


def chosen(results: Sequence[Result]) -> dict[str, dict[str, str]]:
    """Return the sites of both pairs; the control takes the demo's site of the model they share."""
    pair = choose(PAIR, results, "")
    control = choose(CONTROL, results, pair[PAIR[0]])
    return {" ".join(PAIR): pair, " ".join(CONTROL): control}


def choose(pair: tuple[str, str], results: Sequence[Result], first: str) -> dict[str, str]:
    """Return the pair of sites that shares most features beyond token identity.

    ``first`` fixes the first model's site; empty: any.
    """
    own = [
        result
        for result in results
        if result["pair"] == " ".join(pair) and first in ("", result["sites"][0])
    ]
    best = max(own, key=lambda result: (result["beyond_token_r_05"], result["mutual_r_05"]))
    return dict(zip(pair, best["sites"], strict=True))


if __name__ == "__main__":
    sys.exit(main())
