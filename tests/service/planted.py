"""Two recordings of made-up models in which the same words light up the same hidden concepts."""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch

from isogloss.dictionaries import (
    DictionaryProvenance,
    SparseDictionary,
    load_provenance,
    save_dictionary,
)
from isogloss.store import Document, ModelInfo, RecordingSpec, RowBatch, SiteSpec, Store

CONCEPTS = 24
WORDS = 96
WIDTHS = {"small-docs": 24, "large-docs": 32}
SITES = {"small-docs": "layer.1", "large-docs": "encoder.layer.2"}
TEXTS = 160
LENGTH = 60


def words_of(text: int) -> list[int]:
    """Numbers of the words of a text; neighbours tend to share a topic."""
    rng = np.random.default_rng([7, text])
    topic = rng.integers(0, WORDS, 6)
    return [int(word) for word in rng.choice(topic, LENGTH)]


def documents() -> list[Document]:
    return [
        Document.from_text(" ".join(f"word{word}" for word in words_of(text)), group=f"g{text}")
        for text in range(TEXTS)
    ]


def concepts_of(text: int) -> np.ndarray:
    """How strongly each word of a text evokes each concept, ``[words, concepts]``.

    A word has a concept of its own, and a second one only after certain words: what fires there
    is more than the word.
    """
    words = words_of(text)
    found = np.zeros((len(words), CONCEPTS), np.float32)
    for at, word in enumerate(words):
        found[at, word % (CONCEPTS // 2)] = 2.0
        if at and (words[at - 1] + word) % 5 == 0:
            found[at, CONCEPTS // 2 + words[at - 1] % (CONCEPTS // 2)] = 3.0
    return found


def record(
    store: Store, recording: str, *, seed: int, steps: Mapping[int, int] | None = None
) -> None:
    """Record a model that turns concepts into directions of its own, with some noise.

    Args:
        store: has the recording afterwards.
        recording: one of those that have a width.
        seed: of the directions.
        steps: by training step a seed; None: step 0 alone.
    """
    width = WIDTHS[recording]
    spec = RecordingSpec(
        recording=recording,
        model=ModelInfo(name=f"made/up-{recording}"),
        tokenizer=hashlib.sha256(b"words").hexdigest(),
        corpus="planted",
        sites=(SiteSpec(name=SITES[recording], width=width, dtype="float32"),),
        has_spans=True,
        provenance={"made": "by a test"},
    )
    made = store.create_recording(spec, [f"word{word}" for word in range(WORDS)])
    batches: list[RowBatch] = []
    for step, own_seed in (steps or {0: seed}).items():
        batches += _batches(recording, own_seed, step, first=len(batches) + 1)
    lane = made.open_lane()
    lane.append(batches)
    lane.close()


def _batches(recording: str, seed: int, step: int, *, first: int) -> list[RowBatch]:
    width = WIDTHS[recording]
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((CONCEPTS, width)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    batches: list[RowBatch] = []
    for number, document in enumerate(documents(), start=1):
        rows = concepts_of(number - 1) @ directions
        rows += 0.02 * rng.standard_normal(rows.shape).astype(np.float32)
        words = words_of(number - 1)
        ends = np.cumsum([len(f"word{word}") + 1 for word in words]) - 1
        starts = np.concatenate([[0], ends[:-1] + 1])
        batches.append(
            RowBatch(
                producer="test",
                sequence=first + number - 1,
                sites={SITES[recording]: rows.astype(np.float32)},
                token_id=np.array(words, np.uint32),
                document=np.full(len(words), document.id, np.uint64),
                position=np.arange(len(words), dtype=np.uint32),
                span=np.stack([starts, ends], axis=1).astype(np.uint32),
                documents=(document,),
                step=step,
            )
        )
    return batches


def dictionary(store: Store, recording: str, name: str, *, seed: int) -> None:
    """Make a dictionary of the planted directions and of random ones, without training it.

    Args:
        store: has the recording and then the dictionary.
        recording: its id.
        name: id of the dictionary.
        seed: that of the recording's directions.
    """
    made, width = store.recording(recording), WIDTHS[recording]
    rng = np.random.default_rng(seed)
    rows = [rng.standard_normal((CONCEPTS, width)), rng.standard_normal((16, width))]
    directions = np.concatenate(rows).astype(np.float32)
    decoder = torch.from_numpy(directions / np.linalg.norm(directions, axis=1, keepdims=True))
    tensors = {
        "encoder": decoder.clone(),
        "encoder_bias": torch.zeros(len(decoder)),
        "decoder": decoder,
        "decoder_bias": torch.zeros(width),
    }
    settings: dict[str, object] = {"features": len(decoder), "k": 3}
    provenance = DictionaryProvenance(init_hash=f"made of {recording} {seed}")
    uid = store.catalog.new_uid()
    directory = store.artifact("dictionary", uid)
    save_dictionary(SparseDictionary.make("topk", settings, tensors, provenance), directory)
    source = {
        "recording": recording,
        "recording_uid": made.uid,
        "site": SITES[recording],
        "revision": made.revision().to_dict(),
    }
    body: dict[str, object] = {
        "kind": "topk",
        "settings": settings,
        "wiring": "sae",
        "k": 3,
        "features": len(decoder),
        "width": width,
        "sources": [source],
        "metrics": {},
        "provenance": load_provenance(directory).to_dict(),
    }
    store.catalog.put("dictionary", name, uid, body)


def train_spec(recording: str, dictionary: str, **config: object) -> dict[str, object]:
    settings: dict[str, object] = {
        "features": 40,
        "k": 3,
        "batch_rows": 512,
        "epochs": 10.0,
        "learning_rate": 0.01,
        "checkpoint_every": 20,
    }
    return {
        "dictionary": dictionary,
        "recording": recording,
        "site": SITES[recording],
        "config": settings | config,
    }
