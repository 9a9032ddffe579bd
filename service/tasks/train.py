"""The train job: a dictionary from the rows of sites."""

from collections.abc import Iterator, Sequence

from torch import Tensor

from isogloss.dictionaries import (
    Source,
    TrainConfig,
    TrainProgress,
    complete_config,
    evaluate,
    held_out_batches,
    load_dictionary,
    load_provenance,
    remove_checkpoints,
    save_dictionary,
    train,
)
from isogloss.errors import AlreadyExists, Conflict, InvalidInput
from isogloss.service.tasks.heart import Heart
from isogloss.service.values.dictionary_bodies import source_to_dict, sources_of
from isogloss.service.values.job_specs import TrainSpec, one_recording
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.json_fields import object_of, revision_of
from isogloss.service.values.results import SiteRef, SourceInfo
from isogloss.store import CatalogEntry, RecordingReader, Store

_EVALUATED_ROWS = 65_536


def train_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Train a dictionary, evaluate it on held-out documents, and register it in the catalog.

    The first attempt fixes the revision to read. Later attempts resume from its checkpoints. The
    dictionary is in the catalog only once it is complete.
    """
    spec = TrainSpec.from_dict(record.spec)
    name = spec.dictionary
    config = complete_config(TrainConfig.from_dict(spec.config))
    recording = store.recording(one_recording(spec.sources))
    for source in spec.sources:
        recording.spec.site_index(source.site)  # refuses a site that is not there
    found = store.catalog.find("dictionary", name)
    if found is not None:
        _check_same(found, recording.uid, spec.sources, config)
        return {"dictionary": name}
    uid = str(heart.pin("uid", store.catalog.new_uid))
    pinned = heart.pin("revision", lambda: recording.revision().to_dict())
    revision = revision_of({"revision": pinned})
    if revision.recording != recording.uid:
        raise Conflict(
            f"recording {recording.id!r} was deleted and recorded anew since the job began: "
            "submit the job again"
        )
    reader = recording.reader(revision)
    directory = store.artifact("dictionary", uid)
    dictionary = train(
        config,
        [Source(reader=reader, site=source.site) for source in spec.sources],
        directory,
        on_progress=lambda progress: _report(heart, progress),
        should_stop=heart.should_stop,
    )
    save_dictionary(dictionary, directory)
    steps = reader.chosen_steps(config.steps or None)
    sources = [
        SourceInfo(
            recording=recording.id,
            recording_uid=recording.uid,
            site=source.site,
            revision=revision,
            steps=steps,
        )
        for source in spec.sources
    ]
    body: dict[str, object] = {
        "kind": dictionary.kind,
        "settings": dict(config.settings),
        "wiring": dictionary.wiring,
        "features": dictionary.features,
        "width": dictionary.width,
        "k": config.settings.get("k", 0),  # 0: the kind sets no bound
        **source_to_dict(sources[0]),  # as it stood here before there were several
        "sources": [source_to_dict(source) for source in sources],
        "provenance": load_provenance(directory).to_dict(),
        "metrics": _held_out(reader, spec.sources, config, heart, uid, store),
    }
    store.catalog.put("dictionary", name, uid, body)
    remove_checkpoints(directory)
    return {"dictionary": name}


def _report(heart: Heart, progress: TrainProgress) -> None:
    metrics = {
        "fvu": progress.fvu,
        "loss": progress.loss,
        "l0": progress.l0,
        "dead_fraction": progress.dead_fraction,
        "rows": float(progress.rows),
        "rows_per_s": progress.rows_per_s,
    }
    heart.progress(progress.step, progress.total_steps, metrics)


def trained_holdout(entry: CatalogEntry) -> float:
    """Return the share of documents that a dictionary was never trained on."""
    config = object_of(object_of(entry.body, "provenance"), "config")
    if not config:
        return 1.0
    return TrainConfig.from_dict(config).holdout


def _check_same(
    found: CatalogEntry, recording_uid: str, sources: Sequence[SiteRef], config: TrainConfig
) -> None:
    """Accept a dictionary that an equal job made; refuse any other of that name."""
    provenance = object_of(found.body, "provenance")
    trained = complete_config(TrainConfig.from_dict(object_of(provenance, "config")))
    differences = trained.differences(config)
    known = sources_of(found.body)
    if {source.recording_uid for source in known} != {recording_uid}:
        differences.append("recording")
    if [source.site for source in known] != [source.site for source in sources]:
        differences.append("site")
    if differences:
        raise AlreadyExists(
            f"dictionary {found.id!r} exists and differs in {', '.join(differences)}: choose "
            "another id, or delete it first"
        )


def _held_out(
    reader: RecordingReader,
    sources: Sequence[SiteRef],
    config: TrainConfig,
    heart: Heart,
    uid: str,
    store: Store,
) -> dict[str, float]:
    """Return figures over held-out rows; none when nothing was held out, or for several sites."""
    if len(sources) != 1:
        return {}
    dictionary = load_dictionary(store.artifact("dictionary", uid))
    (source,) = sources
    batches = held_out_batches(
        reader,
        source.site,
        holdout=config.holdout,
        max_rows=_EVALUATED_ROWS,
        steps=config.steps or None,
    )

    def checked() -> Iterator[Tensor]:
        for batch in batches:
            heart.check()
            yield batch

    try:
        return evaluate(dictionary, checked()).to_dict()
    except InvalidInput:
        # Nothing held out, or rows that do not vary: the training curve is all there is.
        return {}
