"""The train job: a dictionary from the rows of sites."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace

from isogloss.dictionaries import (
    HeldOutPair,
    Source,
    SourceRows,
    SparseDictionary,
    TrainConfig,
    TrainProgress,
    complete_config,
    default_seed,
    evaluate,
    held_out_pairs,
    join_rows,
    load_dictionary,
    load_provenance,
    make_passport,
    remove_checkpoints,
    save_dictionary,
    site_columns,
    train_together,
    wiring_of,
    with_controls,
    write_passport,
)
from isogloss.errors import AlreadyExists, Conflict, InvalidInput
from isogloss.service.tasks.heart import Heart
from isogloss.service.values.dictionary_bodies import source_to_dict, sources_of
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.json_fields import object_of, revision_of
from isogloss.service.values.results import SiteRef, SourceInfo
from isogloss.store import CatalogEntry, Recording, RecordingReader, Store

_EVALUATED_ROWS = 65_536


def train_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Train a dictionary, evaluate it on held-out documents, and register it in the catalog.

    The first attempt fixes the revision to read. Later attempts resume from its checkpoints. The
    dictionary is in the catalog only once it is complete.
    """
    spec = TrainSpec.from_dict(record.spec)
    name = spec.dictionary
    config = _with_seed(complete_config(TrainConfig.from_dict(spec.config)), spec.sources)
    recordings = {source.recording: store.recording(source.recording) for source in spec.sources}
    for source in spec.sources:  # refuses a site that is not there
        recordings[source.recording].spec.site_index(source.site)
    found = store.catalog.find("dictionary", name)
    if found is not None:
        uids = [recordings[source.recording].uid for source in spec.sources]
        _check_same(found, uids, spec.sources, config)
        return {"dictionary": name}
    uid = str(heart.pin("uid", store.catalog.new_uid))
    readers = {
        id_: _pinned(recording, heart, is_first=place == 0)
        for place, (id_, recording) in enumerate(recordings.items())
    }
    sources = [Source(reader=readers[one.recording], site=one.site) for one in spec.sources]
    directory = store.artifact("dictionary", uid)
    configs = with_controls(config)
    dictionary, *controls = train_together(
        configs,
        sources,
        [directory, *(directory / f"control-{one}" for one in config.controls)],
        on_progress=lambda place, progress: None if place else _report(heart, progress),
        should_stop=heart.should_stop,
    )
    save_dictionary(dictionary, directory)
    write_passport(make_passport(load_dictionary(directory), sources), directory)
    joined = join_rows(sources, config.steps)
    trained = _trained(joined)
    body: dict[str, object] = {
        "kind": dictionary.kind,
        "settings": dict(config.settings),
        "wiring": dictionary.wiring,
        "features": dictionary.features,
        "width": dictionary.width,
        "k": config.settings.get("k", 0),  # 0: the kind sets no bound
        **source_to_dict(trained[0]),  # as it stood here before there were several
        "sources": [source_to_dict(source) for source in trained],
        "provenance": load_provenance(directory).to_dict(),
        "metrics": {
            **_held_out(joined, config, heart, load_dictionary(directory)),
            **_of_controls(joined, config, heart, controls),
        },
    }
    store.catalog.put("dictionary", name, uid, body)
    remove_checkpoints(directory)
    for one in config.controls:
        shutil.rmtree(directory / f"control-{one}", ignore_errors=True)
    return {"dictionary": name}


def _trained(joined: SourceRows) -> list[SourceInfo]:
    """Return the sites that were read, each with its revision and steps."""
    return [
        SourceInfo(
            recording=source.reader.spec.recording,
            recording_uid=source.reader.revision.recording,
            site=source.site,
            revision=source.reader.revision,
            steps=steps,
        )
        for source, steps in zip(joined.sources, joined.steps, strict=True)
    ]


