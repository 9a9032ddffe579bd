"""From two real models to the features they share: the whole path in one command.

Records two models reading the standard library's documentation, trains a dictionary on one site of
each, matches their features on documents that neither was trained on, and writes a report. Run it
with ``make demo``; what is in the directory already is not made again.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

import isogloss
from isogloss.errors import IsoglossError, UnknownSite
from isogloss.models import (
    LoadedModel,
    TextDocument,
    load_model,
    passages,
    resolve_sites,
    standard_library_texts,
)
from isogloss.service import (
    Client,
    DictionaryInfo,
    DocumentOptions,
    Job,
    MatchInfo,
    write_report,
)

PAIR = ("packaged:minilm-l6", "packaged:mpnet-base")
CAUSAL = ("packaged:smollm2-135m", "packaged:gemma3-270m")
CONTROL = ("packaged:minilm-l6", "packaged:paraphrase-minilm-l3")
SWEEP = Path(__file__).with_name("site_sweep.json")
FEATURES, K, EPOCHS = 3072, 32, 4.0
TWIN_SEED = 2
# the first row of a text has a hundred times the norm of the others in these two, and where its
# token comes twice so has the second: they would be most of what a dictionary is trained on
CAUSAL_SKIP_FIRST = 2
CORPUS = "python-standard-library"

console = Console()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one run of the demo does."""

    directory: Path
    """Holds the store, the report and the figures."""
    models: tuple[str, str]
    """Hub ids, local directories or ``packaged:`` names."""
    sites: tuple[str | None, str | None]
    """A site of each model; None: from the sweep, else two thirds up the model."""
    documents: int
    """Passages to record."""
    features: int
    """Of each dictionary."""
    skip_first: int
    """How many rows at the start of each passage to leave out."""
    has_ceiling: bool
    """Whether the first model is also matched with itself, which trains one more dictionary."""


class Figures:
    """What was measured, kept in a file; a step that was done before keeps its first figures."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._values: dict[str, object] = json.loads(path.read_text()) if path.exists() else {}

    def note(self, name: str, value: object) -> None:
        """Keep a figure."""
        self._values[name] = value
        self.path.write_text(json.dumps(self._values, indent=1) + "\n")

    def timed(self, name: str, began: float, *, rows: int = 0) -> None:
        """Note the seconds since ``began``, and ``rows`` over them."""
        seconds = time.perf_counter() - began
        self.note(f"{name}_s", round(seconds, 2))
        if rows:
            self.note(f"{name}_rows_per_s", round(rows / seconds))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code."""
    plan = parse(arguments)
    plan.directory.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    figures = Figures(plan.directory / f"figures-{pair_name(plan.models)}.json")
    figures.note("models", list(plan.models))
    try:
        report = run(plan, figures)
    except IsoglossError as error:
        console.print(f"[red]{type(error).__name__}[/]: {error}", highlight=False)
        return 1
    figures.timed("last_run", began)
    console.print(
        f"\nreport   {report.resolve()}\nfigures  {figures.path.resolve()}",
        highlight=False,
        soft_wrap=True,
    )
    return 0


