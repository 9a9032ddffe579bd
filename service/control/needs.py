"""How much memory a job needs at the least, by its settings and the catalog; loads no torch."""

from collections.abc import Mapping, Sequence

from isogloss.errors import NotFound
from isogloss.service.values.job_specs import MatchSpec, ProbeSpec, TrainSpec
from isogloss.store import Store

WORKER_BYTES = 300 << 20
"""Memory of a worker that has loaded torch and done nothing yet (measured: 230 to 330 MiB)."""
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
    return WORKER_BYTES + 4 * width * (6 * features + 2 * rows)


def probe_bytes(store: Store, spec: ProbeSpec) -> int:
    """Return the bytes that encoding and indexing dictionaries needs: one at a time."""
    return WORKER_BYTES + _largest(store, spec.dictionaries)


def match_bytes(store: Store, spec: MatchSpec) -> int:
    """Return the bytes that a match needs, which may build its probe first."""
    return WORKER_BYTES + _largest(store, (spec.a, spec.b))


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
