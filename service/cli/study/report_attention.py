"""What heads of a live model look at where features fire, added to what a report shows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from isogloss.errors import InvalidInput

if TYPE_CHECKING:
    from isogloss.models import Head, LoadedModel

_Places = Mapping[str, Sequence[Mapping[str, object]]]


def with_attention(
    details: Sequence[Mapping[str, object]], model: "LoadedModel", heads: "Sequence[Head] | None"
) -> list[dict[str, object]]:
    """Add attention from the token where a feature fires most, to the first place of each feature.

    Args:
        details: what was saved with matches.
        model: the model of one of their sides.
        heads: which; None: all of the layer that the side's dictionary was trained on.

    Returns:
        The details, with ``attention`` in a first context.

    Raises:
        InvalidInput: no match is of the model, there is no such head, the site lies in no layer, or
            the tokenizer does not tell where tokens stand in a text.
    """
    found: list[dict[str, object]] = []
    names: list[str] = []
    is_of_model = False
    for report in details:
        made = dict(report)
        sides = cast("Mapping[str, Mapping[str, str]]", report["sides"])
        for key in "ab":
            names.append(sides[key]["model"])
            if names[-1] == model.name:
                is_of_model = True
                chosen = heads or _of_site(model, sides[key]["site"])
                places = cast("_Places", report[f"contexts_{key}"])
                made[f"contexts_{key}"] = {
                    feature: [*(_seen(one, model, chosen) for one in some[:1]), *some[1:]]
                    for feature, some in places.items()
                }
        found.append(made)
    if not is_of_model:
        raise InvalidInput(
            f"the matches are of {', '.join(dict.fromkeys(names))}, not of {model.name!r}: give "
            "--attention one of these"
        )
    return found


def _of_site(model: "LoadedModel", site: str) -> "list[Head]":
    """Return the heads of the layer in which a site lies."""
    from isogloss.models import Head, find_sites, head_counts, layer_sites

    (path,) = find_sites(model.module, [site])
    for number, layer in enumerate(layer_sites(model)):
        if path == layer or path.startswith(f"{layer}."):
            return [Head(layer=number, head=i) for i in range(head_counts(model)[number])]
    raise InvalidInput(f"site {site!r} lies in no layer of {model.name!r}: choose heads by --head")


def _seen(
    place: Mapping[str, object], model: "LoadedModel", heads: "Sequence[Head]"
) -> Mapping[str, object]:
    """Return a place of a feature with what heads look at from its peak."""
    from isogloss.models import attention_patterns, read_prompt, readable

    before, peak, after = (str(place[name]) for name in ("before", "peak", "after"))
    if not peak.strip():
        return place
    text, end = before + peak + after, len(before) + len(peak.rstrip())
    prompt = read_prompt(model, text)
    if prompt.span is None:
        raise InvalidInput(
            f"the tokenizer of {model.name!r} does not tell where tokens stand in a text, so that "
            "the one where a feature fires is not known: leave --attention out"
        )
    starts, ends = prompt.span.T.tolist()
    inside = [i for i in range(len(starts)) if starts[i] < end and ends[i] > starts[i]]
    if not inside:
        return place
    at, patterns = inside[-1], attention_patterns(model, text, heads)
    rows = patterns.values[:, at]
    last = len(rows[0]) if rows[:, at + 1 :].any() else at + 1  # of a causal model none is behind
    looked = {
        "tokens": [readable(token) for token in prompt.tokens[:last]],
        "at": at,
        "heads": [
            {"name": str(head), "shares": [round(float(one), 4) for one in row[:last]]}
            for head, row in zip(patterns.heads, rows, strict=True)
        ],
    }
    return {**place, "attention": looked}
