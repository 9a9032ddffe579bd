"""The train job: dictionaries from the rows of sites, several from one read."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

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
    tensor_hash,
    train_together,
    wiring_of,
    with_controls,
    write_passport,
)
from isogloss.errors import AlreadyExists, Conflict, InvalidInput
from isogloss.service.tasks.heart import Heart
from isogloss.service.tasks.ranks import SharedTraining, started_ranks
from isogloss.service.values.dictionary_bodies import source_to_dict, sources_of
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.json_fields import object_of, revision_of
from isogloss.service.values.results import SiteRef, SourceInfo
from isogloss.store import CatalogEntry, Recording, RecordingReader, Store

_EVALUATED_ROWS = 65_536


def train_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Train dictionaries, evaluate them on held-out documents, and register them in the catalog.

    The first attempt fixes the revision to read. Later attempts resume from its checkpoints. A
    dictionary is in the catalog only once it is complete; those that are there are not made again.
    """
    spec = TrainSpec.from_dict(record.spec)
    recordings = {source.recording: store.recording(source.recording) for source in spec.sources}
    for source in spec.sources:  # refuses a site that is not there
        recordings[source.recording].spec.site_index(source.site)
    uids = [recordings[source.recording].uid for source in spec.sources]
    wanted: list[_Wanted] = []
    for place, (name, given) in enumerate(zip(spec.dictionaries, spec.configs, strict=True)):
        config = _with_seed(complete_config(TrainConfig.from_dict(given)), spec.sources)
        start = _start_of(store, config, heart, place)
        if start is not None:
            config = replace(config, init=replace(config.init, sha256=start.sha256))
        found = store.catalog.find("dictionary", name)
        if found is None:
            pin = f"uid/{place}" if place else "uid"
            uid = str(heart.pin(pin, store.catalog.new_uid))
            wanted.append(_Wanted(name, uid, config, store.artifact("dictionary", uid), start))
        else:
            _check_same(found, uids, spec.sources, config)
    if wanted:
        readers = {
            id_: _pinned(recording, heart, is_first=place == 0)
            for place, (id_, recording) in enumerate(recordings.items())
        }
        sources = [Source(reader=readers[one.recording], site=one.site) for one in spec.sources]
        _train(store, sources, wanted, heart, spec.processes)
    return {"dictionary": spec.dictionary}


class _Start(NamedTuple):
    """The decoder that a run starts from."""

    directory: Path
    """Of its dictionary."""
    decoder: Tensor
    sha256: str


class _Wanted(NamedTuple):
    """A dictionary to make."""

    name: str
    uid: str
    config: TrainConfig
    directory: Path
    start: _Start | None

    def runs(self) -> dict[Path, TrainConfig]:
        """Return its run and those of its controls, by directory."""
        every = with_controls(self.config)
        beside = [self.directory / f"control-{one}" for one in self.config.controls]
        return dict(zip([self.directory, *beside], every, strict=True))


def _train(
    store: Store,
    sources: Sequence[Source],
    wanted: Sequence[_Wanted],
    heart: Heart,
    processes: int,
) -> None:
    """Train all that is wanted from one read, and register it."""
    runs = {place: config for one in wanted for place, config in one.runs().items()}
    places = {directory: number for number, directory in enumerate(runs)}
    told = _Told(heart, {places[one.directory]: one.name for one in wanted})
    known = {one.start.directory: one.start.decoder for one in wanted if one.start is not None}
    begun = [None if one.start is None else one.start.directory for one in wanted]
    starts = [start for one, start in zip(wanted, begun, strict=True) for _ in one.runs()]
    training = SharedTraining(sources=sources, runs=runs, starts=starts, known=known)
    with started_ranks(store, training, processes):
        found = train_together(
            [*runs.values()],
            sources,
            [*runs],
            on_progress=told.tell,
            should_stop=heart.should_stop,
            given=training.given(),
            ranks="one" if processes == 1 else "all",
        )
    made = dict(zip(runs, found, strict=True))
    for one in wanted:
        of_controls = [made[place] for place in one.runs()][1:]
        _register(store, sources, one, made[one.directory], of_controls, heart)
    for directory in runs:
        remove_checkpoints(directory)
    for one in wanted:
        for control in one.config.controls:
            shutil.rmtree(one.directory / f"control-{control}", ignore_errors=True)


def _register(
    store: Store,
    sources: Sequence[Source],
    wanted: _Wanted,
    dictionary: SparseDictionary,
    controls: Sequence[SparseDictionary],
    heart: Heart,
) -> None:
    """Save a dictionary, evaluate what was saved, and put it in the catalog."""
    config, directory = wanted.config, wanted.directory
    save_dictionary(dictionary, directory)
    saved = load_dictionary(directory)
    write_passport(make_passport(saved, sources), directory)
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
            **_held_out(joined, config, heart, saved),
            **_of_controls(joined, config, heart, controls),
        },
    }
    store.catalog.put("dictionary", wanted.name, wanted.uid, body)


class _Told:
    """Tells how far a job is: of one dictionary as it is, of several each under its name."""

    def __init__(self, heart: Heart, names: Mapping[int, str]) -> None:
        self._heart, self._names = heart, names
        self._latest: dict[int, TrainProgress] = {}

    def tell(self, place: int, progress: TrainProgress) -> None:
        """Take note of a run's progress; controls are not told of."""
        if place not in self._names:
            return
        if len(self._names) == 1:
            self._heart.progress(progress.step, progress.total_steps, _metrics(progress))
            return
        self._latest[place] = progress
        metrics: dict[str, float] = {}
        for number, at in sorted(self._latest.items()):
            own = {"step": float(at.step), "total_steps": float(at.total_steps), **_metrics(at)}
            metrics |= {f"{self._names[number]}/{name}": value for name, value in own.items()}
        # runs that have not begun count as long as the longest that has
        longest = max(at.total_steps for at in self._latest.values())
        waiting = (len(self._names) - len(self._latest)) * longest
        total = sum(at.total_steps for at in self._latest.values()) + waiting
        self._heart.progress(sum(at.step for at in self._latest.values()), total, metrics)


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


def _start_of(store: Store, config: TrainConfig, heart: Heart, place: int) -> _Start | None:
    """Return the decoder that a run starts from; None: it is made anew.

    Raises:
        Conflict: the dictionary was deleted and made anew since the job began.
    """
    if not config.init.dictionary:
        return None
    entry = store.catalog.get("dictionary", config.init.dictionary)
    directory = store.artifact("dictionary", entry.uid)
    decoder = load_dictionary(directory).decoder
    found = tensor_hash(decoder)
    if found != heart.pin(f"start/{place}", lambda: found):
        raise Conflict(
            f"dictionary {entry.id!r}, from whose decoder the run starts, was made anew since the "
            "job began: submit the job again"
        )
    return _Start(directory, decoder, found)


def _with_seed(config: TrainConfig, sources: Sequence[SiteRef]) -> TrainConfig:
    if config.seed is not None:
        return config
    return replace(config, seed=_default_seed(config, sources))


def _default_seed(config: TrainConfig, sources: Sequence[SiteRef]) -> int:
    return default_seed(config.kind, [(source.recording, source.site) for source in sources])


def _metrics(progress: TrainProgress) -> dict[str, float]:
    """Return the figures of a run's newest point."""
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
    return metrics


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
    pairs = held_out_pairs(
        joined,
        connection,
        holdout=config.holdout,
        max_rows=_EVALUATED_ROWS,
        finite_only=config.leave_out.non_finite,
    )

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