def _pinned(recording: Recording, heart: Heart, *, is_first: bool) -> RecordingReader:
    """Return the reader of the revision that the first attempt read; Conflict if that is gone."""
    pin = "revision" if is_first else f"revision/{recording.id}"
    pinned = heart.pin(pin, lambda: recording.revision().to_dict())
    revision = revision_of({"revision": pinned})
    if revision.recording != recording.uid:
        raise Conflict(
            f"recording {recording.id!r} was deleted and recorded anew since the job began: "
            "submit the job again"
        )
    return recording.reader(revision)


def _with_seed(config: TrainConfig, sources: Sequence[SiteRef]) -> TrainConfig:
    if config.seed is not None:
        return config
    return replace(config, seed=_default_seed(config, sources))


def _default_seed(config: TrainConfig, sources: Sequence[SiteRef]) -> int:
    return default_seed(config.kind, [(source.recording, source.site) for source in sources])


def _report(heart: Heart, progress: TrainProgress) -> None:
    metrics = {
        "fvu": progress.fvu,
        "loss": progress.loss,
        "l0": progress.l0,
        "dead_fraction": progress.dead_fraction,
        "rows": float(progress.rows),
        "rows_per_s": progress.rows_per_s,
        **{f"site_{place}_fvu": value for place, value in enumerate(progress.site_fvu)},
    }
    if progress.usual_fvu is not None:
        metrics["usual_fvu"] = progress.usual_fvu
    heart.progress(progress.step, progress.total_steps, metrics)


def trained_holdout(entry: CatalogEntry) -> float:
    """Return the share of documents that a dictionary was never trained on."""
    config = object_of(object_of(entry.body, "provenance"), "config")
    if not config:
        return 1.0
    return TrainConfig.from_dict(config).holdout


def _check_same(
    found: CatalogEntry, uids: Sequence[str], sources: Sequence[SiteRef], config: TrainConfig
) -> None:
    """Accept a dictionary that an equal job made; refuse any other of that name."""
    provenance = object_of(found.body, "provenance")
    trained = complete_config(TrainConfig.from_dict(object_of(provenance, "config")))
    known = sources_of(found.body)
    recordings = [source.recording_uid for source in known]
    rows = ["recording"] if {*recordings} != {*uids} else []
    if [source.site for source in known] != [source.site for source in sources]:
        rows.append("site")
    if rows and config.seed == _default_seed(config, sources):
        config = replace(config, seed=trained.seed)  # it differs since they do
    differences = [*trained.differences(config), *rows]
    if not differences and recordings != [*uids]:
        differences.append("order of the recordings")
    if differences:
        raise AlreadyExists(
            f"dictionary {found.id!r} exists and differs in {', '.join(differences)}: choose "
            "another id, or delete it first"
        )


def _of_controls(
    joined: SourceRows, config: TrainConfig, heart: Heart, controls: Sequence[SparseDictionary]
) -> dict[str, float]:
    """Return what controls leave unexplained of held-out rows, and how many of them fire."""
    found: dict[str, float] = {}
    for name, control in zip(config.controls, controls, strict=True):
        metrics = _held_out(joined, config, heart, control)
        found |= {
            f"control_{name}_{one}": metrics[one]
            for one in ("fvu", "usual_fvu", "l0", "dead_fraction")
            if one in metrics
        }
    return found


def _held_out(
    joined: SourceRows, config: TrainConfig, heart: Heart, dictionary: SparseDictionary
) -> dict[str, float]:
    """Return figures over held-out rows; none when nothing was held out."""
    connection = wiring_of(config).connect(joined.widths)
    pairs = held_out_pairs(joined, connection, holdout=config.holdout, max_rows=_EVALUATED_ROWS)

    def checked() -> Iterator[HeldOutPair]:
        for pair in pairs:
            heart.check()
            yield pair

    several = len(joined.widths) > 1 and connection.reads_what_it_writes
    parts = site_columns(joined.widths) if several else ()
    try:
        return evaluate(dictionary, checked(), parts=parts).to_dict()
    except InvalidInput:
        # Nothing held out, or rows that do not vary: the training curve is all there is.
        return {}
