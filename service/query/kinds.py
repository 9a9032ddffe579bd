"""What can be trained: the kinds and wirings of this environment, and whether a request fits them.

A kind imports torch, so it is loaded when something is asked about it, not when this is imported.
"""

from collections.abc import Mapping, Sequence

from isogloss import dictionaries
from isogloss.errors import InvalidInput
from isogloss.service.values.dictionary_bodies import has_weights
from isogloss.service.values.machine import memory_bytes, processors
from isogloss.service.values.results import KindInfo, SiteRef
from isogloss.store import Recording, Store

_LOOKED_AT = 64
"""Recordings of more than so many batches are not looked at row by row."""


def check_training(
    store: Store,
    sources: Sequence[SiteRef],
    configs: Sequence[Mapping[str, object]],
    processes: int = 1,
) -> None:
    """Refuse a training that cannot begin.

    Args:
        store: has the recordings.
        sources: the sites to train on.
        configs: settings of each dictionary, as ``TrainConfig.from_dict`` reads them.
        processes: how many train together.

    Raises:
        NotFound: no such recording, or no dictionary to start from.
        UnknownSite: no such site; the message lists the nearest names.
        InvalidInput: no such kind or wiring, settings that the kind refuses, or sites that the
            wiring refuses; more memory or processors are needed than there are; a decoder to start
            from does not fit; or the rows do not fill one batch.
    """
    there_are = processors()
    if not 1 <= processes <= there_are:
        raise InvalidInput(
            f"processes is {processes}, wanted 1 to {there_are}, the processors of this machine"
        )
    widths: list[int] = []
    for source in sources:
        spec = store.recording(source.recording).spec
        widths.append(spec.sites[spec.site_index(source.site)].width)
    every = [dictionaries.complete_config(dictionaries.TrainConfig.from_dict(c)) for c in configs]
    least, there = 0, memory_bytes()
    for wanted in every:
        dictionaries.check_sites(wanted.wiring, widths, wanted.settings)
        _check_start(store, wanted, widths)
        least += processes * dictionaries.least_bytes(wanted, widths)
    if least > there:
        features = " + ".join(str(wanted.settings["features"]) for wanted in every)
        raise InvalidInput(
            f"{features} features of width {sum(widths)} in batches of {every[0].batch_rows} rows "
            f"need at least {least / 2**30:,.1f} GiB of memory, and this machine has "
            f"{there / 2**30:,.1f}: use fewer features or smaller batches"
        )
    for name in dict.fromkeys(source.recording for source in sources):
        for wanted in every:
            _check_rows(store.recording(name), wanted)


def _check_start(store: Store, config: dictionaries.TrainConfig, widths: Sequence[int]) -> None:
    """Refuse a decoder to start from that does not fit the run.

    Raises:
        NotFound: there is no such dictionary.
        InvalidInput: none is named, or one without weights, or of other features or columns.
    """
    init = config.init
    if (init.directions == "given") != bool(init.dictionary):
        raise InvalidInput(
            f"init.directions is {init.directions!r} and init.dictionary {init.dictionary!r}: name "
            "a stored dictionary where a decoder is given, and only there; one of your own is "
            "given in Python, by isogloss.dictionaries.train(given=...)"
        )
    if not init.dictionary:
        return
    entry = store.catalog.get("dictionary", init.dictionary)
    if not has_weights(entry.body):
        raise InvalidInput(
            f"dictionary {init.dictionary!r} is of imported codes and has no decoder to start from"
        )
    with dictionaries.SavedWeights(store.artifact("dictionary", entry.uid)) as weights:
        found = next(one.shape for one in weights.tensors if one.name == "decoder")
    writes = dictionaries.wiring_of(config).connect(widths).writes
    wanted = (config.settings["features"], len(writes))
    if found != wanted:
        raise InvalidInput(
            f"the decoder of dictionary {init.dictionary!r} is {list(found)} (features, columns); "
            f"wanted {list(wanted)} to start from: choose another, or another number of features"
        )


def _check_rows(recording: Recording, config: dictionaries.TrainConfig) -> None:
    """Refuse a training whose rows do not fill one batch.

    The documents of a large recording are not looked at. One that has no row yet may get them
    before the job begins, which then says so if it has not.

    Raises:
        InvalidInput: there are too few rows.
    """
    wanted = config.batch_rows or 0
    reader = recording.reader()
    if not 0 < reader.rows <= _LOOKED_AT * wanted:
        return
    if {*config.steps} - {*reader.rows_of_steps()}:
        return  # said where the job is queued
    kept = dictionaries.training_rows(reader, config.holdout, config.steps or None)
    if (found := int(kept.sum())) < wanted:
        raise InvalidInput(
            f"recording {recording.id!r} has {found:,} training rows of {reader.rows:,}, fewer "
            f"than the {wanted:,} of an optimiser step: record more text, or lower batch_rows or "
            "holdout"
        )


def list_kinds() -> list[KindInfo]:
    """Return the kinds that can be trained here, those of installed packages too, by name."""
    return [_describe(name) for name in dictionaries.kind_names()]


def _describe(name: str) -> KindInfo:
    summary, schema, problem = "", dict[str, object](), ""
    try:
        summary, schema = dictionaries.kind_summary(name), dictionaries.kind_schema(name)
    except InvalidInput as error:  # a package that is broken hides no other kind
        problem = str(error)
    return KindInfo(
        name=name,
        summary=summary,
        schema=schema,
        is_default=name == dictionaries.DEFAULT_KIND,
        problem=problem,
    )
