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
    """Score the heads of a model, or draw what they look at on a text.

    Without --text the heads are scored on random tokens that repeat: previous token, first token,
    duplicate token, induction; each beside the score of a head that looks everywhere alike.
    """
    from isogloss.models import (
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
    best = {kind: found.highest(kind, count) for kind in found.scores}
    rows = [(kind, str(at), s, found.null[kind]) for kind, some in best.items() for at, s in some]
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
