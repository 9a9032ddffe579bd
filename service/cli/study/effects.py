"""What the features of a dictionary do to the next token of a live model."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import DEFAULT_STORE, JsonOption, StoreOption, connect
from isogloss.service.cli.study.passes import counted_passes

if TYPE_CHECKING:
    from torch import Tensor

    from isogloss.dictionaries import DictionaryModule, FeatureEffect, TokenEffects
    from isogloss.models import LoadedModel

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

    way = dictionaries.check_change(change)
    _check(feature or [], keep=keep, output=output, count=count)
    read = read_texts(texts or [], standard_library=standard_library, words=4 * tokens)
    # a store that cannot be written to is refused before anything is measured
    with connect(store, run_workers=False, read_only=not keep) as client:
        made = client.dictionary(dictionary)
    if feature:
        dictionaries.check_features(made, feature)
    loaded, parts = models.load_model(model, causal=True), allow or ()
    ids = models.token_windows(loaded, [one.text for one in read], tokens=tokens, most=windows)
    if not feature:
        return _whole(made, loaded, ids, parts, is_json=is_json)
    with counted_passes(loaded, is_quiet=is_json) as announce:
        run = partial(dictionaries.feature_effect, change=way, value=value, count=random)
        announce("effects", len(feature) * (3 + random) * len(ids))
        found = [run(made, loaded, ids, one, allow=parts) for one in feature]
        announce("tokens", min(8, len(ids)) + 2 * (1 + len(feature)) * len(ids))
        lists = dictionaries.token_effects(made, loaded, ids, feature, count=count, allow=parts)
    _keep(lists, output, dictionary, store if keep else None)
    return _show_features(lists, found, is_json=is_json)


def _check(features: Sequence[int], *, keep: bool, output: Path | None, count: int) -> None:
    """Refuse lists of tokens that could not be kept, before a model is loaded."""
    from isogloss.dictionaries import MOST_TOKENS

    if (keep or output) and not features:
        raise InvalidInput("lists of tokens are of features: give --feature with --keep, --output")
    if keep and count > MOST_TOKENS:
        raise InvalidInput(f"lists of {count} tokens; {MOST_TOKENS} are kept at most: --count")
    if output is not None:
        there = next(one for one in (output, *output.parents) if one.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise InvalidInput(f"{output} cannot be made (in {there}): choose --output")


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


def _whole(
    made: "DictionaryModule",
    model: "LoadedModel",
    ids: "Tensor",
    allow: Sequence[str],
    *,
    is_json: bool,
) -> None:
    """Measure and show how much of the loss a dictionary keeps."""
    from isogloss.dictionaries import loss_recovered
    from isogloss.service.cli.output import say, write_json

    with counted_passes(model, is_quiet=is_json) as announce:
        announce("losses", 3 * len(ids))
        whole = loss_recovered(made, model, ids, allow=allow)
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
        say(_shown_effect(found))
        for line in shown_tokens(one):
            say(line)


def _shown_effect(found: "FeatureEffect") -> str:
    """Say in a line what changing a feature did; of one that never fires that it does not."""
    title = f"feature {found.feature}, {found.change}:"
    if found.change == "ablate" and not found.firings:
        return f"{title} it never fires on these texts, so that there is no effect to measure"
    never = "" if found.firings else "; it never fires on these texts by itself"
    return (
        f"{title} KL {found.kl:.4g} (p {found.p_kl:.3g}), loss {found.loss:+.4g} "
        f"(p {found.p_loss:.3g}){never}"
    )


def shown_tokens(one: "TokenEffects") -> Iterator[str]:
    """Yield lines that say which tokens a feature promotes and suppresses.

    Args:
        one: what was measured of it.
    """
    for title, some in (("promotes", one.promoted), ("suppresses", one.suppressed)):
        named = ", ".join(f"{each.token!r} {each.change:+.3f}" for each in some)
        yield f"  {title} {named}"
