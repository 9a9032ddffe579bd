"""What can be trained: the kinds and wirings of this environment, and whether a request fits them.

A kind imports torch, so it is loaded when something is asked about it, not when this is imported.
"""

from collections.abc import Mapping, Sequence

from isogloss import dictionaries
from isogloss.errors import InvalidInput
from isogloss.service.values.machine import memory_bytes
from isogloss.service.values.results import KindInfo, SiteRef
from isogloss.store import Store


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
            wiring refuses; or more memory is needed than there is.
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
