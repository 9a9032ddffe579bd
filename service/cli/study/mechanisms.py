"""What heads look at, and which activations cause what a model says: no store is needed."""

from pathlib import Path
from typing import Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import JsonOption

app = typer.Typer()

ModelArgument = Annotated[
    str, typer.Argument(help="Hub id, local directory, or packaged:NAME such as smollm2-135m.")
]
OutputOption = Annotated[
    Path | None, typer.Option("--output", "-o", help="Page to write, HTML that stands alone.")
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
    )
    from isogloss.service.cli.output import say, write_json, write_table

    if text is None and (head or output):
        raise InvalidInput("heads are drawn on a text: give --text, or neither --head nor --output")
    heads = [read_head(name) for name in head] if head else None
    loaded = load_model(model, causal=True)
    if text is not None:
        patterns = attention_patterns(loaded, text, heads)
        path = write_page(attention_page(patterns), output or Path("attention.html"))
        made = {
            "path": str(path),
            "tokens": patterns.tokens,
            "heads": list(map(str, patterns.heads)),
        }
        write_json(made) if is_json else say(str(path))
        return
    found = head_scores(loaded)
    rows = [
        (kind, str(at), score, found.null[kind])
        for kind in KINDS
        for at, score in found.highest(kind, count)
    ]
    if is_json:
        write_json([dict(zip(("kind", "head", "score", "null"), row, strict=True)) for row in rows])
    else:
        write_table(("kind", "head", "score", "null"), rows, "no head")


def write_page(page: str, path: Path) -> Path:
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
    return path


_TASKS = {
    "indirect-object": "indirect_object_pairs",
    "greater-than": "greater_than_pairs",
    "induction": "induction_pairs",
}


@app.command()
def trace(
    model: ModelArgument,
    task: Annotated[
        str | None, typer.Option(help=f"Made-up pairs of texts: {', '.join(_TASKS)}.")
    ] = None,
    clean: Annotated[str | None, typer.Option(help="A text of your own.")] = None,
    corrupt: Annotated[str | None, typer.Option(help="The same with tokens changed.")] = None,
    right: Annotated[str | None, typer.Option(help="What should follow: one token.")] = None,
    wrong: Annotated[str | None, typer.Option(help="What should not: one token.")] = None,
    site: Annotated[
        list[str] | None, typer.Option(help="Where to patch; repeat. Each layer by default.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="logit_difference, probability or kl.")
    ] = "logit_difference",
    noise: Annotated[
        bool, typer.Option("--noise", help="Corrupt activations in the clean run.")
    ] = False,
    attribution: Annotated[
        bool, typer.Option("--attribution", help="Estimate by gradients, in one pass.")
    ] = False,
    count: Annotated[int, typer.Option(help="Pairs of a task.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of a task's pairs.")] = 0,
    output: OutputOption = None,
    is_json: JsonOption = False,
) -> None:
    """Trace which activations cause what a model says next.

    Give --task, or --clean, --corrupt, --right and --wrong.
    """
    from isogloss import models
    from isogloss.service.cli.output import say, write_json

    own = (clean, corrupt, right, wrong)
    if (task is None) == (None in own) or (task is not None and any(own)):
        raise InvalidInput("give --task, or --clean, --corrupt, --right and --wrong: one of both")
    if task is not None and task not in _TASKS:
        raise InvalidInput(f"no task {task!r}; there are {', '.join(_TASKS)}")
    if metric not in models.METRICS:
        raise InvalidInput(f"metric is {metric!r}; wanted one of {', '.join(models.METRICS)}")
    loaded = models.load_model(model, causal=True)
    if task is None:
        pairs = models.text_pairs(loaded, *([str(one)] for one in own))
    else:
        pairs = getattr(models, _TASKS[task])(loaded, count, seed=seed)
    sites = site or models.layer_sites(loaded)
    run = models.attribute if attribution else models.trace
    mode = "noise" if noise else "denoise"
    found = run(loaded, pairs, sites, metric=metric, mode=mode)
    path = write_page(models.trace_page(found), output or Path("trace.html"))
    if is_json:
        write_json({"path": str(path), **found.to_dict()})
        return
    for i, name in enumerate(found.sites):
        at = int(abs(found.effects[i]).argmax())
        where, effect = f"{found.positions[at]} {found.tokens[at]!r}", found.effects[i, at]
        say(f"{name}: most at {where}, {effect:.3f}")
    say(str(path))
