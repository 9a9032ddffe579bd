"""Errors of users at the command line: 40 of them, and the places in which they are made.

Each is a command that cannot do what it is told: a path that was mistyped, a file that is damaged,
an id that does not exist, a number that is out of range, a server that is not there.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isogloss.store import Document, ModelInfo, RecordingSpec, RowBatch, SiteSpec, Store

RECORDING = "corpus"
SITE = "layer.1"


@dataclass(frozen=True, kw_only=True)
class Planted:
    """A command that ends with an error."""

    name: str
    """What is wrong, in a few words."""
    words: tuple[str, ...]
    """The words behind ``isogloss``; ``{place}`` is the directory of the places."""
    store: str = "good"
    """The place that ISOGLOSS_STORE names; or an address."""
    said: str = ""
    """A part of what the command has to say."""
    is_usage: bool = False
    """Whether it is wrong usage, which ends with 2; other errors end with 1."""
    environment: Mapping[str, str] = field(default_factory=dict[str, str])
    """Variables of its environment."""


def make_places(place: Path) -> None:
    """Make the stores and files on which the errors are made.

    Args:
        place: an empty directory.
    """
    with Store.open(place / "good") as store:
        spec = RecordingSpec(
            recording=RECORDING,
            model=ModelInfo(name="made/up"),
            tokenizer="0" * 64,
            corpus="made up",
            sites=(SiteSpec(name=SITE, width=4, dtype="float32"),),
            has_spans=False,
        )
        recording = store.create_recording(spec, ["a", "b"])
        with recording.open_lane() as lane:
            lane.append([_batch()])
    for name in ("no-manifest", "bad-manifest", "later-manifest", "bad-catalog", "odd-catalog"):
        Store.open(place / name).close()
    (place / "no-manifest" / "isogloss.json").unlink()
    (place / "bad-manifest" / "isogloss.json").write_text("{")
    later = json.loads((place / "later-manifest" / "isogloss.json").read_text())
    later["schema_version"] = 99
    (place / "later-manifest" / "isogloss.json").write_text(json.dumps(later))
    for left in (place / "bad-catalog").glob("catalog.sqlite*"):
        left.unlink()
    (place / "bad-catalog" / "catalog.sqlite").write_bytes(b"no database" * 999)
    for left in (place / "odd-catalog").glob("catalog.sqlite*"):
        left.unlink()
    (place / "odd-catalog" / "catalog.sqlite").mkdir()
    (place / "file").write_text("a file")
    (place / "latin-1.txt").write_bytes(b"caf\xe9")
    (place / "garbage.npy").write_bytes(b"no array")
    (place / "garbage.sav").write_bytes(b"\xff" * 64)
    (place / "empty").mkdir()
    (place / "listed.json").write_text("[1, 2")
    np.save(place / "rows.npy", np.zeros((3, 4), np.float32))
    np.save(place / "objects.npy", np.array([{}], object))


def _batch() -> RowBatch:
    document = Document.from_text("a b a")
    return RowBatch(
        producer="planted",
        sequence=1,
        sites={SITE: np.eye(3, 4, dtype=np.float32)},
        token_id=np.array([0, 1, 0], np.uint32),
        document=np.full(3, document.id, np.uint64),
        position=np.arange(3, dtype=np.uint32),
        documents=(document,),
    )


def environment_of(planted: Planted, place: Path) -> dict[str, str]:
    """Return the environment in which a planted error is made."""
    store = planted.store if ":" in planted.store else str(place / planted.store)
    return {**os.environ, "ISOGLOSS_STORE": store, "COLUMNS": "160", **planted.environment}


def words_of(planted: Planted, place: Path) -> list[str]:
    """Return the words of a planted error's command."""
    return [word.replace("{place}", str(place)) for word in planted.words]


def _train(*words: str) -> tuple[str, ...]:
    return ("train", RECORDING, "--site", SITE, "--detach", *words)


_FILES = ("--recording", "r", "--model", "m")

