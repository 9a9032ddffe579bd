"""Which dictionaries can be compared with one, and why the others cannot."""

from collections.abc import Sequence
from dataclasses import dataclass

from isogloss.errors import InvalidInput
from isogloss.service.client.dictionaries import dictionaries, get_dictionary
from isogloss.service.client.recordings import known_documents, steps
from isogloss.service.transport.call import Call
from isogloss.service.values.results import DictionaryInfo, Skipped


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparable:
    """A dictionary, and those that can be compared with it on documents of their recordings."""

    first: DictionaryInfo
    """The dictionary."""
    others: tuple[DictionaryInfo, ...]
    """Those that can be compared with it; at least one."""
    skipped: tuple[Skipped, ...]
    """The others, with the reason."""


def comparable(dictionary: str, among: Sequence[str] | None) -> Call[Comparable]:
    """Find out which dictionaries can be compared with one.

    A dictionary can where it reads one site, held documents back from training, and its recording
    shares documents with that of the first one.

    Args:
        dictionary: id of the first dictionary.
        among: ids of the others; None: all that there are.

    Returns:
        Those that can be compared, and the others with the reason.

    Raises:
        NotFound: there is no such dictionary.
        InvalidInput: none can be compared; the message holds the reason of each.
    """
    first = yield from get_dictionary(dictionary)
    if why := _unfit(first):
        raise InvalidInput(f"dictionary {dictionary!r} cannot be compared: {why}")
    found: list[DictionaryInfo] = []
    if among is None:
        found += [info for info in (yield from dictionaries()) if info.id != dictionary]
    else:
        for name in dict.fromkeys(among):
            found.append((yield from get_dictionary(name)))
    known = {first.recording: (yield from _documents(first.recording))}
    others: list[DictionaryInfo] = []
    skipped: list[Skipped] = []
    for info in found:
        why = _unfit(info)
        if not why and info.recording not in known:
            known[info.recording] = yield from _documents(info.recording)
        if not why and known[info.recording].isdisjoint(known[first.recording]):
            why = (
                f"its recording {info.recording!r} shares no document with {first.recording!r}: "
                "record the same texts with both models"
            )
        if why:
            skipped.append(Skipped(dictionary=info.id, why=why))
        else:
            others.append(info)
    if not others:
        reasons = "; ".join(f"{one.dictionary}: {one.why}" for one in skipped)
        raise InvalidInput(
            f"no dictionary can be compared with {dictionary!r}: "
            f"{reasons or 'there is no other, train one'}"
        )
    return Comparable(first=first, others=tuple(others), skipped=tuple(skipped))


def _unfit(info: DictionaryInfo) -> str:
    """Return why a dictionary cannot be compared with any other; empty where it can."""
    if len(info.sources) != 1:
        return (
            f"it is a {info.wiring} of {len(info.sources)} sites, and a probe encodes rows of one: "
            "train a dictionary of one site (wiring sae)"
        )
    config = info.provenance.get("config")
    if isinstance(config, dict) and config.get("holdout") == 0:
        return "it was trained with holdout 0, so no document is left: train it with holdout 0.25"
    return ""


def _documents(recording: str) -> Call[frozenset[int]]:
    """Return the ids of a recording's documents, at any training step."""
    found: set[int] = set()
    for step in (yield from steps(recording)):
        found |= (yield from known_documents(recording, step.step)).keys()
    return frozenset(found)