def parse(arguments: Sequence[str] | None) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "--directory", type=Path, default=Path("demo"), help="store and report go here"
    )
    parser.add_argument(
        "--models", nargs=2, default=PAIR, metavar="MODEL", help="hub ids or directories"
    )
    pairs = parser.add_mutually_exclusive_group()
    pairs.add_argument("--control", action="store_true", help="MiniLM-L6 beside its relative L3")
    pairs.add_argument(
        "--causal", action="store_true",
        help="SmolLM2-135M beside Gemma-3-270M (Gemma's terms: https://ai.google.dev/gemma/terms)",
    )  # fmt: skip
    parser.add_argument(
        "--sites", nargs=2, default=(None, None), metavar="SITE", help="one of each model"
    )
    parser.add_argument(
        "--documents", type=int, default=10_000, help="passages of about 100 words, at most"
    )
    parser.add_argument("--features", type=int, default=FEATURES, help="of each dictionary")
    parser.add_argument(
        "--skip-first", type=int, help=f"rows of each passage to leave out (causal pair: "
        f"{CAUSAL_SKIP_FIRST}, others: 0)"
    )  # fmt: skip
    parser.add_argument(
        "--ceiling", action="store_true",
        help="also match the first model with itself, from another seed: one more training",
    )  # fmt: skip
    found = parser.parse_args(arguments)
    own = CAUSAL_SKIP_FIRST if found.causal else 0
    return Plan(
        directory=found.directory,
        models=CONTROL if found.control else CAUSAL if found.causal else tuple(found.models),
        sites=tuple(found.sites),
        documents=found.documents,
        features=found.features,
        skip_first=own if found.skip_first is None else found.skip_first,
        has_ceiling=found.ceiling,
    )


def run(plan: Plan, figures: Figures) -> Path:
    """Record, train, match, report; returns the report's path."""
    documents = corpus(plan.documents, for_sweep=False)
    console.print(f"{len(documents):,} passages of the standard library's documentation")
    with isogloss.connect(plan.directory / "store") as client:
        models = [load_model(name) for name in plan.models]
        first = learn(client, plan, 0, models[0], documents, figures)
        second = learn(client, plan, 1, models[1], documents, figures)
        match = compare(client, plan, first, second, figures)
        console.print(f"\n{match.summary()}", highlight=False, soft_wrap=True)
        path = plan.directory / f"report-{pair_name(plan.models)}.html"
    return write_report([match.details], path)


def corpus(count: int, *, for_sweep: bool) -> list[TextDocument]:
    """Return evenly spaced passages of the standard library's documentation.

    A quarter of the sources, by hash, serves only the sweep that chose the sites
    (``site_sweep.py``): what is reported was not looked at to choose them.
    """
    found = [
        document
        for document in passages(standard_library_texts(), words=100)
        if (hashlib.sha256(f"sweep {document.group}".encode()).digest()[0] < 64) is for_sweep
    ]
    step = max(1.0, len(found) / count)
    return [found[int(i * step)] for i in range(min(count, len(found)))]


def learn(
    client: Client,
    plan: Plan,
    number: int,
    model: LoadedModel,
    documents: Sequence[TextDocument],
    figures: Figures,
) -> DictionaryInfo:
    """Record one model and train a dictionary on it."""
    name = plan.models[number]
    short = short_name(name)
    console.rule(f"[bold]{short}", align="left")
    site = plan.sites[number] or swept_site(name, plan.models) or default_site(model)
    recording = f"{short}-{site_slug(site)}"
    known = {found.id: found.rows for found in client.recordings()}.get(recording, 0)
    began = time.perf_counter()
    with bar(f"record {site}", len(documents)) as show:
        info = client.record_documents(
            model, documents, sites=[site], recording=recording,
            options=DocumentOptions(corpus=CORPUS, skip_first=plan.skip_first),
            on_progress=lambda progress: show(progress.documents),
        )  # fmt: skip
    if info.rows > known:
        figures.note(f"rows_{short}", info.rows)
        figures.timed(f"record_{short}", began, rows=info.rows - known)
    return train(client, plan, recording, site, figures, seed=number)


def train(
    client: Client, plan: Plan, recording: str, site: str, figures: Figures, *, seed: int
) -> DictionaryInfo:
    """Train a dictionary as a job; each model has its own seed, so that no start is shared."""
    known = {found.id for found in client.dictionaries()}
    began = time.perf_counter()
    job = client.train(recording, site=site, features=plan.features, k=K, epochs=EPOCHS, seed=seed)
    with bar(f"train {plan.features} features, k = {K}", 1) as show:
        for progress in job.progress():
            show(progress.step, progress.total_steps or 1)
    dictionary = job.result()
    if dictionary.id not in known:
        figures.timed(f"train_{recording}", began)
        figures.note(f"fvu_{recording}", dictionary.metrics["fvu"])
    return dictionary


