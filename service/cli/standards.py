"""Commands for what a match is judged by: floors, and pairs of which the truth is known."""

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
        made = outcome(job, detach=detach, is_json=is_json)
    if made is None:
        return
    if is_json:
        write_json(made)
    else:
        say(f"dictionary {made.id}: {made.features:,} features, {how}")


@app.command()
def bench(
    what: Annotated[Literal["universality"], typer.Argument(help="What to try.")],
    seeds: Annotated[int, typer.Option(help="How many pairs of dictionaries.", min=1)] = 3,
    documents: Annotated[int, typer.Option(help="Documents of 100 segments.", min=4)] = 240,
    is_json: JsonOption = False,
) -> None:
    """Try the labels on features of which the truth is known.

    Planted pairs (reordered, with firings dropped, split, merged, private) stand among impostors
    that fire in the same places for another reason; how often each is labelled rightly is shown.
    """
    from isogloss.service.cli.output import write_json, write_table
    from isogloss.universality.testing import ground_truth_rates

    del what  # there is one thing to try
    found = ground_truth_rates(range(seeds), documents=documents)
    if is_json:
        write_json({kind: {"right": right, "of": of} for kind, (right, of, _) in found.items()})
        return
    rows = [(kind, means, right, of, right / of) for kind, (right, of, means) in found.items()]
    write_table(("features", "right is", "right", "of", "share"), rows, "nothing was tried")
