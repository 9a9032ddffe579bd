"""Print a recording on the command line: facts, sites, lanes, rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from rich.text import Text

from isogloss.errors import InvalidInput, NotFound
from isogloss.service.cli.lanes import names, state
from isogloss.service.cli.output import say, when, write_table
from isogloss.service.values.results import DictionaryInfo, RecordingInfo
from isogloss.service.values.upkeep import LaneInfo
from isogloss.store import HugeRows, QuantisationError, Revision, SiteSpec, StepInfo

if TYPE_CHECKING:
    from isogloss.service.client.client import Client

_VALUE_WIDTH = 9
_SHOWN_LANES = 20
_SHOWN_STEPS = 20
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def size(count: int) -> str:
    """Write a number of bytes with three digits, such as ``1.46 GB``."""
    value, unit = float(count), 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    digits = 0 if unit == 0 else max(0, 2 - (value >= 9.995) - (value >= 99.95))
    return f"{value:.{digits}f} {_UNITS[unit]}"


def error_text(error: QuantisationError) -> str:
    """Write how far rounded rows are from what was recorded."""
    text = f"{100 * error.relative_rms:.2g} % rms, at most {error.max_abs:.2g}"
    return f"{text}, {counted(error.nonfinite, 'row')} not finite" if error.nonfinite else text


def counted(count: int, noun: str) -> str:
    """Write how many there are of something, such as ``1 lane`` or ``2,000 lanes``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def write_description(
    info: RecordingInfo,
    lanes: Sequence[LaneInfo],
    steps: Sequence[StepInfo] = (),
    cautions: Sequence[str] = (),
    dictionaries: Sequence[DictionaryInfo] = (),
) -> None:
    """Write a recording to standard output.

    Args:
        info: the recording.
        lanes: its lanes.
        steps: its training steps; none where all rows are of step 0.
        cautions: what to be careful about, a sentence each.
        dictionaries: those trained on it.
    """
    spec = info.spec
    raw = info.rows * sum(site.row_bytes for site in spec.sites)
    stored = sum(lane.stored_bytes for lane in lanes)
    damaged = [lane for lane in lanes if lane.damage]
    facts = [
        ("model", f"{spec.model.name} {spec.model.revision}".strip()),
        ("tokenizer", spec.tokenizer),
        ("corpus", spec.corpus),
        (
            "provenance",
            "; ".join(f"{name}: {text}" for name, text in sorted(spec.provenance.items())),
        ),
        ("rows", f"{info.rows:,} in {counted(len(lanes), 'lane')}"),
        ("on disk", f"{size(stored)}; the activations as recorded are {size(raw)}"),
        ("created", when(info.created)),
        ("revision", info.revision.id),
        ("etag", info.etag),
        ("damage", f"{counted(len(damaged), 'lane')}, see below" if damaged else "none"),
    ]
    console = Console(highlight=False)
    console.print(Text(f"recording {info.id}", style="bold"))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim")
    grid.add_column(overflow="fold")
    for name, text in facts:
        grid.add_row(Text(f"  {name}"), Text(text or "–"))
    console.print(grid)
    console.print()
    _write_sites(info, lanes)
    console.print()
    if any(found.step for found in steps):
        _write_steps(steps)
        console.print()
    _write_lanes(lanes)
    if dictionaries:
        console.print()
        _write_dictionaries(dictionaries)
    for lane in damaged:
        console.print(Text(f"\n{lane.name}: {lane.damage}", style="red"))
    for caution in cautions:
        console.print(Text(f"\ncaution: {caution}", style="yellow"))


def _write_dictionaries(found: Sequence[DictionaryInfo]) -> None:
    """Write what each dictionary leaves unexplained, beside its controls."""
    rows = [
        (
            *(one.id, ", ".join(source.site for source in one.sources), one.kind, one.features),
            *(_figure(one.metrics, "fvu"), _figure(one.metrics, "usual_fvu")),
            ", ".join(
                f"{name[8:-4]} {value:.3f}"
                for name, value in sorted(one.metrics.items())
                if name.startswith("control_") and name.endswith("_fvu") and "usual" not in name
            ),
            _start(one.provenance),
        )
        for one in found
    ]
    titles = (
        *("dictionary", "site", "kind", "features", "fvu", "usual fvu", "controls' fvu"),
        "start, cosine to it",
    )
    write_table(titles, rows, "")


