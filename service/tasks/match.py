"""The match job: match the features of two dictionaries, and save the data of its report."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from isogloss.dictionaries import load_dictionary
from isogloss.errors import AlreadyExists, InvalidInput
from isogloss.models import Relatedness, relatedness
from isogloss.service.query.contexts import ContextReader
from isogloss.service.query.queries import REPORT_FILE, newest_probe
from isogloss.service.tasks.heart import Heart
from isogloss.service.tasks.probe import ensure_probe
from isogloss.service.values.dictionary_bodies import (
    UNTRAINED_RATE,
    has_weights,
    knows_model,
    settings_of,
    sources_of,
)
from isogloss.service.values.job_specs import MatchSpec, ProbeSpec
from isogloss.service.values.jobs import JobRecord
from isogloss.service.values.json_fields import default_probe_id, object_of, revision_of, steps_of
from isogloss.store import CatalogEntry, FileSystem, Store
from isogloss.universality import (
    Caution,
    Context,
    Directions,
    Match,
    MatchSettings,
    Probe,
    ProbedDictionary,
    Reference,
    Role,
    check_references,
    foreign_codes,
    load_probed,
    match,
    report_data,
    shared_ancestry,
    shared_init,
    summary_text,
)
from isogloss.version import __version__

_CONTEXTS = 8
_WINDOW = 24
"""Segments of text on each side of a place."""
_SHOWN = 12
_BINS = 20


def match_task(store: Store, record: JobRecord, heart: Heart) -> dict[str, object]:
    """Match two dictionaries on a probe and save the pairs, nulls, cautions and report data."""
    spec = MatchSpec.from_dict(record.spec)
    name = spec.match
    settings = MatchSettings.from_dict(spec.settings)
    sides = [store.catalog.get("dictionary", side) for side in (spec.a, spec.b)]
    if sides[0].uid == sides[1].uid:
        raise InvalidInput(
            f"both dictionaries are {sides[0].id!r}: give two (another seed or model is one)"
        )
    found = store.catalog.find("match", name)
    if found is not None:
        _check_same(found, spec, sides, settings)
        return {"match": name}
    references = [_reference(store, role, name) for role, name in _referred(spec)]
    entry = ensure_probe(store, heart, _probe_of(store, spec, sides))
    probe = Probe.load(store.artifact("probe", entry.uid))
    a, b = (load_probed(store.artifact("codes", side.uid, entry.uid), side.id) for side in sides)

    told, total = {"segments": float(probe.segments)}, 1

    def on_progress(done: int, steps: int) -> None:
        nonlocal total
        heart.check()
        total = steps + 1  # the last is the report
        heart.progress(done, total, told)

    directions = _directions(store, sides)
    result = match(
        a,
        b,
        probe,
        settings=settings,
        cautions=known_cautions(store, sides, directions),
        directions=directions,
        on_progress=on_progress,
    )
    check_references(result, references)
    uid = str(heart.pin("match_uid", store.catalog.new_uid))
    directory = store.artifact("match", uid)
    result.save(directory)
    report = {
        "schema_version": 1,
        "isogloss": __version__,
        "match": name,
        "created": record.created,
        "data": (data := report_data(result, top=_SHOWN, references=references)),
        "probe": _probe_facts(entry),
        "sides": {key: _side_facts(store, side) for key, side in zip("ab", sides, strict=True)},
    }
    for key, side, probed in zip("ab", sides, (a, b), strict=True):
        heart.check()
        reader = _context_reader(store, entry, probe, side)
        report |= _shown(reader, probed, key, _features_shown(data, f"feature_{key}"))
    _count_together(data, a, b)
    write_report(directory, report)
    summed = (len(result.pairs), summary_text(result, references))
    _register(store, spec, uid, sides, entry, settings, summed)
    heart.progress(total, total, told)
    return {"match": name}


def _shown(
    reader: ContextReader, probed: ProbedDictionary, key: str, features: Sequence[int]
) -> dict[str, object]:
    """Return the contexts and activations of features, as a report holds them."""
    return {
        f"contexts_{key}": {
            str(feature): [
                _plain(found) for found in reader.read(probed, feature, _CONTEXTS, _WINDOW)
            ]
            for feature in features
        },
        f"activations_{key}": {str(feature): _activations(probed, feature) for feature in features},
    }


Sides = tuple[Directions | None, Directions | None]


def _directions(store: Store, sides: list[CatalogEntry]) -> Sides:
    """Return the weights of both dictionaries; None for one of which there are codes only."""
    found: list[Directions | None] = []
    for side in sides:
        if not has_weights(side.body):
            found.append(None)
            continue
        tensors = load_dictionary(store.artifact("dictionary", side.uid)).tensors
        encoder = tensors.get("encoder")
        found.append(
            Directions(
                decoder=tensors["decoder"].numpy(),
                encoder=None if encoder is None else encoder.numpy(),
            )
        )
    return found[0], found[1]


def _referred(spec: MatchSpec) -> list[tuple[Role, str]]:
    """Return the role and the id of each match that is to stand beside."""
    return [
        *(("ceiling", name) for name in spec.ceilings),
        *(("floor", name) for name in spec.floors),
    ]


def _reference(store: Store, role: Role, name: str) -> Reference:
    """Load a match that is to stand beside; InvalidInput for a ceiling of two models or sites."""
    entry = store.catalog.get("match", name)
    sides = [store.catalog.get("dictionary", str(entry.body.get(side))) for side in "ab"]
    sources = [sources_of(side.body)[0] for side in sides]
    if role == "ceiling":
        places = {(source.recording_uid, source.site) for source in sources}
        if len(places) > 1:
            raise InvalidInput(
                f"ceiling {name!r} is of {sources[0].recording} {sources[0].site} and "
                f"{sources[1].recording} {sources[1].site}: a ceiling is of one model and site, "
                "dictionaries of two seeds"
            )
    return Reference(
        role=role,
        name=name,
        what=" x ".join(_said(side) for side in sides),
        match=Match.load(store.artifact("match", entry.uid)),
    )


def _said(side: CatalogEntry) -> str:
    """Name a dictionary, and what kept it from learning where something did."""
    provenance = object_of(side.body, "provenance")
    config = object_of(provenance, "config")
    rate, why = config.get("learning_rate"), provenance.get("floor") or config.get("control")
    if isinstance(rate, float) and rate <= UNTRAINED_RATE:
        why = "untrained"
    return f"{side.id} ({why})" if why else side.id


def known_cautions(store: Store, sides: list[CatalogEntry], directions: Sides) -> list[Caution]:
    """Return the cautions that follow from where two dictionaries come from."""
    specs = [store.recording(sources_of(side.body)[0].recording).spec for side in sides]
    models = [spec.model for spec in specs]
    known = all(knows_model(side.body) for side in sides)
    related = relatedness(models[0].ancestry, models[1].ancestry)
    if not known:
        related = Relatedness(related=False, similarity=0.0, why="a model was not recorded")
    elif not (models[0].ancestry and models[1].ancestry):
        # without fingerprints the names decide: a default one is that of the model's class
        same = (models[0].name, models[0].revision) == (models[1].name, models[1].revision)
        why = f"both are called {models[0].name}, and no fingerprint tells them apart"
        related = Relatedness(related=same, similarity=float(same), why=why if same else "")
    hashes = [str(object_of(side.body, "provenance").get("init_hash", "")) for side in sides]
    decoders = [None if side is None else side.decoder for side in directions]
    imported = [side for side in sides if not has_weights(side.body)]
    unknown = [side.id for side in imported if not knows_model(side.body)]
    found = [
        shared_init(
            hash_a=hashes[0],
            hash_b=hashes[1],
            decoder_a=decoders[0],
            decoder_b=decoders[1],
            same_space=related.related,
        ),
        shared_ancestry(related=related.related, similarity=related.similarity, why=related.why),
        foreign_codes([side.id for side in imported], unknown),
    ]
    return [caution for caution in found if caution is not None]


def _probe_of(store: Store, spec: MatchSpec, sides: list[CatalogEntry]) -> ProbeSpec:
    """Return the probe to compare on: the one named, the newest that has both, or the default."""
    names = tuple(side.id for side in sides)
    recordings = tuple(sorted({s.recording for side in sides for s in sources_of(side.body)}))
    probe = spec.probe
    if probe is None:
        newest = newest_probe(store, set(names), spec.steps)
        probe = default_probe_id(recordings, spec.steps) if newest is None else newest.id
    return ProbeSpec(probe=probe, recordings=recordings, dictionaries=names, steps=spec.steps)


def _check_same(
    found: CatalogEntry,
    spec: MatchSpec,
    sides: list[CatalogEntry],
    settings: MatchSettings,
) -> None:
    wanted: dict[str, object] = {
        "a_uid": sides[0].uid,
        "b_uid": sides[1].uid,
        "settings": settings.to_dict(),
        "probe": spec.probe or found.body.get("probe"),
    }
    differences = [name for name, value in wanted.items() if found.body.get(name) != value]
    differences += [
        role for role, names in _references(spec).items() if list(names) != found.body.get(role, [])
    ]
    differences += ["steps"] if spec.steps != steps_of(found.body) else []
    if differences:
        raise AlreadyExists(
            f"match {found.id!r} exists and differs in {', '.join(differences)}: choose another id"
        )


def _references(spec: MatchSpec) -> dict[str, tuple[str, ...]]:
    return {"ceilings": spec.ceilings, "floors": spec.floors}


def _register(
    store: Store,
    spec: MatchSpec,
    uid: str,
    sides: list[CatalogEntry],
    probe: CatalogEntry,
    settings: MatchSettings,
    found: tuple[int, str],
) -> None:
    body: dict[str, object] = {
        "a": sides[0].id,
        "b": sides[1].id,
        "a_uid": sides[0].uid,
        "b_uid": sides[1].uid,
        "probe": probe.id,
        "probe_uid": probe.uid,
        "settings": settings.to_dict(),
        "pairs": found[0],
        "summary": found[1],
        **({"steps": list(spec.steps)} if spec.steps else {}),
        **{role: list(names) for role, names in _references(spec).items() if names},
    }
    store.catalog.put("match", spec.match, uid, body)


def _context_reader(
    store: Store, entry: CatalogEntry, probe: Probe, side: CatalogEntry
) -> ContextReader:
    recording = store.recording(sources_of(side.body)[0].recording)
    revisions = object_of(entry.body, "revisions")
    return ContextReader(probe, recording, revision_of(revisions, recording.id))


def _activations(probed: ProbedDictionary, feature: int) -> dict[str, object]:
    """Return on how many segments of the whole probe a feature fires, and how strongly."""
    _, values = probed.codes.feature(feature)
    highest = float(values.max(initial=0.0))
    counts, edges = np.histogram(values, bins=_BINS, range=(0.0, highest or 1.0))
    return {
        "fires": int(probed.moments.fires[feature]),
        "highest": highest,
        "edges": edges.tolist(),
        "counts": counts.tolist(),
    }


def _count_together(data: Mapping[str, object], a: ProbedDictionary, b: ProbedDictionary) -> None:
    """Write into the example pairs on how many segments of the whole probe both fire."""
    for rows in cast("Mapping[str, list[dict[str, object]]]", data["examples"]).values():
        for row in rows:
            one, _ = a.codes.feature(cast("int", row["feature_a"]))
            other, _ = b.codes.feature(cast("int", row["feature_b"]))
            row["together"] = len(np.intersect1d(one, other))


def _features_shown(data: Mapping[str, object], column: str) -> list[int]:
    examples = cast("Mapping[str, list[Mapping[str, int]]]", data["examples"])
    return sorted({row[column] for rows in examples.values() for row in rows})


def _plain(context: Context) -> dict[str, object]:
    return {
        "document": f"{context.document:016x}",
        "value": context.value,
        "before": context.text_before,
        "peak": context.text_peak,
        "after": context.text_after,
        "pieces": [[piece.text, piece.value] for piece in context.pieces],
        "cut": list(context.cut),
    }


def _probe_facts(entry: CatalogEntry) -> dict[str, object]:
    names = ("recordings", "grid", "holdout", "documents", "segments")
    return {"id": entry.id, "uid": entry.uid, **{name: entry.body.get(name) for name in names}}


def _side_facts(store: Store, entry: CatalogEntry) -> dict[str, object]:
    """Return what a report says of a dictionary and of where it comes from."""
    source = sources_of(entry.body)[0]
    recording = store.recording(source.recording)
    revision = source.revision
    spec = recording.spec
    origin = object_of(entry.body, "provenance").get("origin") or entry.id
    known = knows_model(entry.body)
    return {
        "dictionary": entry.id,
        "uid": entry.uid,
        # of an unknown model the recording is there for its text alone
        "model": spec.model.name if known else f"unrecorded model of {origin}",
        "model_revision": spec.model.revision if known else "",
        "tokenizer": spec.tokenizer,
        "corpus": spec.corpus,
        "recording": spec.recording,
        "recording_uid": recording.uid,
        "recorded_with": dict(spec.provenance),
        "revision": revision.id,
        "rows": revision.rows,
        "site": source.site,
        **({"steps": list(source.steps)} if any(source.steps) else {}),
        **{name: entry.body.get(name) for name in ("kind", "features", "width")},
        "k": settings_of(entry.body).get("k", 0),  # 0: the kind sets no bound
        "provenance": entry.body.get("provenance"),
        "metrics": entry.body.get("metrics"),
    }


def write_report(
    directory: Path, report: Mapping[str, object], files: FileSystem | None = None
) -> None:
    """Write a match's report; after a crash the file is complete or absent.

    Args:
        directory: the match's directory.
        report: the report's data, plain JSON.
        files: file operations to use; None: those of the operating system.
    """
    text = json.dumps(report, ensure_ascii=False, allow_nan=False, sort_keys=True)
    (files or FileSystem()).write_whole(directory / REPORT_FILE, [text.encode()])
