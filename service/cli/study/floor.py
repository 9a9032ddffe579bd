"""The command that makes a floor, by which a match is judged."""

from typing import Annotated, Literal

import typer

from isogloss.service.cli.jobs import DetachOption, outcome
from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption, connect

app = typer.Typer()

How = Literal["rotated", "untrained", "frozen_decoder", "frozen_encoder", "soft_frozen_decoder"]


@app.command()
def floor(
    dictionary: Annotated[str, typer.Argument(help="Id of a trained dictionary.")],
    how: Annotated[How, typer.Option(help="What keeps it from having the model's features.")] = (
        "rotated"
    ),
    made_id: Annotated[
        str | None, typer.Option("--made", help="Id of the dictionary to make; by default made up.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the rotation.", min=0)] = 0,
    detach: DetachOption = False,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Make a dictionary with nothing to share, as a floor.

    Match the other dictionary with it, and give that match to `match --floor`.
    """
    from isogloss.service.cli.output import say, write_json

    with connect(store) as client:
        job = client.floor(dictionary, how, made=made_id, seed=seed)
        made = outcome(client, job, detach=detach, is_json=is_json)
    if made is None:
        return
    if is_json:
        write_json(made)
    else:
        say(f"dictionary {made.id}: {made.features:,} features, {how}")
