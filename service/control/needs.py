"""How much memory a job needs at the least, by its settings and the catalog; loads no torch."""

from collections.abc import Mapping, Sequence

from isogloss.errors import NotFound
from isogloss.service.values.job_specs import (
    ImportSpec,
    MatchSpec,
    ProbeSpec,
    RotateSpec,
    TrainSpec,
)
from isogloss.store import Store

WORKER_BYTES = 400 << 20
"""Memory of a worker apart from its rows and matrices (measured: 404 MiB at the peak of a training
of 64 features, 536 where its kernels are compiled first; with torch alone it has 230 to 330)."""
_SIGNATURE_BYTES = 512 * 4
_BATCH_ROWS = 1024


def train_bytes(store: Store, spec: TrainSpec) -> int:
    """Return the bytes that a training needs, as :func:`isogloss.dictionaries.least_bytes`.

    Args:
        store: has the recordings.
        spec: the training; its settings were checked.
    """
    width = 0
    for source in spec.sources:
        found = store.recording(source.recording).spec
        width += found.sites[found.site_index(source.site)].width
    features, rows = 0, 0
    for config in spec.configs:
        settings = config.get("settings")
        chosen: Mapping[str, object] = config
        features += _whole((settings if isinstance(settings, dict) else chosen).get("features"), 0)
        rows = max(rows, _whole(config.get("batch_rows"), _BATCH_ROWS))
    # each of several processes holds all of the weights and of a batch
    return spec.processes * (WORKER_BYTES + 4 * width * (6 * features + 2 * rows))


def probe_bytes(store: Store, spec: ProbeSpec) -> int:
    """Return the bytes that encoding and indexing dictionaries needs: one at a time."""
    return WORKER_BYTES + _largest(store, spec.dictionaries)


def match_bytes(store: Store, spec: MatchSpec) -> int:
    """Return the bytes that a match needs, which may build its probe first."""
    return WORKER_BYTES + _largest(store, (spec.a, spec.b))


def import_bytes(spec: ImportSpec) -> int:
    """Return the bytes that importing codes needs: their signatures; parts are read one by one."""
    return WORKER_BYTES + spec.features * _SIGNATURE_BYTES


def rotate_bytes(store: Store, spec: RotateSpec) -> int:
    """Return the bytes that rotating a dictionary needs: it, the result, and both in float64."""
    return WORKER_BYTES + 3 * _largest(store, (spec.source,))


def _largest(store: Store, dictionaries: Sequence[str]) -> int:
    """Return the bytes of both matrices and of the signatures of the largest dictionary."""
    sizes = [0]
    for name in dictionaries:
        try:
            body = store.catalog.get("dictionary", name).body
        except NotFound:  # the job says so
            continue
        features, width = _whole(body.get("features"), 0), _whole(body.get("width"), 0)
        sizes.append(features * (8 * width + _SIGNATURE_BYTES))
    return max(sizes)


def _whole(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) else default
