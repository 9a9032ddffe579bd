"""A dictionary of random weights in a store, without training."""

from dataclasses import replace

from isogloss.dictionaries import (
    Passport,
    SparseDictionary,
    TrainConfig,
    TrainedSite,
    save_dictionary,
    write_passport,
)
from isogloss.dictionaries.saving import load_provenance
from isogloss.service.tasks.train import source_to_dict
from isogloss.service.values.results import SourceInfo
from isogloss.store import RecordingSpec, SiteSpec, Store
from isogloss.store.testing import sample_spec


def place(
    store: Store,
    made: SparseDictionary,
    name: str = "d",
    *,
    site: str = "s",
    passport: Passport | None = None,
    spec: RecordingSpec | None = None,
) -> str:
    """Save a dictionary as if it had been trained on an empty recording; return its uid."""
    empty = sample_spec(
        f"{name}-docs", sites=(SiteSpec(name=site, width=made.width, dtype="float32"),)
    )
    recording = store.create_recording(empty if spec is None else spec, ["x"])
    revision = recording.revision()
    source = SourceInfo(
        recording=recording.id, recording_uid=recording.uid, site=site, revision=revision
    )
    trained = TrainedSite(
        recording=recording.id,
        recording_uid=recording.uid,
        site=site,
        revision=revision.to_dict(),
    )
    settings = {
        name: getattr(made.settings, name)
        for name in ("features", "k", "target_l0")
        if hasattr(made.settings, name)
    }
    config = TrainConfig(kind=made.kind, wiring=made.wiring, settings=settings)
    made = replace(made, provenance=replace(made.provenance, sites=(trained,), config=config))
    uid = store.catalog.new_uid()
    directory = store.artifact("dictionary", uid)
    save_dictionary(made, directory)
    if passport is not None:
        write_passport(passport, directory)
    body: dict[str, object] = {
        "kind": made.kind,
        "settings": settings,
        "wiring": made.wiring,
        "features": made.features,
        "width": made.width,
        "k": settings.get("k", 0),
        **source_to_dict(source),
        "sources": [source_to_dict(source)],
        "provenance": load_provenance(directory).to_dict(),
        "metrics": {"fvu": 0.5},
    }
    store.catalog.put("dictionary", name, uid, body)
    return uid
