"""How many lines the longest repr of a public value takes.

The values are what the public API gives of a real store: what the clients return, and what the
rooms below read and compute. Runs alone:
``PYTHONPATH=src:benchmarks python -m hand_figures.repr_lines --json``.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from house_figures.figure import Figure, show
from service_figures.atlas import made_up_probe
from service_figures.served import scratch

import isogloss
from hand_figures.text_query import RECORDING, SITE, plant_dictionaries
from isogloss.dictionaries import TrainConfig, load_dictionary
from isogloss.models import TextDocument
from isogloss.service import FeatureRef
from isogloss.service.values.results import (
    FeatureContext,
    FeatureInfo,
    Hit,
    Hits,
    MatchInfo,
    Skipped,
)
from isogloss.store import Document, RowBatch, Store
from isogloss.universality import MatchSettings, Probe

COLUMNS = 100
"""Characters of a line of a notebook."""
_LONG = "a text of many words\n" * 2000


def lines_of(value: object) -> int:
    """Return how many lines of a notebook the repr of a value takes."""
    return sum(max(1, -(-len(line) // COLUMNS)) for line in repr(value).splitlines())


def public_values(root: Path) -> Mapping[str, object]:
    """Return values of a store's clients and readers, and of what they are made of, by name.

    Args:
        root: a directory for the store.
    """
    plant_dictionaries(root, features=64, dictionaries=2)
    found: dict[str, object] = {}
    with isogloss.connect(root, run_workers=False) as client:
        spec = client.recording(RECORDING).spec
        with client.appender(RECORDING, "p") as appender:
            batch = _batch(spec.sites[0].width)
            appender.write(batch)
        found["batch"] = batch
        found["client"] = client
        found["server"] = client.server_info()
        found["recording"] = client.recording(RECORDING)
        found["spec"] = spec
        found["dictionary"] = client.dictionary_info("dictionary-0")
        found["statistics"] = client.statistics(RECORDING, SITE)
        found["lanes"] = client.lanes(RECORDING)[0]
        found["tokens"] = client.tokens(RECORDING, 0, 4)
        found["document"] = next(iter(client.documents(RECORDING).values()))
        found["kind"] = client.kinds()[0]
        job = client.train(RECORDING, site=SITE, features=8, k=2, more={"batch_rows": 16})
        found["job"], found["job now"] = job, job.info()
        job.cancel()
        unit = np.ones(spec.sites[0].width, np.float32)
        found["hits"] = client.nearest(direction=unit, model=RECORDING, count=100)
        found["hit"] = found["hits"][0]
    with Store.attach(root) as store:
        entry = store.catalog.get("dictionary", "dictionary-0")
        reader = store.recording(RECORDING).reader()
        found["entry"] = entry
        found["reader"] = reader
        found["rows"] = next(iter(reader.batches([SITE], batch_rows=16)))
        weights = load_dictionary(store.artifact("dictionary", entry.uid))
        found["weights"], found["provenance"] = weights, weights.provenance
    return {**found, **_values_of_long_texts()}


def _batch(width: int) -> RowBatch:
    documents = [Document.from_text(f"{number} {_LONG}") for number in range(4)]
    return RowBatch(
        producer="p",
        sequence=1,
        sites={SITE: np.random.default_rng(0).standard_normal((64, width)).astype(np.float32)},
        token_id=np.zeros(64, np.uint32),
        document=np.repeat(np.array([document.id for document in documents], np.uint64), 16),
        position=np.tile(np.arange(16), 4).astype(np.uint32),
        span=np.tile(np.stack([np.arange(16), np.arange(1, 17)], axis=1), (4, 1)).astype(np.uint32),
        documents=tuple(documents),
    )


def _values_of_long_texts() -> dict[str, object]:
    """Return values that a match and a feature have, of the size of real ones."""
    place = FeatureContext(document=1, before=_LONG, peak="word", after=_LONG, value=1.0)
    hit = Hit(
        dictionary="d",
        feature=1,
        mutual=True,
        cofires=1,
        fires=1,
        **dict.fromkeys(("r", "excess", "margin", "partial_token"), 0.5),
    )
    probe: Probe = made_up_probe(20_000)
    return {
        "feature": FeatureRef(dictionary="d", feature=1),
        "what a feature does": FeatureInfo(
            dictionary="d",
            feature=1,
            probe="p",
            fires=1,
            density=0.1,
            max_activation=1.0,
            contexts=(place,) * 100,
        ),
        "place": place,
        "many hits": Hits([hit] * 1000, skipped=[Skipped(dictionary="e" * 63, why=_LONG)] * 50),
        "match": MatchInfo(
            id="m",
            uid="u",
            etag="e",
            a="a",
            b="b",
            probe="p",
            pairs=9,
            created=1.0,
            text=_LONG,
            details={"pairs": [[number, _LONG] for number in range(1000)]},
        ),
        "probe": probe,
        "text": TextDocument(text=_LONG),
        "config": TrainConfig(settings={"features": 8}),
        "settings": MatchSettings(),
    }


def measure() -> Iterator[dict[str, object]]:
    """Count the lines of each value."""
    with scratch() as folder:
        found = {name: lines_of(value) for name, value in public_values(folder / "store").items()}
    longest = max(found, key=lambda name: found[name])
    yield Figure(
        figure="repr_lines",
        value=float(found[longest]),
        bar=10.0,
        unit=f"lines of {COLUMNS} characters",
        peers={"longest": longest, "values": len(found)},
    ).to_dict()


if __name__ == "__main__":
    sys.exit(show(measure(), is_json="--json" in sys.argv))
