"""A data set for torch yields the store's batches: with workers, on ranks, killed and resumed."""

import json
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.dictionaries.conftest import SITE, Record
from tests.dictionaries.rows.loading import listed, slow

from isogloss.dictionaries import RowDataset, TensorBatch
from isogloss.dictionaries.rows.batches import as_tensor
from isogloss.errors import Conflict, InvalidInput, NotFound, ShapeError
from isogloss.store import RecordingReader, Sampling, Store
from isogloss.store.testing import sample_batch, sample_spec

SITES = ("layer.1/out", "layer.2")
SPEC = sample_spec()
LOADING = Path(__file__).with_name("loading.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that this process owns meanwhile, with two lanes."""
    path = tmp_path_factory.mktemp("dataset")
    with Store.open(path) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=12 << 10)
        for first in (1, 11):
            with recording.open_lane() as lane:
                lane.append([sample_batch(SPEC, "p", first + i) for i in range(10)])
        yield path


@pytest.fixture(scope="module")
def reader(root: Path) -> RecordingReader:
    with Store.attach(root) as store:
        return store.recording("sample").reader()


def same(one: TensorBatch, other: TensorBatch) -> bool:
    return (one.epoch, one.step) == (other.epoch, other.step) and all(
        torch.equal(a, b)
        for a, b in [
            (one.rows, other.rows),
            *((one.sites[name], other.sites[name]) for name in one.sites),
            *((one.tokens[name], other.tokens[name]) for name in one.tokens),
        ]
    )


def load(mode: str, root: Path, file: Path, kind: str, workers: int) -> subprocess.Popen[bytes]:
    arguments = [mode, str(root), str(file), kind, str(workers)]
    return subprocess.Popen([sys.executable, str(LOADING), *arguments])


def test_batches_are_those_of_the_reader_as_tensors(reader: RecordingReader) -> None:
    dataset = RowDataset(reader, SITES, batch_rows=32, seed=9, columns=reader.column_names)
    found = list(dataset)
    wanted = list(reader.shuffled(SITES, seed=9, epoch=0, batch_rows=32))
    assert len(found) == dataset.steps_per_epoch == len(wanted)
    columns = reader.tokens()
    for batch, there in zip(found, wanted, strict=True):
        assert (batch.epoch, batch.step) == (0, there.step)
        assert batch.rows.tolist() == there.rows.tolist()
        for site in SITES:
            assert torch.equal(batch.sites[site], as_tensor(there.sites[site]))
        assert batch.sites[SITES[0]].dtype == torch.bfloat16
        document = batch.tokens["document"].numpy().view(np.uint64)
        np.testing.assert_array_equal(document, columns.document[there.rows])
        assert batch.tokens["span"].shape == (32, 2)
        np.testing.assert_array_equal(batch.tokens["position"], columns.position[there.rows])


def test_units_come_grouped_with_their_tokens(reader: RecordingReader) -> None:
    dataset = RowDataset(
        reader, SITES, batch_rows=8, sampling=Sampling.windows(3), columns=["position", "document"]
    )
    for batch in dataset:
        assert batch.rows.shape == batch.tokens["position"].shape == (8, 3)
        assert batch.sites[SITES[0]].shape == (8, 3, 12)
        assert (batch.tokens["position"].diff(dim=1) == 1).all()
        assert (batch.tokens["document"].diff(dim=1) == 0).all()


