"""What the features of a dictionary do to the next token of a live model."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption, connect

if TYPE_CHECKING:
    from isogloss.dictionaries import FeatureEffect, LossRecovered, TokenEffects

app = typer.Typer()

CausalOption = Annotated[
    str,
    typer.Option("--model", help="Causal model: hub id, local directory, or packaged:NAME."),
]
AllowOption = Annotated[
    list[str] | None,
    typer.Option("--allow", help="Part of the passport that may differ; repeat for several."),
]


@app.command()
def effects(
    dictionary: Annotated[str, typer.Argument(help="Id of the dictionary, of one site.")],
    model: CausalOption,
    texts: Annotated[
        list[Path] | None, typer.Argument(help="Text files, or folders of them, to measure on.")
    ] = None,
    feature: Annotated[
        list[int] | None, typer.Option(help="Number of a feature; repeat for several.", min=0)
    ] = None,
    standard_library: Annotated[
        bool, typer.Option("--standard-library", help="Use this Python's own documentation.")
    ] = False,
    change: Annotated[str, typer.Option(help="ablate, clamp or steer.")] = "ablate",
    value: Annotated[
        float | None, typer.Option(help="Of clamp and steer; by default four times the mean.")
    ] = None,
    windows: Annotated[int, typer.Option(help="Stretches of text to measure on.", min=1)] = 16,
    tokens: Annotated[int, typer.Option(help="Tokens of each.", min=4)] = 32,
    count: Annotated[int, typer.Option(help="Tokens of each list.", min=1)] = 8,
    random: Annotated[int, typer.Option(help="Like features to compare with.", min=1)] = 20,
    allow: AllowOption = None,
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Keep the tokens' lists with the dictionary, for `feature`."),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write the tokens' lists to.")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Measure what features do to the tokens that come next.

    Each feature's KL and loss stand beside those of like features, which fire about as often and
    write about as much. Without --feature the dictionary as a whole: the share of the loss that its
    reconstruction keeps.
    """
    from isogloss import dictionaries, models
    from isogloss.service.cli.texts import read_texts

    if change not in dictionaries.CHANGES:
        raise InvalidInput(f"change is {change!r}; wanted one of {', '.join(dictionaries.CHANGES)}")
    if (keep or output) and not feature:
        raise InvalidInput("lists of tokens are of features: give --feature with --keep, --output")
    read = read_texts(texts or [], standard_library=standard_library, words=4 * tokens)
    # a store that cannot be written to is refused before anything is measured
    with connect(store, run_workers=False, read_only=not keep) as client:
        made = client.dictionary(dictionary)
    loaded, may_differ = models.load_model(model, causal=True), allow or ()
    ids = models.token_windows(loaded, [one.text for one in read], tokens=tokens, most=windows)
    if not feature:
        whole = dictionaries.loss_recovered(made, loaded, ids, allow=may_differ)
        return _show_whole(whole, is_json=is_json)
    lists = dictionaries.token_effects(made, loaded, ids, feature, count=count, allow=may_differ)
    _keep(lists, output, dictionary, store if keep else None)
    measured = partial(dictionaries.feature_effect, change=change, value=value, count=random)
    found = [measured(made, loaded, ids, one, allow=may_differ) for one in feature]
    return _show_features(lists, found, is_json=is_json)


def _keep(
    lists: "Sequence[TokenEffects]", folder: Path | None, dictionary: str, store: str | None
) -> None:
    """Write lists of tokens to a folder, and keep them in a store, where either is given."""
    from isogloss.dictionaries import write_token_effects

    if folder is not None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"{folder} cannot be made ({error}): choose --output") from error
        write_token_effects(lists, folder)
    if store is not None:
        with connect(store, run_workers=False) as client:
            client.keep_token_effects(dictionary, lists)


def _show_whole(whole: "LossRecovered", *, is_json: bool) -> None:
    from isogloss.service.cli.output import say, write_json

    if is_json:
        write_json({**asdict(whole), "share": whole.share})
        return
    say(
        f"loss {whole.clean:.4f}; rebuilt {whole.rebuilt:.4f}; without the site "
        f"{whole.ablated:.4f}: {whole.share:.1%} kept"
    )


def _show_features(
    lists: "Sequence[TokenEffects]", effects: "Sequence[FeatureEffect]", *, is_json: bool
) -> None:
    from isogloss.service.cli.output import say, write_json

    if is_json:
        both = zip(lists, effects, strict=True)
        write_json([{"tokens": asdict(one), "effect": asdict(found)} for one, found in both])
        return
    for one, found in zip(lists, effects, strict=True):
        say(
            f"feature {one.feature}, {found.change}: KL {found.kl:.4g} (p {found.p_kl:.3g}), loss "
            f"{found.loss:+.4g} (p {found.p_loss:.3g})"
        )
        for line in shown_tokens(one):
            say(line)


def shown_tokens(one: "TokenEffects") -> Iterator[str]:
    """Yield lines that say which tokens a feature promotes and suppresses.

    Args:
        one: what was measured of it.
    """
    for title, some in (("promotes", one.promoted), ("suppresses", one.suppressed)):
        named = ", ".join(f"{each.token!r} {each.change:+.3f}" for each in some)
        yield f"  {title} {named}"
