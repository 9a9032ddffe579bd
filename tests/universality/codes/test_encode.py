"""Encoding a probe writes the codes of its segments, whole or not at all."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from isogloss.dictionaries import SparseDictionary
from isogloss.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    ShapeError,
)
from isogloss.store import CodesFile, RecordingReader
from isogloss.universality import Probe, build_probe, encode_probe, load_probed, segment_rows

Record = Callable[..., RecordingReader]

MakeDictionary = Callable[..., SparseDictionary]
Encoded = tuple[RecordingReader, Probe, Path]

Floats = NDArray[np.float32]


def dense(codes: CodesFile) -> Floats:
    block = codes.row_slice(0, codes.rows)
    rows = np.repeat(np.arange(codes.rows), np.diff(block.indptr))
    values = np.zeros((codes.rows, codes.features), np.float32)
    values[rows, block.indices] = block.values
    return values


def test_codes_are_those_of_the_segments_rows(encoded: Encoded, dictionary: MakeDictionary) -> None:
    reader, probe, directory = encoded
    probed = load_probed(directory, "d")
    rows = segment_rows(probe, reader)
    here = rows >= 0
    assert 0 < here.sum() < probe.segments
    found = dense(probed.codes)
    activations = torch.from_numpy(reader.take("layer", rows[here]))
    wanted = dictionary().encode(activations)
    values = np.zeros((here.sum(), 24), np.float32)
    np.put_along_axis(values, wanted.indices.numpy().astype(np.int64), wanted.values.numpy(), 1)
    np.testing.assert_allclose(found[here], values, rtol=1e-6)
    assert not found[~here].any()
    assert np.array_equal(probed.present, here)


def test_codes_do_not_depend_on_the_block(
    encoded: Encoded, tmp_path: Path, dictionary: MakeDictionary
) -> None:
    reader, probe, directory = encoded
    whole = encode_probe(dictionary(), reader, "layer", probe, tmp_path / "one", block_rows=10**6)
    np.testing.assert_allclose(dense(whole), dense(load_probed(directory, "d").codes), rtol=1e-6)


def files(directory: Path) -> dict[Path, tuple[int, int]]:
    return {
        path: (path.stat().st_mtime_ns, path.stat().st_ino)
        for path in Path(directory).rglob("*")
        if path.is_file()
    }


def test_codes_that_stand_are_not_written_again(
    encoded: Encoded, dictionary: MakeDictionary
) -> None:
    reader, probe, directory = encoded
    before = files(directory)
    steps: list[tuple[int, int]] = []
    encode_probe(
        dictionary(),
        reader,
        "layer",
        probe,
        directory,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    assert files(directory) == before
    assert steps == []


def test_progress_is_told_after_each_block(
    encoded: Encoded, tmp_path: Path, dictionary: MakeDictionary
) -> None:
    reader, probe, _ = encoded
    steps: list[tuple[int, int]] = []
    encode_probe(
        dictionary(),
        reader,
        "layer",
        probe,
        tmp_path / "codes2",
        block_rows=100,
        on_progress=lambda done, total: steps.append((done, total)),
    )
    wanted = [*range(100, probe.segments, 100), probe.segments]
    assert steps == [(done, probe.segments) for done in wanted]


class Stopped(Exception):
    pass


@pytest.mark.parametrize("at", [1, 2, 3])
def test_a_stopped_encoding_leaves_nothing_and_starts_again(
    encoded: Encoded, tmp_path: Path, at: int, dictionary: MakeDictionary
) -> None:
    reader, probe, directory = encoded
    target = tmp_path / "again" / "codes"
    seen: list[int] = []

    def stop(done: int, _: int) -> None:
        seen.append(done)
        if len(seen) == at:
            raise Stopped

    with pytest.raises(Stopped):
        encode_probe(dictionary(), reader, "layer", probe, target, block_rows=64, on_progress=stop)
    with pytest.raises(NotFound):
        load_probed(target, "d")
    encode_probe(dictionary(), reader, "layer", probe, target, block_rows=64)
    wanted = dense(load_probed(directory, "d").codes)
    np.testing.assert_array_equal(dense(load_probed(target, "d").codes), wanted)


def test_a_process_killed_before_the_sums_writes_them_next_time(
    encoded: Encoded, tmp_path: Path, dictionary: MakeDictionary
) -> None:
    reader, probe, directory = encoded
    before = load_probed(directory, "d")
    os.rename(directory / "sums", tmp_path / "lost")
    with pytest.raises(NotFound):
        load_probed(directory, "d")
    encode_probe(dictionary(), reader, "layer", probe, directory)
    after = load_probed(directory, "d")
    assert np.array_equal(before.moments.total, after.moments.total)
    assert np.array_equal(before.present, after.present)


def test_codes_without_sums_are_encoded_again_when_the_recording_grew(
    encoded: Encoded, monkeypatch: pytest.MonkeyPatch, dictionary: MakeDictionary
) -> None:
    reader, probe, directory = encoded
    shutil.rmtree(directory / "sums")
    before = files(directory)
    monkeypatch.setattr(reader, "revision", replace(reader.revision, lanes=(("other", 1),)))
    encode_probe(dictionary(), reader, "layer", probe, directory)
    assert before.items().isdisjoint(files(directory).items())
    assert load_probed(directory, "d").codes.attributes["revision"] == reader.revision.id


def test_a_directory_is_for_one_probe_and_one_dictionary(
    encoded: Encoded, dictionary: MakeDictionary
) -> None:
    reader, probe, directory = encoded
    other = build_probe({"b": reader}, grid="word_ends", seed=1)
    with pytest.raises(Conflict, match="own directory"):
        encode_probe(dictionary(), reader, "layer", other, directory)
    with pytest.raises(Conflict, match="own directory"):
        encode_probe(dictionary(seed=1, sha="b" * 64), reader, "layer", probe, directory)


def test_width_and_site_must_fit(
    encoded: Encoded, tmp_path: Path, dictionary: MakeDictionary
) -> None:
    reader, probe, _ = encoded
    with pytest.raises(ShapeError, match="has width 8, the dictionary 9"):
        encode_probe(dictionary(width=9), reader, "layer", probe, tmp_path / "x")
    with pytest.raises(NotFound, match="layer"):
        encode_probe(dictionary(), reader, "lair", probe, tmp_path / "x")
    with pytest.raises(InvalidInput, match="block_rows"):
        encode_probe(dictionary(), reader, "layer", probe, tmp_path / "x", block_rows=0)
    with pytest.raises(NotFound):
        load_probed(tmp_path / "x", "d")