@pytest.mark.parametrize("kind", ["pairs", pytest.param("rows", marks=pytest.mark.slow)])
def test_spawned_workers_give_the_same_batches_in_the_same_order(
    root: Path, tmp_path: Path, kind: str
) -> None:
    running = load("listed", root, tmp_path / "shared", kind, 2)
    listed(str(root), tmp_path / "alone", kind, 0)
    assert running.wait(timeout=280) == 0
    assert (tmp_path / "shared").read_text() == (tmp_path / "alone").read_text()
    alone = json.loads((tmp_path / "alone").read_text())
    whole, resumed, later = alone
    steps = len(whole) // 2
    assert [batch[:2] for batch in whole] == [[e, s] for e in (0, 1) for s in range(steps)]
    assert resumed == whole[3:]
    assert [batch[0] for batch in later] == [5] * steps + [6] * steps
    assert len({row for batch in whole[:steps] for row in map(str, batch[2])}) == 20 * steps


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_loop_killed_and_resumed_sees_what_one_that_ran_through_sees(
    root: Path, tmp_path: Path, workers: int
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    slow(str(root), whole, "pairs", 0)
    for lines in (3, 9):
        process = load("slow", root, killed, "pairs", workers)
        deadline = time.monotonic() + 120
        while not killed.exists() or killed.read_text().count("\n") < lines:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()
        process.wait()
        if not (text := killed.read_text()).endswith("\n"):  # a line that was half written
            killed.write_text(text[: text.rfind("\n") + 1])
    assert load("slow", root, killed, "pairs", workers).wait(timeout=280) == 0
    assert killed.read_text() == whole.read_text()


@pytest.mark.slow
def test_workers_that_keep_states_of_their_own_go_on_with_their_own_batches(
    root: Path, tmp_path: Path
) -> None:
    assert load("states", root, tmp_path / "out", "rows", 2).wait(timeout=280) == 0
    whole, resumed = json.loads((tmp_path / "out").read_text())
    assert resumed == whole[6:]


def test_forked_workers_are_refused(root: Path, tmp_path: Path) -> None:
    assert load("forked", root, tmp_path / "out", "rows", 1).wait(timeout=280) == 0
    assert 'multiprocessing_context="spawn"' in (tmp_path / "out").read_text()


def test_ranks_share_each_step_without_overlap(
    reader: RecordingReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = list(RowDataset(reader, SITES, batch_rows=40))
    ranks = [
        list(RowDataset(reader, SITES, batch_rows=20, rank=rank, world=2)) for rank in range(2)
    ]
    for whole, *parts in zip(alone, *ranks, strict=True):
        assert torch.equal(whole.rows, torch.cat([part.rows for part in parts]))
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    dataset = RowDataset(reader, SITES, batch_rows=20)
    assert all(same(*found) for found in zip(dataset, ranks[1], strict=True))
    sent = pickle.dumps(dataset)
    monkeypatch.setenv("RANK", "0")
    assert all(same(*found) for found in zip(pickle.loads(sent), ranks[1], strict=True))
    monkeypatch.setenv("RANK", "first")
    with pytest.raises(InvalidInput, match="RANK and WORLD_SIZE"):
        next(iter(dataset))


def test_a_state_is_where_the_next_batch_is_taken_from(reader: RecordingReader) -> None:
    whole = list(RowDataset(reader, SITES, batch_rows=30, seed=4, epochs=2))
    dataset = RowDataset(reader, SITES, batch_rows=30, seed=4, epochs=2)
    states = [dataset.state_dict(), *(dataset.state_dict() for _ in dataset)]
    assert states[0] == {"seed": 4, "epoch": 0, "step": 0}
    for number, state in enumerate(states):
        other = RowDataset(reader, SITES, batch_rows=30, seed=0)
        other.load_state_dict(state)
        if number < len(whole):
            assert same(next(iter(other)), whole[number])
    resumed = RowDataset(reader, SITES, batch_rows=30)
    for batch, following in pairwise(whole):
        resumed.load_state_dict(batch.state)
        assert same(next(iter(resumed)), following)
    assert dataset.state_dict() == {"seed": 4, "epoch": 2, "step": 0}
    assert same(next(iter(dataset)), whole[0])  # a pass begins where it was told to
    endless = iter(RowDataset(reader, SITES, batch_rows=30, seed=4, epochs=None))
    assert [next(endless).epoch for _ in range(3 * len(whole))][-1] == 5


def test_a_state_that_this_process_cannot_know_is_refused(reader: RecordingReader) -> None:
    dataset = RowDataset(reader, SITES, batch_rows=30)
    pickle.dumps(dataset)  # as a loader does for each worker
    with pytest.raises(Conflict, match=r"batch\.state"):
        dataset.state_dict()
    dataset.set_epoch(2)
    assert dataset.state_dict()["epoch"] == 2
    for state in ({}, {"seed": 0, "epoch": 0}, {"seed": 0, "epoch": -1, "step": 0}):
        with pytest.raises(InvalidInput, match="step"):
            dataset.load_state_dict(state)


def test_a_data_set_refuses_what_it_cannot_read(reader: RecordingReader) -> None:
    with pytest.raises(NotFound, match="nope"):
        RowDataset(reader, ["nope"], batch_rows=1)
    with pytest.raises(NotFound, match="no token column 'nope'"):
        RowDataset(reader, SITES, batch_rows=1, columns=["nope"])
    with pytest.raises(InvalidInput, match="batch_rows 0"):
        RowDataset(reader, SITES, batch_rows=0)
    with pytest.raises(InvalidInput, match="give both or neither"):
        RowDataset(reader, SITES, batch_rows=1, rank=0)
    with pytest.raises(ShapeError, match="keep"):
        RowDataset(reader, SITES, batch_rows=1, keep=np.ones(3, np.bool_))
    with pytest.raises(InvalidInput, match="lower batch_rows"):
        next(iter(RowDataset(reader, SITES, batch_rows=10_000)))


def test_a_data_set_reads_one_training_step_and_names_them_where_there_are_several(
    record: Record,
) -> None:
    rows = np.arange(400, dtype=np.float32).repeat(4).reshape(400, 4)
    reader = record(rows, "float32", steps=(0, 30))
    with pytest.raises(InvalidInput, match="rows of 2 training steps"):
        RowDataset(reader, [SITE], batch_rows=20)
    seen = torch.cat(
        [batch.rows for batch in RowDataset(reader, [SITE], batch_rows=20, steps=[30])]
    )
    assert sorted(seen.tolist()) == list(range(400, 800))
    even = np.arange(800) % 2 == 0
    kept = RowDataset(reader, [SITE], batch_rows=20, steps=[30], keep=even)
    assert sorted(torch.cat([b.rows for b in kept]).tolist()) == list(range(400, 800, 2))
    chosen = RowDataset(reader, [SITE], batch_rows=20, keep=even)  # the caller chose rows
    assert sorted(torch.cat([b.rows for b in chosen]).tolist()) == list(range(0, 800, 2))
    with pytest.raises(ShapeError, match="keep is"):
        RowDataset(reader, [SITE], batch_rows=20, steps=[30], keep=even[1:])
