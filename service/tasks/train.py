"""The train job: a dictionary from the rows of one site."""

from collections.abc import Iterator

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
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.json_fields import object_of, revision_of
from isogloss.store import CatalogEntry, RecordingReader, Store

_EVALUATED_ROWS = 65_536


def train_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Train a dictionary, evaluate it on held-out documents, and register it in the catalog.

    The first attempt fixes the revision to read. Later attempts resume from its checkpoints. The
    dictionary is in the catalog only once it is complete.
    """
    spec = TrainSpec.from_dict(record.spec)
    name, site = spec.dictionary, spec.site
    config = complete_config(TrainConfig.from_dict(spec.config))
    recording = store.recording(spec.recording)
    recording.spec.site_index(site)  # refuses a site that is not there
    found = store.catalog.find("dictionary", name)
    if found is not None:
        _check_same(found, recording.uid, site, config)
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

    def on_progress(progress: TrainProgress) -> None:
        metrics = {
            "fvu": progress.fvu,
            "loss": progress.loss,
            "l0": progress.l0,
            "dead_fraction": progress.dead_fraction,
            "rows": float(progress.rows),
            "rows_per_s": progress.rows_per_s,
        }
        heart.progress(progress.step, progress.total_steps, metrics)

    dictionary = train(
        config,
        [Source(reader=reader, site=site)],
        directory,
        on_progress=on_progress,
        should_stop=heart.should_stop,
    )
    save_dictionary(dictionary, directory)
    body: dict[str, object] = {
        "kind": dictionary.kind,
        "features": dictionary.features,
        "width": dictionary.width,
        "k": config.settings.get("k", 0),  # 0: the kind sets no bound
        "recording": recording.id,
        "recording_uid": recording.uid,
        "site": site,
        "revision": revision.to_dict(),
        "provenance": load_provenance(directory).to_dict(),
        "metrics": _held_out(reader, site, config, heart, uid, store),
    }
    store.catalog.put("dictionary", name, uid, body)
    remove_checkpoints(directory)
    return {"dictionary": name}


def trained_holdout(entry: CatalogEntry) -> float:
    """Return the share of documents that a dictionary was never trained on."""
    config = object_of(object_of(entry.body, "provenance"), "config")
    if not config:
        return 1.0
    return TrainConfig.from_dict(config).holdout


def _check_same(found: CatalogEntry, recording_uid: str, site: str, config: TrainConfig) -> None:
    """Accept a dictionary that an equal job made; refuse any other of that name."""
    provenance = object_of(found.body, "provenance")
    trained = complete_config(TrainConfig.from_dict(object_of(provenance, "config")))
    differences = trained.differences(config)
    if found.body.get("recording_uid") != recording_uid:
        differences.append("recording")
    if found.body.get("site") != site:
        differences.append("site")
    if differences:
        raise AlreadyExists(
            f"dictionary {found.id!r} exists and differs in {', '.join(differences)}: choose "
            "another id, or delete it first"
        )


def _held_out(
    reader: RecordingReader,
    site: str,
    config: TrainConfig,
    heart: Heart,
    uid: str,
    store: Store,
) -> dict[str, float]:
    """Return figures over held-out rows; none when nothing was held out."""
    dictionary = load_dictionary(store.artifact("dictionary", uid))
    batches = held_out_batches(reader, site, holdout=config.holdout, max_rows=_EVALUATED_ROWS)

    def checked() -> Iterator[Tensor]:
        for batch in batches:
            heart.check()
            yield batch

    try:
        return evaluate(dictionary, checked()).to_dict()
    except InvalidInput:
        # Nothing held out, or rows that do not vary: the training curve is all there is.
        return {}
