"""A store with made-up dictionaries on one probe, written by the store's own parts.

Dictionaries fire alike: each is the first one with its features renumbered and some of its entries
elsewhere. So each feature has a partner in each other dictionary, as in real ones.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from isogloss.service.values.json_fields import codes_id
from isogloss.store import CatalogEntry, CodesFile, CodesWriter, Revision, Store
from isogloss.store.testing import sample_batch, sample_spec
from isogloss.universality import Atlas, Probe, load_probed, signatures
from isogloss.universality.codes.probed import write_sums
from isogloss.universality.probe.probe import ProbeOrigin

PROBE = "probe"
RECORDING = "documents"
ACTIVE = 24
"""Features that fire on a segment."""
_NUMBERS = 512
"""Of a signature."""
_MOVED = 0.2
"""Share of a dictionary's entries that are not where its sisters' are."""


def names(dictionaries: int) -> list[str]:
    """Return the ids of so many dictionaries."""
    return [f"dictionary-{number}" for number in range(dictionaries)]


def write_atlas(root: Path, *, dictionaries: int, features: int, segments: int) -> Path:
    """Write a store with a recording, dictionaries, a probe, codes and an atlas.

    Args:
        root: the store's directory.
        dictionaries: how many.
        features: of each.
        segments: of the probe.

    Returns:
        The directory of the atlas.
    """
    with Store.open(root) as store:
        recording = store.create_recording(sample_spec(RECORDING), ["a"])
        with recording.open_lane() as lane:
            lane.append([sample_batch(recording.spec, "p", 1)])
        revision = recording.revision()
        probe = made_up_probe(segments)
        probe.save(store.artifact("probe", probe.uid))
        entries = [
            plant_dictionary(store, name, features, (recording.uid, revision))
            for name in names(dictionaries)
        ]
        body: dict[str, object] = {
            "recordings": [RECORDING],
            "revisions": {RECORDING: revision.to_dict()},
            "dictionaries": [entry.id for entry in entries],
            "grid": "tokens",
            "holdout": 0.25,
            "documents": len(probe.documents),
            "segments": segments,
        }
        store.catalog.put("probe", PROBE, probe.uid, body)
        return _index(store, probe, entries, features)


def plant_dictionary(
    store: Store, name: str, features: int, source: tuple[str, Revision]
) -> CatalogEntry:
    """Put a dictionary into the catalog, without weights.

    Args:
        store: the store.
        name: the dictionary's id.
        features: how many it has.
        source: uid and revision of the recording that it seems to be trained on.

    Returns:
        Its entry.
    """
    uid, revision = source
    body: dict[str, object] = {
        "kind": "topk",
        "features": features,
        "k": ACTIVE,
        "width": 6,
        "recording": RECORDING,
        "recording_uid": uid,
        "site": "layer.2",
        "revision": revision.to_dict(),
        "provenance": {},
        "metrics": {},
    }
    return store.catalog.put("dictionary", name, store.catalog.new_uid(), body)


def made_up_probe(segments: int) -> Probe:
    """Return a probe of documents of 64 tokens."""
    at = np.arange(segments)
    document = (at // 64).astype(np.int32)
    chance = np.random.default_rng(3)
    return Probe(
        id=PROBE,
        uid=hashlib.sha256(str(segments).encode()).hexdigest()[:16],
        recordings=((RECORDING, "made-up", "made-up"),),
        grid="tokens",
        origin=ProbeOrigin(holdout=0.25, seed=0, segmenter="tokens"),
        documents=np.arange(1, document[-1] + 2).astype(np.uint64),
        segment_document=document,
        segment_source=document,
        segment_span=np.stack([at % 64, at % 64], axis=1).astype(np.uint32),
        stratum_token=chance.integers(0, 5000, segments).astype(np.int64),
        stratum_position=(at % 64).astype(np.int32),
        half=(document % 2).astype(np.int8),
        keys=chance.permutation(segments).astype(np.uint64) + np.uint64(1),
    )


def codes_of(number: int, features: int, segments: int) -> NDArray[np.int32]:
    """Return which features of a dictionary fire, ``[segments, ACTIVE]``, ascending in each row."""
    base, own = np.random.default_rng(5), np.random.default_rng([5, number])
    found = np.empty((segments, ACTIVE), np.int32)
    renumbered = own.permutation(features)
    step = features // ACTIVE
    # one feature of each stretch, so that none comes twice in a row
    stretch = np.arange(ACTIVE) * step
    shared = base.integers(0, step, (segments, ACTIVE))
    moved = own.random((segments, ACTIVE)) < _MOVED
    shared[moved] = own.integers(0, step, int(moved.sum()))
    found[:] = renumbered[shared + stretch]
    found.sort(axis=1)
    return found


def _index(store: Store, probe: Probe, entries: Sequence[CatalogEntry], features: int) -> Path:
    """Write codes and the atlas of dictionaries; return the atlas's directory."""
    atlas = Atlas(_NUMBERS, probe_uid=probe.uid)
    present = np.ones(probe.segments, np.bool_)
    for number, entry in enumerate(entries):
        directory = store.artifact("codes", entry.uid, probe.uid)
        indices = codes_of(number, features, probe.segments)
        values = np.random.default_rng([9, number]).random(indices.shape, np.float32) + 0.5
        ends = np.arange(0, indices.size + 1, ACTIVE)
        with CodesWriter(directory, features) as writer:
            writer.append(ends.astype(np.int64), indices.ravel(), values.ravel())
            writer.finish({"kind": "codes", "probe": probe.uid})
        write_sums(directory, CodesFile(directory), present)
        body: dict[str, object] = {
            "dictionary": entry.id,
            "dictionary_uid": entry.uid,
            "probe": PROBE,
            "probe_uid": probe.uid,
        }
        name = codes_id(entry.uid, probe.uid)
        store.catalog.put("codes", name, store.catalog.new_uid(), body)
        probed = load_probed(directory, entry.id)
        vectors = signatures(probed, probe, m=_NUMBERS)
        atlas.add(entry.id, vectors, probed.moments.fires)
    uid = store.catalog.new_uid()
    atlas.save(store.artifact("atlas", uid))
    uids = {entry.id: entry.uid for entry in entries}
    body = {"probe": PROBE, "probe_uid": probe.uid, "dictionaries": uids}
    store.catalog.put("atlas", PROBE, uid, body)
    return store.artifact("atlas", uid)
