"""What heads look at, what causes what a model says, and its circuit: no store is needed."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import (
    CsvOption,
    GraphOption,
    JsonOption,
    ParquetOption,
    check_file,
    checked_file,
)
from isogloss.service.cli.study.passes import counted_passes

if TYPE_CHECKING:
    from isogloss.models import Circuit, CircuitCurve, LoadedModel, TextPairs

app = typer.Typer()

ModelArgument = Annotated[
    str, typer.Argument(help="Hub id, local directory, or packaged:NAME such as smollm2-135m.")
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", callback=checked_file, help="Page to write, HTML that stands alone."
    ),
]


@app.command()
def attention(
    model: ModelArgument,
    text: Annotated[str | None, typer.Option(help="Text to draw the attention on.")] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="LAYER.HEAD, such as 18.6; repeat for several. All by default."),
    ] = None,
    output: OutputOption = None,
    count: Annotated[int, typer.Option(help="Heads of each kind in the table.", min=1)] = 5,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """Score the heads of a model, or draw what they look at.

    Without --text the heads are scored on random tokens that repeat: previous token, first token,
    duplicate token, induction; each beside the score of a head that looks everywhere alike.
    """
    from isogloss.models import (
        KINDS,
        attention_page,
        attention_patterns,
        head_scores,
        load_model,
        read_head,
        repeated_ids,
    )
    from isogloss.service.cli.output import TableForm, say, write_json, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    if text is not None and (is_csv or parquet):
        raise InvalidInput("a drawing is no table: give --csv and --parquet without --text")
    if text is None and (head or output):
        raise InvalidInput("heads are drawn on a text: give --text, or neither --head nor --output")
    heads = [read_head(name) for name in head] if head else None
    path = output or Path("attention.html")
    if text is not None:
        check_file(path)
    loaded = load_model(model, causal=True)
    if text is not None:
        patterns = attention_patterns(loaded, text, heads)
        write_page(attention_page(patterns), path)
        drawn = {"tokens": patterns.tokens, "heads": list(map(str, patterns.heads))}
        write_json({"path": str(path), **drawn}) if is_json else say(str(path))
        return
    ids = repeated_ids(loaded)
    with counted_passes(loaded, is_quiet=is_json) as announce:
        announce("scoring heads", len(ids))
        found = head_scores(loaded, ids)
    rows = [
        (kind, str(at), score, found.null[kind])
        for kind in KINDS
        for at, score in found.highest(kind, count)
    ]
    titles = ("kind", "head", "score", "null")
    if is_json:
        write_json([dict(zip(titles, row, strict=True)) for row in rows])
    else:
        write_list(form, [], titles, rows, "no head")


def write_page(page: str, path: Path) -> None:
    """Write a page to a file.

    Args:
        page: its HTML.
        path: of the file.

    Raises:
        InvalidInput: it cannot be written.
    """
    try:
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path} cannot be written ({error}): choose --output") from error


_TASKS = {
    "indirect-object": "indirect_object_pairs",
    "greater-than": "greater_than_pairs",
    "induction": "induction_pairs",
}
TaskOption = Annotated[
    str | None, typer.Option(help=f"Made-up pairs of texts: {', '.join(_TASKS)}.")
]
CleanOption = Annotated[str | None, typer.Option(help="A text of your own.")]
CorruptOption = Annotated[str | None, typer.Option(help="The same with tokens changed.")]
RightOption = Annotated[str | None, typer.Option(help="What should follow: one token.")]
WrongOption = Annotated[str | None, typer.Option(help="What should not: one token.")]
MetricOption = Annotated[str, typer.Option(help="logit_difference, probability or kl.")]
CountOption = Annotated[int, typer.Option(help="Pairs of a task.", min=1)]
SeedOption = Annotated[int, typer.Option(help="Of a task's pairs.")]


def check_texts(task: str | None, *own: str | None) -> None:
    """Refuse texts that are neither a task's nor one pair of the caller's.

    Args:
        task: name of a task; None: none.
        *own: clean text, corrupt text, right token, wrong token.

    Raises:
        InvalidInput: both are given, or neither whole; or there is no such task.
    """
    if (task is None) == (None in own) or (task is not None and any(own)):
        raise InvalidInput("give --task, or --clean, --corrupt, --right and --wrong: one of both")
    if task is not None and task not in _TASKS:
        raise InvalidInput(f"no task {task!r}; there are {', '.join(_TASKS)}")


def make_pairs(
    model: "LoadedModel", task: str | None, own: Sequence[str | None], count: int, seed: int
) -> "TextPairs":
    """Make the pairs that the command line asks for.

    Args:
        model: whose tokens.
        task: name of a task; None: the caller's own texts.
        own: clean text, corrupt text, right token, wrong token.
        count: pairs of a task.
        seed: of a task's pairs.
    """
    from isogloss import models

    if task is None:
        return models.text_pairs(model, *([str(one)] for one in own))
    return getattr(models, _TASKS[task])(model, count, seed=seed)


@app.command()
def trace(
    model: ModelArgument,
    task: TaskOption = None,
    clean: CleanOption = None,
    corrupt: CorruptOption = None,
    right: RightOption = None,
    wrong: WrongOption = None,
    site: Annotated[
        list[str] | None, typer.Option(help="Where to patch; repeat. Each layer by default.")
    ] = None,
    metric: MetricOption = "logit_difference",
    noise: Annotated[
        bool, typer.Option("--noise", help="Corrupt activations in the clean run.")
    ] = False,
    attribution: Annotated[
        bool, typer.Option("--attribution", help="Estimate by gradients, in one pass.")
    ] = False,
    count: CountOption = 8,
    seed: SeedOption = 0,
    output: OutputOption = None,
    is_json: JsonOption = False,
) -> None:
    """Trace which activations cause what a model says next.

    Give --task, or --clean, --corrupt, --right and --wrong.
    """
    from isogloss import models
    from isogloss.service.cli.output import hint, say, write_json

    check_texts(task, clean, corrupt, right, wrong)
    measured = models.check_metric(metric)
    path = check_file(output or Path("trace.html"))
    loaded = models.load_model(model, causal=True)
    pairs = make_pairs(loaded, task, (clean, corrupt, right, wrong), count, seed)
    sites = models.distinct_sites(
        models.unwrapped(loaded.module), site or models.layer_sites(loaded)
    )
    run = models.attribute if attribution else models.trace
    cells = 1 if attribution else len(sites) * len(pairs.tokens)
    if not attribution:
        hint(
            f"{len(sites)} sites x {len(pairs.tokens)} tokens: {cells} passes of the model; --site "
            "takes fewer sites, --attribution estimates in one pass"
        )
    mode = "noise" if noise else "denoise"
    with counted_passes(loaded, is_quiet=is_json) as announce:
        announce("tracing", 2 + cells)
        found = run(loaded, pairs, sites, metric=measured, mode=mode)
    write_page(models.trace_page(found), path)
    if is_json:
        write_json({"path": str(path), **found.to_dict()})
        return
    for i, name in enumerate(found.sites):
        at = int(abs(found.effects[i]).argmax())
        where, effect = f"{found.positions[at]} {found.tokens[at]!r}", found.effects[i, at]
        say(f"{name}: most at {where}, {effect:.3f}")
    say(str(path))


@app.command()
def circuit(
    model: ModelArgument,
    task: TaskOption = None,
    clean: CleanOption = None,
    corrupt: CorruptOption = None,
    right: RightOption = None,
    wrong: WrongOption = None,
    way: Annotated[str, typer.Option(help="eap-ig, eap or ablation.")] = "eap-ig",
    steps: Annotated[int, typer.Option(help="Of eap-ig.", min=1)] = 5,
    faithfulness: Annotated[
        float, typer.Option(help="Share of the effect that the circuit makes by itself.")
    ] = 0.95,
    metric: MetricOption = "logit_difference",
    count: CountOption = 8,
    seed: SeedOption = 0,
    random: Annotated[
        int, typer.Option(help="Random circuits beside each size of the curve; 0: no curve.", min=0)
    ] = 0,
    graph: GraphOption = None,
    output: OutputOption = None,
    is_json: JsonOption = False,
) -> None:
    """Find the fewest edges of heads and MLPs to keep an answer.

    Give --task, or --clean, --corrupt, --right and --wrong. A task's circuit is found on some of
    its texts and measured on others.
    """
    from isogloss import models

    check_texts(task, clean, corrupt, right, wrong)
    if way not in models.SCORINGS:
        raise InvalidInput(f"way is {way!r}; wanted one of {', '.join(models.SCORINGS)}")
    measured = models.check_metric(metric)
    if not 0 < faithfulness <= 1:
        raise InvalidInput(f"faithfulness is {faithfulness}; wanted above 0 and at most 1")
    path = check_file(output or Path("circuit.html"))
    loaded = models.load_model(model, causal=True)
    own = (clean, corrupt, right, wrong)
    pairs, others = (make_pairs(loaded, task, own, count, one) for one in (seed, seed + 1))
    with counted_passes(loaded, is_quiet=is_json) as announce:
        gradients = steps if way == "eap-ig" else 1
        announce("scoring edges", 0 if way == "ablation" else 3 + gradients)
        scores = models.score_edges(loaded, pairs, way=way, steps=steps, metric=measured)
        announce("finding the circuit", 0)  # about 2 log2(edges)
        found = models.find_circuit(loaded, others, scores, faithfulness=faithfulness)
        announce("circuits of growing size", 0)
        curve = models.circuit_curve(loaded, others, scores, count=random) if random else None
    drawn = found.graph()
    write_page(models.circuit_page(drawn, curve), path)
    if graph is not None:
        models.write_graph(drawn, graph)
    if is_json:
        return _write_circuit(found, curve, path)
    return _say_circuit(scores.highest(min(10, len(found))), drawn.facts, path)


def _write_circuit(found: "Circuit", curve: "CircuitCurve | None", path: Path) -> None:
    from isogloss.service.cli.output import write_json

    facts = {name: getattr(found, name) for name in ("faithfulness", "completeness", "names")}
    sizes = {"edges": len(found), "all_edges": len(found.edges)}
    shown = None if curve is None else curve.to_dict()
    write_json({"path": str(path), **sizes, **facts, "curve": shown})


def _say_circuit(highest: "Sequence[tuple[str, float]]", facts: str, path: Path) -> None:
    from isogloss.service.cli.output import say

    for name, effect in highest:
        say(f"{name}: {effect:.3f}")
    say(facts)
    say(str(path))