PLANTED = (
    Planted(name="no store at the path", words=("recordings",), store="typo", said="no store at"),
    Planted(name="a file for a store", words=("recordings",), store="file", said="no store at"),
    Planted(name="a store in a file", words=("recordings",), store="file/store", said="no store"),
    Planted(name="no manifest", words=("describe", "a"), store="no-manifest", said="no store at"),
    Planted(name="manifest cut", words=("recordings",), store="bad-manifest", said="manifest"),
    Planted(
        name="later manifest",
        words=("matches",),
        store="later-manifest",
        said="has schema version 99",
    ),
    Planted(name="damaged catalog", words=("dictionaries",), store="bad-catalog", said="catalog"),
    Planted(name="catalog a directory", words=("jobs",), store="odd-catalog", said="catalog"),
    Planted(name="no server", words=("info",), store="127.0.0.1:1", said="127.0.0.1:1"),
    Planted(name="no socket", words=("info",), store="unix:/nowhere/at/all", said="/nowhere"),
    Planted(name="no such port", words=("info",), store="host:99999", said="99999"),
    Planted(name="unknown scheme", words=("info",), store="ftp://host/a", said="ftp"),
    Planted(name="no store named", words=("info", "--store", ""), said="empty"),
    Planted(name="no text", words=("record", "m", "--site", "s", "--recording", "r"), said="text"),
    Planted(
        name="text of another encoding",
        words=("record", "m", "{place}/latin-1.txt", "--site", "s", "--recording", "r"),
        said="UTF-8",
    ),
    Planted(
        name="no model",
        words=("record", "{place}/no/model", "{place}/file", "--site", "s", "--recording", "r"),
        said="no/model",
    ),
    Planted(name="id of no form", words=("describe", "My_Corpus"), said="my-corpus"),
    Planted(name="no recording", words=("train", "x", "--site", "s", "--features", "8"), said="x"),
    Planted(
        name="no site",
        words=("train", RECORDING, "--site", "layer.7", "--features", "8"),
        said=SITE,
    ),
    Planted(name="no features", words=_train("--features", "0"), said="features"),
    Planted(name="features beyond a number", words=_train("--features", str(10**30)), said="10"),
    Planted(name="more than there are", words=_train("--features", "4", "--k", "9"), said="k"),
    Planted(
        name="no kind",
        words=_train("--features", "8", "--kind", "sparse"),
        said="there are: batch_topk",
    ),
    Planted(
        name="a setting without value", words=_train("--features", "8", "--set", "l1"), said="NAME"
    ),
    Planted(
        name="a setting that nothing has",
        words=_train("--features", "8", "--set", "colour=blue"),
        said="colour",
    ),
    Planted(
        name="a second site without wiring",
        words=_train("--features", "8", "--also", f"{RECORDING}:{SITE}"),
        said="--wiring crosscoder",
    ),
    Planted(
        name="fewer rows than a batch",
        words=_train("--features", "8", "--k", "2", "--batch-rows", "512"),
        said="rows",
    ),
    Planted(name="endless epochs", words=_train("--features", "8", "--epochs", "inf"), said="inf"),
    Planted(
        name="a seed beyond a number",
        words=_train("--features", "8", "--seed", str(2**70)),
        said="seed",
    ),
    Planted(name="no dictionary", words=("nearest", "d", "1"), said="no dictionary 'd'"),
    Planted(
        name="feature beyond a number",
        words=("feature", "d", str(2**70)),
        said=str(2**63 - 1),
        is_usage=True,
    ),
    Planted(name="no match", words=("report", "m", "-o", "{place}/r.html"), said="no match 'm'"),
    Planted(name="no job", words=("jobs", "j", "--cancel"), said="no job 'j'"),
    Planted(name="rows out of range", words=("read", RECORDING, "--start", "9"), said="row 9"),
    Planted(
        name="files into a file",
        words=("export", RECORDING, "{place}/file/out"),
        said="{place}/file",
    ),
    Planted(
        name="objects for rows",
        words=(
            *("import", "--site", "s={place}/objects.npy", *_FILES),
            *("--token-id", "{place}/objects.npy", "--rows-per-document", "3"),
        ),
        said="objects.npy",
    ),
    Planted(
        name="no array",
        words=(
            *("import", "--site", "s={place}/garbage.npy", *_FILES),
            *("--token-id", "{place}/rows.npy", "--rows-per-document", "3"),
        ),
        said="garbage.npy",
    ),
    Planted(name="to serve a file", words=("serve", "--store", "{place}/file"), said="file"),
    Planted(
        name="open to all without TLS",
        words=("serve", "--listen", "0.0.0.0:0"),
        said="TLS",
    ),
    Planted(name="a name that is no text", words=("describe", "corpus\udcff"), said="surrogate"),
)
