"""What can be trained: the kinds and wirings of this environment, and whether a request fits them.

A kind imports torch, so it is loaded when something is asked about it, not when this is imported.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from isogloss import dictionaries
from isogloss.errors import InvalidInput
from isogloss.service.values.machine import memory_bytes
from isogloss.service.values.results import KindInfo, SiteRef
from isogloss.store import RecordingReader, Store

if TYPE_CHECKING:
    from isogloss.dictionaries import TrainConfig

_SURELY = 16
"""Where so many batches are expected, their rows need not be counted."""


def check_training(store: Store, sources: Sequence[SiteRef], config: Mapping[str, object]) -> None:
    """Refuse a training that cannot begin.

    Args:
        store: has the recordings.
        sources: the sites to train on.
        config: settings, as ``TrainConfig.from_dict`` reads them.

    Raises:
        NotFound: no such recording.
        UnknownSite: no such site; the message lists the nearest names.
        InvalidInput: no such kind or wiring, settings that the kind refuses, or sites that the
            wiring refuses; more memory is needed than there is; or the rows fill no batch.
    """
    widths: list[int] = []
    for source in sources:
        spec = store.recording(source.recording).spec
        widths.append(spec.sites[spec.site_index(source.site)].width)
    wanted = dictionaries.complete_config(dictionaries.TrainConfig.from_dict(config))
    dictionaries.check_sites(wanted.wiring, widths, wanted.settings)
    least, there = dictionaries.least_bytes(wanted, widths), memory_bytes()
    if least > there:
        raise InvalidInput(
            f"{wanted.settings['features']} features of width {sum(widths)} in batches of "
            f"{wanted.batch_rows} rows need at least {least / 2**30:,.1f} GiB of memory, and this "
            f"machine has {there / 2**30:,.1f}: use fewer features or smaller batches"
        )
    for recording in dict.fromkeys(source.recording for source in sources):
        _check_rows(store.recording(recording).reader(), wanted)


def _check_rows(reader: RecordingReader, config: "TrainConfig") -> None:
    """Refuse a recording whose training rows do not fill one batch.

    A large one is not counted, and of an empty one rows may come before the job begins.
    """
    batch_rows = config.batch_rows or 1
    if not reader.rows or reader.rows * (1 - config.holdout) >= _SURELY * batch_rows:
        return
    here = tuple(step for step in config.steps if step in reader.rows_of_steps())
    rows = int(dictionaries.training_rows(reader, config.holdout, here or None).sum())
    if rows < batch_rows:
        raise InvalidInput(
            f"recording {reader.spec.recording!r} has {rows:,} training rows of {reader.rows:,}, "
            f"fewer than batch_rows {batch_rows:,}; record more text, or lower batch_rows or "
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
