"""Compaction joins lanes, and nobody who reads them notices."""

import threading
from pathlib import Path

import numpy as np
import pytest

from isogloss.errors import CorruptData, InvalidInput, NotFound, StorageFull, StoreOwned
from isogloss.store import Compaction, FileSystem, Recording, Revision, Store
from isogloss.store.disk import signed_json
from isogloss.store.lanes.lane_directory import LOG_NAME
from isogloss.store.lanes.log_frames import read_frames
from isogloss.store.recordings.open_direct_lane import open_direct_lane
from isogloss.store.testing import FaultyFiles, check_sample, sample_batch, sample_spec

SPEC = sample_spec()
SITES = tuple(site.name for site in SPEC.sites)


def fill(recording: Recording, lives: int = 4, batches: int = 3) -> None:
    """Record so many lanes, each of so many commits; a training step is some of them long."""
    for _ in range(lives):
        with recording.open_lane() as lane:
            for _ in range(batches):
                number = lane.cursors.get("p", 0) + 1
                lane.append([sample_batch(SPEC, "p", number, step=number // 5)])


def make(store: Store, lives: int = 4) -> Recording:
    recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
    fill(recording, lives)
    return recording


def names(recording: Recording) -> list[str]:
    return [lane.name for lane in recording.lanes()]


def content(recording: Recording, revision: Revision | None = None) -> list[bytes]:
    reader = recording.reader(revision)
    tokens = reader.tokens()
    arrays = [reader.read(site, 0, reader.rows) for site in SITES]
    arrays += [tokens.token_id, tokens.document, tokens.position, tokens.step]
    known = reader.documents()
    documents = [known[int(document)] for document in np.unique(tokens.document)]
    return [*(array.tobytes() for array in arrays), repr(documents).encode()]


def test_joined_lanes_hold_the_same_rows_in_the_same_order(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        before, rows, old = content(recording), recording.revision().rows, names(recording)
        assert recording.compact() == Compaction(lanes=4, into=1, rows=rows)
        assert recording.compact() == Compaction(lanes=0, into=0, rows=0)
        (name,) = names(recording)
        assert name not in old
        assert name.partition(".")[0] == old[0].partition(".")[0]
        assert content(recording) == before
        assert recording.cursor("p") == 12
        assert store.verify() == []
        assert [p.name for p in (recording.directory / "lanes").iterdir()] == [name]
        fill(recording, lives=1)
    with Store.open(tmp_path) as store:
        assert check_sample(store.recording("sample").reader(), {"p": 15}) == {"p": 15}
        assert store.verify() == []


def test_revisions_of_before_give_the_same_bits(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
        revisions, wanted = [], []
        for life in range(3):
            with recording.open_lane() as lane:
                for _ in range(2):
                    lane.append([sample_batch(SPEC, "p", lane.cursors.get("p", 0) + 1)])
                    revisions.append(recording.revision())
                    wanted.append(content(recording))
            if life == 1:
                recording.compact()
                revisions.append(recording.revision())
                wanted.append(content(recording))
        assert recording.compact().into == 1
        for revision, bits in zip(revisions, wanted, strict=True):
            assert content(recording, revision) == bits
        moments = [recording.statistics("layer.2", revision) for revision in revisions]
        for revision, found in zip(revisions, moments, strict=True):
            values = recording.reader(revision).read("layer.2", 0, revision.rows)
            assert found.revision == revision.id
            assert found.count == revision.rows
            np.testing.assert_allclose(found.mean, values.astype(np.float64).mean(0), atol=1e-6)
    with Store.attach(tmp_path) as attached:
        again = attached.recording("sample")
        assert [content(again, revision) for revision in revisions] == wanted


def test_shuffled_order_of_a_revision_outlives_compaction(tmp_path: Path) -> None:
    def epoch(recording: Recording, revision: Revision) -> list[bytes]:
        batches = recording.reader(revision).shuffled(
            SITES, seed=1, epoch=2, batch_rows=8, block_rows=4, window_rows=32
        )
        return [batch.sites[site].tobytes() for batch in batches for site in SITES]

    with Store.open(tmp_path) as store:
        recording = make(store)
        whole = recording.revision()
        some = Revision(recording=whole.recording, lanes=whole.lanes[1:3])
        before = epoch(recording, whole), epoch(recording, some)
        recording.compact()
        assert (epoch(recording, whole), epoch(recording, some)) == before


def test_readers_that_are_open_go_on(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store, Store.attach(tmp_path) as attached:
        recording = make(store)
        elsewhere = attached.recording("sample")
        untouched, begun = recording.reader(), elsewhere.reader()
        begun.read("layer.2", 0, 5)
        begun.tokens(0, 3)
        mapped = recording.reader().shuffled(SITES, seed=0, epoch=0, batch_rows=16)
        before = [b.sites["layer.2"].tobytes() for b in mapped]
        late = recording.reader()
        recording.compact()
        for reader in (untouched, begun):
            assert check_sample(reader, {"p": 12}) == {"p": 12}
        after = late.shuffled(SITES, seed=0, epoch=0, batch_rows=16)
        assert [b.sites["layer.2"].tobytes() for b in after] == before
        assert check_sample(elsewhere.reader(), {"p": 12}) == {"p": 12}


def test_another_process_reads_on_while_lanes_are_joined(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store, Store.attach(tmp_path) as attached:
        recording = make(store, lives=2)
        failures: list[BaseException] = []
        sizes: list[int] = []
        ended = threading.Event()

        def look() -> None:
            elsewhere = attached.recording("sample")
            while not ended.is_set():
                try:
                    sizes.append(check_sample(elsewhere.reader(), {"p": 6})["p"])
                    ended.wait(0.005)
                except BaseException as error:
                    failures.append(error)
                    return

        thread = threading.Thread(target=look)
        thread.start()
        for _ in range(3):
            recording.compact()
            fill(recording, lives=1)
        ended.set()
        thread.join()
    assert failures == []
    assert sizes == sorted(sizes)


def test_runs_end_at_the_limit_and_at_lanes_that_stay(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=5)
        rows = [lane.rows for lane in recording.lanes()]
        live = recording.open_lane()
        live.append([sample_batch(SPEC, "p", 16)])
        done = recording.compact(max_rows=rows[0] + rows[1])
        assert done.lanes == 2 * done.into
        assert recording.lanes()[0].rows == rows[0] + rows[1]
        assert names(recording)[-1] == live.name
        assert recording.compact(max_rows=1) == Compaction(lanes=0, into=0, rows=0)
        live.append([sample_batch(SPEC, "p", 17)])
        assert check_sample(recording.reader(), {"p": 17}) == {"p": 17}
        with pytest.raises(InvalidInput, match="max_rows 0"):
            recording.compact(max_rows=0)
        with Store.attach(tmp_path) as attached, pytest.raises(StoreOwned, match="attached"):
            attached.recording("sample").compact()


def test_lanes_without_rows_vanish(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        for _ in range(3):
            recording.open_lane().close()
        fill(recording, lives=1)
        assert recording.compact().lanes == 4
        assert len(names(recording)) == 1
        assert check_sample(recording.reader(), {"p": 3}) == {"p": 3}
        assert store.verify() == []


def test_cursors_of_all_producers_are_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"])
        for producer, first in (("p", 1), ("q", 1), ("p", 2)):
            with recording.open_lane() as lane:
                lane.append([sample_batch(SPEC, producer, first)])
        recording.compact()
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 2), sample_batch(SPEC, "p", 3)])
            assert lane.append([sample_batch(SPEC, "q", 2)]).cursors == {"q": 2}
        assert check_sample(recording.reader(), {"p": 3, "q": 2}) == {"p": 3, "q": 2}


def test_compressed_lanes_are_joined_and_compressed_again(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=2)
        recording.compress()
        fill(recording, lives=1)
        pinned, before = recording.reader(), content(recording)
        assert recording.compact().lanes == 3
        lane = recording.directory / "lanes" / names(recording)[0]
        assert (lane / "compressed-0").exists()
        assert not (lane / "site-0").exists()
        assert content(recording) == before
        assert check_sample(pinned, {"p": 9}) == {"p": 9}
        assert store.verify() == []
        assert recording.compress() == 0


def test_statistics_are_merged_and_not_measured_again(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        recording.derive()
        before = [recording.statistics(site) for site in SITES]
        recording.compact()
        lane = recording.directory / "lanes" / names(recording)[0]
        assert (lane / "statistics-0").exists()
        for site, old in zip(SITES, before, strict=True):
            new = recording.statistics(site)
            assert (new.count, new.norm_mean, new.norm_max) == (
                old.count, old.norm_mean, old.norm_max
            )  # fmt: skip
            assert new.mean.tobytes() == old.mean.tobytes()
            assert new.m2.tobytes() == old.m2.tobytes()


def test_notes_of_damage_are_kept(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = store.create_recording(SPEC, ["a"], shard_bytes=3 << 10)
        fill(recording, lives=1)
        lane = recording.open_lane()
        for sequence in (4, 5, 6):
            lane.append([sample_batch(SPEC, "p", sequence)])
        path = recording.directory / "lanes" / lane.name / "site-1/c/0/0"
        writer = lane._log
        assert writer is not None
        damaged = bytearray(path.read_bytes())
        damaged[4096] ^= 1
        path.write_bytes(damaged)
        lane._release()  # the writer is gone without a seal
        fresh = Recording(
            files=recording._files, directory=recording.directory, etag="", is_owner=True
        )
        assert fresh.compact().lanes == 2
        (state,) = fresh.lanes()
        assert state.seal is not None
        assert f"{lane.name}: data of frame 1" in state.seal.damage
        (problem,) = fresh.verify()
        assert lane.name in problem.message


def test_damaged_rows_are_never_joined(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store)
        before = names(recording)
        path = recording.directory / "lanes" / before[2] / "site-1/c/0/0"
        whole = path.read_bytes()
        path.write_bytes(whole[:4100] + bytes([whole[4100] ^ 1]) + whole[4101:])
        with pytest.raises(CorruptData, match="run verify"):
            recording.compact()
        assert names(recording) == before
        path.write_bytes(whole)
        assert recording.compact().lanes == 4


def test_a_full_disk_leaves_the_lanes_as_they_were(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        directory = make(store).directory
    failed = 0
    recording = Recording(files=FileSystem(), directory=directory, etag="", is_owner=True)
    for place in range(1, 200, 12):
        full = FaultyFiles(fail_at=place, error=28, operations=frozenset({"write", "truncate"}))
        recording = Recording(files=full, directory=directory, etag="", is_owner=True)
        try:
            recording.compact()
        except StorageFull:
            failed += 1
            assert [p for p in (directory / "lanes").iterdir() if p.name[0] == "."] == []
            assert check_sample(recording.reader(), {"p": 12}) == {"p": 12}
        else:
            break
    assert failed > 2
    assert len(names(recording)) == 1
    assert recording.verify() == []


def test_a_joined_lane_that_came_back_changed_is_refused(tmp_path: Path) -> None:
    class Forgetful(FaultyFiles):
        """A disk that loses a byte of every shard of a joined lane between write and read."""

        def drop_cache(self, descriptor: int) -> None:
            link = Path(f"/proc/self/fd/{descriptor}").resolve()
            if ".partial" in str(link) and link.name == "0":
                content = bytearray(link.read_bytes())
                content[4097] ^= 1
                link.write_bytes(content)

    with Store.open(tmp_path) as store:
        recording = make(store)
        forgetful = Recording(
            files=Forgetful(fail_at=0, error=5, operations=frozenset()),
            directory=recording.directory,
            etag="",
            is_owner=True,
        )
        before = names(recording)
        with pytest.raises(CorruptData, match="stay as they were"):
            forgetful.compact()
        assert names(recording) == before
        assert check_sample(recording.reader(), {"p": 12}) == {"p": 12}


def test_what_is_told_ends_the_work_and_nothing_changes(tmp_path: Path) -> None:
    class Enough(Exception):
        pass

    told: list[tuple[str, int, int]] = []

    def tell(lane: str, done: int, total: int) -> None:
        told.append((lane, done, total))
        if len(told) == 5:
            raise Enough

    with Store.open(tmp_path) as store:
        recording = make(store)
        before = names(recording)
        with pytest.raises(Enough):
            recording.compact(on_progress=tell)
        assert names(recording) == before
        told[:] = []
        with pytest.raises(Enough):
            recording.compact(on_progress=tell)
        recording.compact()
        total = recording.revision().rows * SPEC.row_bytes
        assert [lane for lane, _, _ in told] == [before[0]] * 3 + [before[1]] * 2
        assert {found for _, _, found in told} == {total}


def test_a_retired_joined_lane_is_gone_under_all_its_names(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=2)
        old = recording.revision()
        recording.compact()
        new, unread = recording.revision(), recording.reader()
        fill(recording, lives=1)
        assert recording.retire(20) > 0
        for revision in (old, new):
            with pytest.raises(NotFound, match="take a new one"):
                recording.reader(revision)
        with pytest.raises(NotFound, match="retired to make room"):
            unread.read("layer.2", 0, unread.rows)
        assert recording.cursor("p") == 9
        assert len(recording.reader().documents()) == 9
        recording.compact()
        assert store.verify() == []


def test_the_log_of_a_joined_lane_is_one_of_its_own(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=2)
        recording.compact()
        (state,) = recording.lanes()
        files = recording._files
        log = files.open(recording.directory / "lanes" / state.name / LOG_NAME)
        frames = list(read_frames(files, log))
        files.close(log)
        assert state.seal is not None
        assert len(frames) == state.seal.frames == 7
        assert frames[-1].end == state.seal.log_bytes
        assert {f"{frame.epoch:016x}" for frame in frames} == {state.name.partition(".")[2]}


def test_lanes_of_other_processes_are_joined_once_they_ended(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=1)
        ticket = recording.offer_direct_lane(["q"])
        with open_direct_lane(tmp_path, ticket) as direct:
            direct.append([sample_batch(SPEC, "q", 1)])
            assert recording.compact().lanes == 0
            direct.append([sample_batch(SPEC, "q", 2)])
        fill(recording, lives=1)
        old, before = recording.revision(), content(recording)
        assert recording.compact().lanes == 3
        assert content(recording) == before
        assert content(recording, old) == before
        assert recording.cursor("q") == 2
        assert store.verify() == []
        store.collect_garbage(older_s=0.0)
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "q", 3)])
    with Store.open(tmp_path) as store:
        found = check_sample(store.recording("sample").reader(), {"p": 6, "q": 3})
        assert found == {"p": 6, "q": 3}
        assert store.verify() == []


def test_what_a_crash_left_of_a_joined_lane_is_litter(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=2)
        half = recording.directory / "lanes" / ".00000001.0123456789abcdef.partial"
        half.mkdir()
        (half / "commit.log").write_bytes(b"x")
        assert store.verify() == []
        assert check_sample(recording.reader(), {"p": 6}) == {"p": 6}
        assert store.collect_garbage() == 1
        assert not half.exists()


def test_a_seal_whose_parts_make_no_sense_is_damage(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=2)
        recording.compact()
        path = recording.directory / "lanes" / names(recording)[0] / "seal.json"
        document = dict(signed_json.decode(path.read_bytes(), "seal"))
    for parts in ([5], [["a", 0, -1, 0, 0]], [["a", 0, 1, 0]], [["a", 0, "1", 0, 0]]):
        path.write_bytes(signed_json.encode({**document, "parts": parts}))
        with Store.open(tmp_path) as store, pytest.raises(CorruptData, match="run verify"):
            store.recording("sample").revision()


def test_the_seal_of_another_process_takes_no_lane_away(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        recording = make(store, lives=1)
        victim = names(recording)[0]
        with open_direct_lane(tmp_path, recording.offer_direct_lane(["q"])) as direct:
            direct.append([sample_batch(SPEC, "q", 1)])
        path = recording.directory / "lanes" / direct.name / "seal.json"
        document = dict(signed_json.decode(path.read_bytes(), "seal"))
        path.write_bytes(signed_json.encode({**document, "parts": [[victim, 0, 1, 0, 1]]}))
    with Store.open(tmp_path) as store:
        recording = store.recording("sample")
        wanted = {"p": 3, "q": 1}
        assert check_sample(recording.reader(), wanted) == wanted
        store.collect_garbage()
        assert victim in names(recording)
        recording.compact(max_rows=1)
        assert victim in names(recording)
        assert recording.compact().lanes == 2
        assert check_sample(recording.reader(), wanted) == wanted
        assert store.verify() == []