def compare(
    client: Client, plan: Plan, a: DictionaryInfo, b: DictionaryInfo, figures: Figures
) -> MatchInfo:
    """Match both dictionaries, beside what is found where nothing is shared.

    The floor is a match with the second dictionary on randomly rotated rows; the ceiling, where it
    is wanted, one of the first model with itself.
    """
    twin = None
    if plan.has_ceiling:
        console.rule("[bold]ceiling: the first model again", align="left")
        (of,) = a.sources
        twin = train(client, plan, of.recording, of.site, figures, seed=TWIN_SEED)
    console.rule("[bold]match", align="left")
    began = time.perf_counter()
    known = {found.id for found in client.matches()}
    turned = client.floor(b, "rotated").result()
    recordings = [side.sources[0].recording for side in (a, b)]
    also = [] if twin is None else [twin]
    probe = client.create_probe(recordings, dictionaries=[a, b, turned, *also]).result().id
    floors = [matched("floor: rotated rows", client.match(a, turned, probe=probe))]
    ceilings = [matched("ceiling: another seed", client.match(a, one, probe=probe)) for one in also]
    job = client.match(a, b, probe=probe, ceilings=ceilings, floors=floors)
    match = matched("correlate, draw the nulls", job)
    if match.id not in known:
        figures.timed("match", began)
        figures.note("summary", match.summary().splitlines())
    return match


def matched(text: str, job: Job[MatchInfo]) -> MatchInfo:
    """Show how far a match is, and return it."""
    with bar(text, 1) as show:
        for progress in job.progress():
            show(progress.step, progress.total_steps or 1)
    return job.result()


class bar:  # reads as a function where it is used
    """A progress bar, as a context manager that gives a function to move it."""

    def __init__(self, text: str, total: int) -> None:
        self._progress = Progress(
            TextColumn("  {task.description:<40}"),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(compact=True),
            console=console,
        )
        self._task = self._progress.add_task(text, total=total)

    def __enter__(self) -> Callable[..., None]:
        self._progress.start()
        return self._show

    def __exit__(self, *error: object) -> None:
        task = self._progress.tasks[0]
        if error[0] is None:
            self._progress.update(self._task, completed=task.total)
        self._progress.stop()

    def _show(self, done: int, total: int | None = None) -> None:
        self._progress.update(
            self._task, completed=done, total=total or self._progress.tasks[0].total
        )


def swept_site(model: str, models: tuple[str, str]) -> str | None:
    """Return the site that the committed sweep chose; None where it did not see these models."""
    return json.loads(SWEEP.read_text())["chosen"].get(" ".join(models), {}).get(model)


def default_site(model: LoadedModel) -> str:
    """Return the block two thirds up the model."""
    for pattern in ("*.layer.*", "*.layers.*", "*.h.*", "layer.*", "layers.*", "h.*", "*.block.*"):
        try:
            blocks = [
                s.name
                for s in resolve_sites(model.module, [pattern])
                if s.name.split(".")[-1].isdigit()
            ]
        except UnknownSite:
            continue
        if blocks:
            return blocks[round((len(blocks) - 1) * 2 / 3)]
    raise UnknownSite(
        f"no list of blocks found in {model.name!r}; name a site of each with --sites"
    )


def short_name(model: str) -> str:
    """Make a resource id of a model's name."""
    last = model.removeprefix("packaged:").rstrip("/").split("/")[-1].lower()
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in last).strip("-")
    return kept if kept[:1].isalpha() else f"m-{kept}"


def site_slug(site: str) -> str:
    """Make the part of a resource id that tells sites apart."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in site.lower())[-24:].strip("-")


def pair_name(models: tuple[str, str]) -> str:
    """Name the files of a pair of models."""
    return "-".join(short_name(model) for model in models)


if __name__ == "__main__":
    sys.exit(main())
