"""Which features of dictionaries act on which, and which fire on what a text repeats."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isogloss.errors import InvalidInput
from isogloss.service.cli.options import (
    DEFAULT_STORE,
    CsvOption,
    GraphOption,
    JsonOption,
    ParquetOption,
    StoreOption,
    check_file,
    connect,
)
from isogloss.service.cli.study.effects import AllowOption, CausalOption
from isogloss.service.cli.study.mechanisms import (
    CleanOption,
    CorruptOption,
    CountOption,
    ModelArgument,
    OutputOption,
    RightOption,
    SeedOption,
    TaskOption,
    WrongOption,
    check_texts,
    make_pairs,
    write_page,
)
from isogloss.service.cli.study.passes import counted_passes

if TYPE_CHECKING:
    from isogloss.dictionaries import DictionaryModule, FeatureCircuit

app = typer.Typer()


@app.command("feature-circuit")
def feature_circuit(
    model: ModelArgument,
    dictionary: Annotated[
        list[str], typer.Option(help="Id of a dictionary, or ID:SITE; repeat, one a site.")
    ],
    task: TaskOption = None,
    clean: CleanOption = None,
    corrupt: CorruptOption = None,
    right: RightOption = None,
    wrong: WrongOption = None,
    features: Annotated[
        int, typer.Option(help="Features at tokens to take, over all sites.", min=1)
    ] = 20,
    metric: Annotated[str, typer.Option(help="logit_difference or probability.")] = (
        "logit_difference"
    ),
    count: CountOption = 8,
    seed: SeedOption = 0,
    random: Annotated[int, typer.Option(help="Random circuits to compare with.", min=1)] = 19,
    allow: AllowOption = None,
    graph: GraphOption = None,
    output: OutputOption = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
) -> None:
    """Find features that cause an answer, and act on one another.

    Give --task, or --clean, --corrupt, --right and --wrong. The features are those of greatest
    effect; how far they carry the answer stands beside none of them and random ones.
    """
    from isogloss import dictionaries, models
    from isogloss.service.cli.output import say, write_json

    check_texts(task, clean, corrupt, right, wrong)
    measured = models.check_metric(metric)
    path = check_file(output or Path("feature-circuit.html"))
    made = _by_site(store, dictionary)
    loaded = models.load_model(model, causal=True)
    pairs = make_pairs(loaded, task, (clean, corrupt, right, wrong), count, seed)
    with counted_passes(loaded, is_quiet=is_json) as announce:
        announce("finding the circuit", 6 + random)
        found = dictionaries.feature_circuit(
            loaded, pairs, made, count=features, metric=measured, random=random, allow=allow or ()
        )
    write_page(models.circuit_page(found.graph), path)
    if graph is not None:
        models.write_graph(found.graph, graph)
    if is_json:
        write_json({"path": str(path), **_as_json(found)})
        return
    for (site, at, feature), effect in zip(found.places, found.effects, strict=True):
        say(f"{site} feature {feature} at {at} {found.graph.tokens[at]!r}: {effect:.3f}")
    say(found.graph.facts)
    say(str(path))


def _by_site(store: str, named: Sequence[str]) -> "dict[str, DictionaryModule]":
    """Read dictionaries of one site each, by that site."""
    found: dict[str, DictionaryModule] = {}
    with connect(store, read_only=True) as client:
        for name in named:
            one, _, site = name.partition(":")
            made = client.dictionary(one)
            known = [] if made.passport is None else list(made.passport.sites)
            if not site and len(known) != 1:
                raise InvalidInput(
                    f"dictionary {one!r} is of the sites {known}; wanted one: give another, "
                    f"or {one}:SITE where it does not say its own"
                )
            site = site or known[0]
            if site in found:
                raise InvalidInput(f"two dictionaries are of site {site!r}; give one a site")
            found[site] = made
    return found


def _as_json(found: "FeatureCircuit") -> dict[str, object]:
    places = [
        {
            "site": site,
            "position": at,
            "token": found.graph.tokens[at],
            "feature": feature,
            "effect": effect,
        }
        for (site, at, feature), effect in zip(found.places, found.effects, strict=True)
    ]
    return {
        "faithfulness": found.faithfulness,
        "floor": found.floor,
        "random": found.random,
        "p": found.p,
        "features": places,
        "links": [asdict(link) for link in found.graph.links],
    }


@app.command("repeat-features")
def repeat_features(
    dictionary: Annotated[str, typer.Argument(help="Id of the dictionary, of one site.")],
    model: CausalOption,
    count: Annotated[int, typer.Option(help="Most features to list.", min=1)] = 10,
    texts: Annotated[int, typer.Option(help="Texts of random tokens that repeat.", min=1)] = 16,
    tokens: Annotated[int, typer.Option(help="Tokens of each.", min=6)] = 96,
    seed: Annotated[int, typer.Option(help="Of the texts.")] = 0,
    allow: AllowOption = None,
    store: StoreOption = DEFAULT_STORE,
    is_json: JsonOption = False,
    is_csv: CsvOption = False,
    parquet: ParquetOption = None,
) -> None:
    """List features that fire on what a text repeats.

    Random tokens stand in each text twice. A feature is compared on the second copy of a token with
    the first; p is of a sign test, times the number of features.
    """
    from isogloss import dictionaries, models
    from isogloss.service.cli.output import TableForm, fields_of, write_list

    form = TableForm(is_json=is_json, is_csv=is_csv, parquet=parquet)
    with connect(store, read_only=True) as client:
        made = client.dictionary(dictionary)
    loaded = models.load_model(model, causal=True)
    ids = models.repeated_ids(loaded, sequences=texts, tokens=tokens, seed=seed)
    with counted_passes(loaded, is_quiet=form.is_for_programs) as announce:
        announce("reading texts that repeat", len(ids))
        found = dictionaries.repeat_features(made, loaded, ids, allow=allow or ())[:count]
    titles, rows = fields_of(found, dictionaries.RepeatFeature)
    write_list(form, found, titles, rows, "no feature fires on these texts")