def _start(provenance: Mapping[str, object]) -> str:
    """Write from what a dictionary was trained, and the mean cosine of its rows to that."""
    config, cosine = provenance.get("config"), provenance.get("init_cosine")
    found: object = config.get("init") if isinstance(config, Mapping) else None
    init = cast("Mapping[str, object]", found) if isinstance(found, Mapping) else {}
    name = init.get("dictionary") or init.get("directions") or "random"
    return f"{name} {cosine:.3f}" if isinstance(cosine, float) else "–"


def _figure(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else "–"


def repeated(steps: Sequence[StepInfo]) -> list[str]:
    """Return a caution where rows of a training step are stored more than once."""
    twice = [found for found in steps if found.repeated_rows]
    if not twice:
        return []
    rows = sum(found.repeated_rows for found in twice)
    caution = (
        f"{counted(rows, 'row')} of {counted(len(twice), 'training step')} (the first is "
        f"{twice[0].step}) repeat rows of their step, as when two ranks read a document at once: "
        "keep=~reader.repeated_rows() leaves them out; give each rank its own documents"
    )
    return [caution]


def cautions(client: "Client", info: RecordingInfo, lanes: Sequence[LaneInfo]) -> list[str]:
    """Return a caution for each site with rows that are not finite, or few of huge norm.

    Rows of lanes that have ended are looked at: their statistics are kept, while those of a lane
    that grows would be measured each time.

    Args:
        client: the connection to the store.
        info: the recording.
        lanes: its lanes.

    Returns:
        The cautions; none where no lane has ended.
    """
    ended = {lane.name for lane in lanes if lane.sealed}
    kept = tuple(lane for lane in info.revision.lanes if lane[0] in ended)
    if not kept:
        return []
    revision = Revision(recording=info.revision.recording, lanes=kept)
    found: list[str] = []
    for site in info.spec.sites:
        try:
            statistics = client.statistics(info.id, site.name, revision)
        except NotFound:  # a lane was joined or retired meanwhile
            return found
        if statistics.nonfinite:
            rows = statistics.count + statistics.nonfinite
            found.append(nonfinite_caution(site, statistics.nonfinite, rows))
        if (huge := statistics.huge) is not None:
            found.append(caution(site.name, huge, statistics.count))
    return found


def nonfinite_caution(site: SiteSpec, nonfinite: int, rows: int) -> str:
    """Write how many rows of a site hold NaN or infinity, and what that means."""
    remedy = (
        "numbers beyond 65,504 are infinite in float16: record with dtype bfloat16 or float32"
        if site.dtype == "float16"
        else "look at the model's numbers there"
    )
    return (
        f"site {site.name}: {nonfinite:,} of {rows:,} rows hold NaN or infinity; statistics leave "
        f"them out; {remedy}"
    )


def caution(site: str, huge: HugeRows, rows: int) -> str:
    """Write which rows of a site hold most of its variance, and what to do about it."""
    places = [
        f"{count:,} at position {position}"
        if position < len(huge.by_position) - 1
        else f"{count:,} at later positions"
        for position, count in enumerate(huge.by_position)
        if count
    ]
    remedy = (
        f"record with skip_first={huge.skip_first} to leave them out"
        if huge.skip_first
        else "leave them out with a mask of rows (keep=) where these rows are read"
    )
    return (
        f"site {site}: {huge.rows:,} of {rows:,} rows, those of norm {huge.least_norm:g} or more, "
        f"hold {100 * huge.variance_share:.1f} % of the variance ({', '.join(places)}); what is "
        f"learned from this site is about them: {remedy}"
    )


def write_rows(
    start: int, tokens: Sequence[str], positions: Sequence[int], rows: NDArray[np.float32]
) -> None:
    """Write rows to standard output: token, position, norm, and the first numbers that fit.

    Args:
        start: number of the first row.
        tokens: strings, one a row.
        positions: in the model's input, one a row.
        rows: activations, ``[rows, width]``.
    """
    console = Console(highlight=False)
    token_width = min(16, max(len("token"), *map(len, tokens)))
    fitting = (console.width - token_width - 28) // _VALUE_WIDTH
    shown = max(1, min(rows.shape[1], fitting))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("row", justify="right")
    table.add_column("token", overflow="ellipsis", no_wrap=True, width=token_width)
    table.add_column("position", justify="right")
    table.add_column("norm", justify="right")
    for column in range(shown):
        table.add_column(Text(f"[{column}]"), justify="right", no_wrap=True)
    norms = np.linalg.norm(rows.astype(np.float64), axis=1)
    for at, (token, position) in enumerate(zip(tokens, positions, strict=True)):
        values = [f"{value:.3g}" for value in rows[at, :shown]]
        cells = [f"{start + at:,}", token, f"{position:,}", f"{norms[at]:.4g}", *values]
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    if shown < rows.shape[1]:
        console.print(Text(f"{shown} of {rows.shape[1]:,} numbers a row; --output saves all"))


def save_rows(rows: NDArray[np.float32], path: Path) -> None:
    """Write rows as an ``.npy`` file.

    Raises:
        InvalidInput: the file cannot be written.
    """
    try:
        with path.open("wb") as file:
            np.save(file, rows)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written ({error}): choose --output") from error


def _write_sites(info: RecordingInfo, lanes: Sequence[LaneInfo]) -> None:
    stored = dict.fromkeys((site.name for site in info.spec.sites), 0)
    tiers: dict[str, dict[str, None]] = {name: {} for name in stored}
    errors = {name: QuantisationError.none() for name in stored}
    for lane in lanes:
        for found in lane.sites:
            stored[found.site] += found.stored_bytes
            tiers[found.site][found.tier] = None
            if found.error is not None:
                errors[found.site] = errors[found.site].merge(found.error)
    rows = [
        (
            site.name,
            site.width,
            site.dtype,
            ", ".join(tiers[site.name]) or "–",
            size(stored[site.name]),
        )
        for site in info.spec.sites
    ]
    titles = ["site", "width", "dtype", "tier", "on disk"]
    if any(lane.is_lossy for lane in lanes):
        titles.append("lossy error")
        rows = [(*row, error_text(errors[row[0]])) for row in rows]
    write_table(titles, rows, "no sites")


def _write_steps(steps: Sequence[StepInfo]) -> None:
    titles = ["step", "rows", "documents"]
    rows: list[tuple[object, ...]] = [(found.step, found.rows, found.documents) for found in steps]
    if any(found.repeated_rows for found in steps):
        titles.append("repeated rows")
        rows = [(*row, found.repeated_rows) for row, found in zip(rows, steps, strict=True)]
    write_table(titles, rows[-_SHOWN_STEPS:], "no steps")
    if len(steps) > _SHOWN_STEPS:
        earlier = len(steps) - _SHOWN_STEPS
        say(f"{counted(earlier, 'earlier step')} from {steps[0].step:,} on not shown; --json does")


def _write_lanes(lanes: Sequence[LaneInfo]) -> None:
    rows = [
        (
            lane.name,
            lane.rows,
            state(lane),
            ", ".join(lane.tiers) or "–",
            size(lane.stored_bytes),
            names(lane),
        )
        for lane in lanes[-_SHOWN_LANES:]
    ]
    titles = ("lane", "rows", "state", "tier", "on disk", "producers")
    write_table(titles, rows, "no lanes: nothing was recorded yet")
    if len(lanes) > _SHOWN_LANES:
        say(f"{counted(len(lanes) - _SHOWN_LANES, 'earlier lane')} not shown; --json shows all")
