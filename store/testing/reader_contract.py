# ruff: noqa: D102  (the name of a test is its sentence)
"""The contract of a reader, as tests to subclass."""

from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from isogloss.errors import InvalidInput, NotFound, ShapeError
from isogloss.store.schema.batch import RowBatch, TokenColumns
from isogloss.store.schema.recording_spec import Dtype, RecordingSpec
from isogloss.store.schema.steps import StepInfo
from isogloss.store.testing.checks import (
    RecordingContract,
    any_bits,
    contract_spec,
    holds,
    in_threads,
    numbered,
    require,
    same,
    same_columns,
    site_rows,
)
from isogloss.store.testing.protocols import GrowingRecording, PinnedReader

SITES = ("layer.1/out", "layer.2")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Written:
    """A recording, a reader of it and what it holds."""

    spec: RecordingSpec
    recording: GrowingRecording
    reader: PinnedReader
    batches: list[RowBatch]


class ReaderContract(RecordingContract):
    """Tests of what a :class:`~isogloss.store.RecordingReader` does."""

    def write(self, recording: GrowingRecording, batches: Sequence[RowBatch]) -> None:
        """Append batches behind what is there, in a lane of their own that is closed.

        Override it to try readers of lanes in another state.
        """
        lane = recording.open_lane()
        lane.append(batches)
        lane.close()

    @pytest.fixture(scope="class", params=["bfloat16", "float16", "float32"])
    @classmethod
    def written(
        cls, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
    ) -> _Written:
        """A recording of each dtype that no test changes, with a reader of it."""
        opened = ExitStack()  # no generator: jaxtyping's import hook would hide that it is one
        request.addfinalizer(opened.close)  # noqa: PT021 - for the same reason
        directory = tmp_path_factory.mktemp("reader")
        return opened.enter_context(cls()._written(directory, request.param))

    @contextmanager
    def _written(self, directory: Path, dtype: Dtype = "float32") -> Generator[_Written]:
        spec = contract_spec(dtype, has_spans=dtype != "float16")
        with self.make(directory, spec) as recording:
            trained = [replace(batch, step=20) for batch in numbered(spec, "p", 3, 2)]
            groups = [
                [*numbered(spec, "p", 1, 2), *trained, any_bits(spec, "p", 5)],
                [replace(any_bits(spec, "q", 1), step=21), *numbered(spec, "p", 6, 4)],
            ]
            for group in groups:
                self.write(recording, group)
            yield _Written(
                spec=spec,
                recording=recording,
                reader=recording.reader(),
                batches=[*groups[0], *groups[1]],
            )

    def test_everything_read_agrees_with_what_was_written(self, written: _Written) -> None:
        reader, batches = written.reader, written.batches
        holds(reader, written.spec, batches)
        middle = sum(batch.rows for batch in batches[:5])
        drawn = np.random.default_rng(0).integers(0, reader.rows, 60)
        ranges = [(0, 0), (reader.rows,) * 2, (0, 1), (middle - 2, middle + 2), (3, middle)]
        for site in written.spec.sites:
            rows = site_rows(batches, site)
            for start, stop in ranges:
                same("a range", reader.read(site.name, start, stop), rows[start:stop])
            for chosen in (drawn, np.sort(drawn), np.arange(0), np.array([middle, 0, middle])):
                same("chosen rows", reader.take(site.name, chosen), rows[chosen])
        columns = TokenColumns.concatenate([b.columns for b in batches], written.spec.has_spans)
        for start, stop in ranges:
            same_columns(reader.tokens(start, stop), columns.slice(start, stop))
        for batch in batches:
            document = batch.documents[0].id
            places = np.flatnonzero(columns.document == np.uint64(document))
            same("a document's rows", reader.document_rows(document), places)
        require(reader.document_rows(1).shape == (0,), "an unknown document has rows")

    def test_rows_and_documents_are_found_by_their_training_step(self, written: _Written) -> None:
        reader, batches = written.reader, written.batches
        column = np.concatenate([batch.columns.step for batch in batches])
        by_step = {step: [batch for batch in batches if batch.step == step] for step in (0, 20, 21)}
        wanted = tuple(
            StepInfo(step=step, rows=sum(b.rows for b in found), documents=len(found))
            for step, found in by_step.items()
        )
        require(reader.steps() == wanted, f"steps are {reader.steps()}, wanted {wanted}")
        for step, found in {**by_step, 19: []}.items():
            known = {batch.documents[0].id: batch.rows for batch in found}
            require(reader.known_documents(step) == known, f"known at {step}: {known}")
            require(set(reader.documents(step)) == set(known), f"documents at {step}: {known}")
            same("the rows kept", reader.keep_steps([step]), column == np.uint64(step))
        require(reader.known_documents() == reader.known_documents(0), "0 is not the default")
        same("two steps", reader.keep_steps([21, 0]), column != np.uint64(20))
        document = by_step[20][0].documents[0].id
        same("rows at it", reader.document_rows(document, 20), reader.document_rows(document))
        require(len(reader.document_rows(document, 0)) == 0, "rows of another step came")
        seen = _order(reader, batch_rows=1, keep=reader.keep_steps([20]))
        same("rows trained on", np.sort(seen), np.flatnonzero(column == np.uint64(20)))

    def test_a_step_that_is_none_is_refused(self, written: _Written) -> None:
        reader = written.reader
        for call in (
            lambda: reader.known_documents(-1),
            lambda: reader.documents(1 << 64),
            lambda: reader.keep_steps([]),
            lambda: reader.keep_steps([0, -1]),
            lambda: reader.document_rows(1, -1),
        ):
            with pytest.raises(InvalidInput, match="step"):
                call()

    def test_a_document_recorded_at_two_steps_is_known_at_both(self, tmp_path: Path) -> None:
        spec = contract_spec("float32")
        first, other = numbered(spec, "p", 1, 2)
        again = replace(first, sequence=3, step=5)
        document = first.documents[0].id
        with self.make(tmp_path, spec) as recording:
            for batch in (first, other, again):
                self.write(recording, [batch])
            reader = recording.reader()
            holds(reader, spec, [first, other, again])
            known = {document: first.rows, other.documents[0].id: other.rows}
            require(reader.known_documents(0) == known, f"wanted {known} at 0")
            require(reader.known_documents(5) == {document: first.rows}, "another at 5")
            rows = reader.document_rows(document, 5)
            same(
                "the rows of the second epoch",
                rows,
                first.rows + other.rows + np.arange(first.rows),
            )

    def test_a_reader_stays_pinned_while_the_recording_grows(self, tmp_path: Path) -> None:
        with self._written(tmp_path) as written:
            used, fresh = written.reader, written.recording.reader()
            holds(used, written.spec, written.batches)
            before = _order(used, batch_rows=16)
            more = numbered(written.spec, "p", 10, 3)
            self.write(written.recording, more)
            for reader in (used, fresh, written.recording.reader(used.revision)):
                require(reader.revision == used.revision, f"moved to {reader.revision}")
                same("the order", _order(reader, batch_rows=16), before)
                require(reader.rows == sum(b.rows for b in written.batches), "it grew")
                for site in written.spec.sites:
                    rows = site_rows(written.batches, site)
                    same("pinned rows", reader.read(site.name, 0, reader.rows), rows)
                with pytest.raises(ShapeError):
                    reader.read(SITES[0], 0, reader.rows + 1)
            newest = written.recording.reader()
            require(newest.revision.id != used.revision.id, "two revisions have one id")
            holds(newest, written.spec, [*written.batches, *more])

    def test_a_recording_without_rows_is_read_as_such(self, tmp_path: Path) -> None:
        spec = contract_spec("bfloat16")
        with self.make(tmp_path, spec) as recording:
            reader = recording.reader()
            holds(reader, spec, [])
            require(list(reader.shuffled(SITES, seed=0, epoch=0, batch_rows=1)) == [], "rows came")

    def test_rows_outside_the_revision_are_refused(self, written: _Written) -> None:
        reader = written.reader
        for start, stop in [(-1, 2), (0, reader.rows + 1), (5, 4)]:
            with pytest.raises(ShapeError, match=str(reader.rows)):
                reader.read(SITES[0], start, stop)
            with pytest.raises(ShapeError, match=str(reader.rows)):
                reader.tokens(start, stop)
        for row in (-1, reader.rows):
            with pytest.raises(ShapeError, match=str(reader.rows)):
                reader.take(SITES[0], np.array([0, row]))

    def test_an_unknown_site_is_refused_with_the_sites_there_are(self, written: _Written) -> None:
        reader, none = written.reader, np.arange(0)
        with pytest.raises(NotFound, match=r"layer\.1/oot.*layer\.1/out"):
            reader.read("layer.1/oot", 0, 1)
        with pytest.raises(NotFound, match=r"layer\.3.*layer\.2"):
            reader.take("layer.3", none)
        with pytest.raises(NotFound, match=r"layer\.3.*layer\.2"):
            list(reader.shuffled([SITES[0], "layer.3"], seed=0, epoch=0, batch_rows=1))

    def test_a_revision_of_another_recording_is_refused(self, written: _Written) -> None:
        revision = written.reader.revision
        with pytest.raises(NotFound):
            written.recording.reader(replace(revision, recording="f" * 24))
        with pytest.raises(NotFound):
            written.recording.reader(replace(revision, lanes=(("nowhere", 1),)))

    def test_threads_share_a_reader(self, written: _Written) -> None:
        reader = written.reader

        def visit(seed: int) -> None:
            rows = np.random.default_rng(seed).integers(0, reader.rows, 40)
            for site in written.spec.sites:
                wanted = site_rows(written.batches, site)
                same("rows", reader.take(site.name, rows), wanted[rows])
                same("rows", reader.read(site.name, 0, reader.rows), wanted)
            holds(reader, written.spec, written.batches)

        in_threads([lambda seed=seed: visit(seed) for seed in range(4)])

    @pytest.mark.parametrize("mapped", [True, False])
    def test_shuffled_rows_come_with_their_own_activations(
        self, written: _Written, mapped: bool
    ) -> None:
        steps = written.reader.shuffled(
            SITES, seed=1, epoch=0, batch_rows=7, block_rows=4, window_rows=30, mapped=mapped
        )
        for step, batch in enumerate(steps):
            require(batch.step == step, f"step {step} calls itself {batch.step}")
            require(tuple(batch.sites) == SITES, f"sites are {tuple(batch.sites)}")
            for site in written.spec.sites:
                wanted = site_rows(written.batches, site)[batch.rows]
                same(f"site {site.name!r}", batch.sites[site.name], wanted)

    def test_an_epoch_is_a_permutation_of_the_kept_rows(self, written: _Written) -> None:
        reader = written.reader
        keep = np.random.default_rng(2).random(reader.rows) < 0.6
        for kept in (None, keep):
            wanted = np.arange(reader.rows) if kept is None else np.flatnonzero(keep)
            found = _order(reader, batch_rows=1, keep=kept)
            same("the rows of an epoch, sorted", np.sort(found), wanted)
            require(not np.array_equal(found, wanted), "the rows were not shuffled")
            require(reader.steps_per_epoch(1, kept) == len(wanted), "steps are miscounted")
        most = _order(reader, batch_rows=16, keep=keep)
        require(len(most) == int(keep.sum()) // 16 * 16, f"{len(most)} rows in whole steps")
        require(len(np.unique(most)) == len(most), "a row came twice")
        require(bool(keep[most].all()), "a row came that was not kept")

    def test_reading_resumed_at_a_step_gives_the_remaining_order(self, written: _Written) -> None:
        reader = written.reader
        keep = np.random.default_rng(3).random(reader.rows) < 0.8
        for kept in (None, keep):
            whole = _order(reader, batch_rows=8, keep=kept)
            steps = reader.steps_per_epoch(8, kept)
            require(len(whole) == 8 * steps, f"{steps} steps gave {len(whole)} rows")
            for start in (1, steps // 2, steps - 1, steps, steps + 3):
                for prefetch in (0, 2):
                    found = _order(reader, batch_rows=8, keep=kept, start=start, prefetch=prefetch)
                    same(f"the order from step {start}", found, whole[8 * start :])

    @pytest.mark.parametrize("world", [2, 3])
    def test_ranks_share_the_steps_that_one_would_read_alone(
        self, written: _Written, world: int
    ) -> None:
        reader = written.reader
        alone = _order(reader, batch_rows=4 * world).reshape(-1, world, 4)
        require(len(alone) == reader.steps_per_epoch(4, world=world) > 2, "steps are too few")
        for rank in range(world):
            for start in (0, 2):
                share = _order(reader, batch_rows=4, rank=rank, world=world, start=start)
                same(f"share {rank} of {world}", share.reshape(-1, 4), alone[start:, rank])

    def test_equal_seeds_give_equal_orders_and_others_differ(self, written: _Written) -> None:
        first = _order(written.reader, batch_rows=8)
        same("the order", _order(written.recording.reader(), batch_rows=8), first)
        for seed, epoch in ((8, 0), (7, 1)):
            other = _order(written.reader, batch_rows=8, seed=seed, epoch=epoch)
            require(not np.array_equal(first, other), f"seed {seed}, epoch {epoch} repeat it")

    def test_shuffling_refuses_what_makes_no_sense(self, written: _Written) -> None:
        reader = written.reader
        with pytest.raises(InvalidInput, match="batch_rows 0"):
            _order(reader, batch_rows=0)
        with pytest.raises(InvalidInput, match="rank 2"):
            _order(reader, batch_rows=1, rank=2, world=2)
        with pytest.raises(InvalidInput, match="start_step -1"):
            _order(reader, batch_rows=1, start=-1)
        with pytest.raises(ShapeError, match="keep"):
            _order(reader, batch_rows=1, keep=np.ones(reader.rows + 1, np.bool_))
        with pytest.raises(InvalidInput, match="site"):
            list(reader.shuffled([], seed=0, epoch=0, batch_rows=1))


def _order(
    reader: PinnedReader,
    *,
    batch_rows: int,
    seed: int = 7,
    epoch: int = 0,
    keep: NDArray[np.bool_] | None = None,
    start: int = 0,
    rank: int = 0,
    world: int = 1,
    prefetch: int = 1,
) -> NDArray[np.int64]:
    """Return the rows that an epoch visits, in order."""
    steps = reader.shuffled(
        SITES[:1],
        seed=seed,
        epoch=epoch,
        batch_rows=batch_rows,
        block_rows=4,
        window_rows=30,
        keep=keep,
        start_step=start,
        rank=rank,
        world=world,
        prefetch=prefetch,
    )
    return np.concatenate([np.empty(0, np.int64), *(batch.rows for batch in steps)])
