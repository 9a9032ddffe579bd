"""What can be trained: the kinds and wirings of this environment, and whether a request fits them.

A kind imports torch, so it is loaded when something is asked about it, not when this is imported.
"""

from collections.abc import Mapping, Sequence

from isogloss import dictionaries
from isogloss.errors import InvalidInput
from isogloss.service.values.machine import memory_bytes
from isogloss.service.values.results import KindInfo, SiteRef
from isogloss.store import Recording, Store

_LOOKED_AT = 64
"""Recordings of more than so many batches are not looked at row by row."""


def check_training(
    store: Store, sources: Sequence[SiteRef], configs: Sequence[Mapping[str, object]]
) -> None:
    """Refuse a training that cannot begin.

    Args:
        store: has the recordings.
        sources: the sites to train on.
        configs: settings of each dictionary, as ``TrainConfig.from_dict`` reads them.

    Raises:
        NotFound: no such recording.
        UnknownSite: no such site; the message lists the nearest names.
        InvalidInput: no such kind or wiring, settings that the kind refuses, or sites that the
            wiring refuses; more memory is needed than there is; or the rows do not fill one batch.
    """
    widths: list[int] = []
    for source in sources:
        spec = store.recording(source.recording).spec
        widths.append(spec.sites[spec.site_index(source.site)].width)
    every = [dictionaries.complete_config(dictionaries.TrainConfig.from_dict(c)) for c in configs]
    least, there = 0, memory_bytes()
    for wanted in every:
        dictionaries.check_sites(wanted.wiring, widths, wanted.settings)
        if wanted.init.directions == "given":
            raise InvalidInput(
                "init.directions is 'given', which a job has no decoder for: choose random or "
                "rows, or train in Python by isogloss.dictionaries.train(given=...)"
            )
        least += dictionaries.least_bytes(wanted, widths)
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
