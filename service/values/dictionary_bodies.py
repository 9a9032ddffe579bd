"""What the catalog's body of a dictionary says of its training.

Bodies of earlier releases lack ``settings``, ``wiring`` and ``sources``: there was one kind, whose
setting ``k`` stands in the body, one wiring, and one source, whose fields stand in the body.
"""

from collections.abc import Mapping
from typing import cast

from isogloss.dictionaries import DEFAULT_WIRING
from isogloss.errors import InvalidInput
from isogloss.service.values.json_fields import object_of, revision_of, steps_of, text_of
from isogloss.service.values.results import SourceInfo

IMPORTED_CODES = "imported_codes"
"""Kind, in the catalog, of a dictionary of which there are codes on one probe and no weights."""


UNTRAINED_RATE = 1e-30
"""Learning rate of a run whose steps are too small to change any weight: a floor for matches."""


def has_weights(body: Mapping[str, object]) -> bool:
    """Return whether there are weights of a dictionary, or codes on one probe alone."""
    return body.get("kind") != IMPORTED_CODES


def knows_model(body: Mapping[str, object]) -> bool:
    """Return whether the model that a dictionary's features are of was recorded here."""
    return object_of(body, "provenance").get("model_known") is not False


def settings_of(body: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a dictionary's kind, or raise ``InvalidInput``."""
    if "settings" in body:
        return object_of(body, "settings")
    return {name: body[name] for name in ("features", "k") if name in body}


def wiring_of(body: Mapping[str, object]) -> str:
    """Return the name of a dictionary's wiring, or raise ``InvalidInput``."""
    return text_of(body, "wiring") if "wiring" in body else DEFAULT_WIRING


def sources_of(body: Mapping[str, object]) -> tuple[SourceInfo, ...]:
    """Return what a dictionary was trained on, at least one source, or raise ``InvalidInput``."""
    found = body.get("sources", [body])
    if not isinstance(found, list) or not found:
        raise InvalidInput(f"sources is {found!r}, wanted a list of at least one")
    return tuple(_source(item) for item in cast("list[object]", found))


def source_to_dict(source: SourceInfo) -> dict[str, object]:
    """Return a source as JSON that :func:`sources_of` reads."""
    steps = {"steps": list(source.steps)} if any(source.steps) else {}
    return {
        "recording": source.recording,
        "recording_uid": source.recording_uid,
        "site": source.site,
        "revision": source.revision.to_dict(),
        **steps,
    }


def _source(found: object) -> SourceInfo:
    if not isinstance(found, Mapping):
        raise InvalidInput(f"a source is {found!r}, wanted an object")
    values = cast("Mapping[str, object]", found)
    return SourceInfo(
        recording=text_of(values, "recording"),
        recording_uid=text_of(values, "recording_uid"),
        site=text_of(values, "site"),
        revision=revision_of(values),
        steps=steps_of(values) or (0,),
    )
