"""A real server on a real disk without a free byte: it reads, deletes, collects and starts."""

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from tests.service.serving import append_samples, server_on
from tests.small_disk import NEEDS_ROOT, fill, small_disk

import isogloss
from isogloss.errors import StorageFull
from isogloss.store import keep_reserve, spend_reserve
from isogloss.store.testing import check_sample, sample_spec

SPEC, OTHER = sample_spec(), sample_spec("other")
SMALL = {"batch_rows": 8, "holdout": 0.0}
pytestmark = NEEDS_ROOT


@pytest.fixture
def disk(tmp_path: Path) -> Generator[Path]:
    with small_disk(tmp_path / "disk", 80) as disk:
        yield disk


def test_a_server_on_a_full_disk_reads_deletes_collects_and_starts(
    disk: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    store = disk / "store"
    with server_on(store) as server, isogloss.connect(store, timeout_s=300) as client:
        for spec in (SPEC, OTHER):
            client.create_recording(spec, ["a"] * 1000)
            with client.appender(spec.recording, "p") as appender:
                append_samples(appender, spec, 4)
        site = SPEC.sites[0].name
        job = client.train("sample", site=site, features=8, k=4, more=SMALL)
        fill(disk)
        for refused in (
            lambda: client.create_recording(sample_spec("more"), ["a"]),
            lambda: client.train("sample", site=site, features=16, k=4, more=SMALL),
            lambda: append_and_flush(client),
        ):
            with pytest.raises(StorageFull, match="free"):
                refused()
        assert client.verify("sample") == []
        assert len(client.read("sample", site)) == client.recording("sample").rows
        job.cancel()  # which gives up the reserve: a byte is written where none was free
        assert job.state == "CANCELLED"
        fill(disk)
        assert server.terminate() == 0
    spend_reserve(store)  # there is none: the next start makes do with what is free
    fill(disk)
    assert not (store / ".reserve").exists()
    (disk / "filler").unlink()
    assert keep_reserve(store)
    fill(disk)
    with (
        server_on(store),
        isogloss.connect(store, timeout_s=300) as client,
    ):
        assert [found.id for found in client.recordings()] == ["other", "sample"]
        assert len(client.read("sample", site)) == client.recording("sample").rows
        fill(disk)
        os.truncate(disk / "filler", (disk / "filler").stat().st_size - (256 << 10))
        client.delete_recording("other", client.recording("other").etag)
        client.collect_garbage(older_s=0)
        assert [found.id for found in client.recordings()] == ["sample"]
        assert not list(store.glob("trash/*"))
        (disk / "filler").unlink()
        with client.appender("sample", "p") as appender:
            append_samples(appender, SPEC, 2)
    with isogloss.connect(store, run_workers=False) as client:
        reader = client.reader("sample")
        assert check_sample(reader, {"p": 6}) == {"p": 6}
    assert "Traceback" not in capfd.readouterr().err


def append_and_flush(client: isogloss.Client) -> None:
    with client.stream("sample", "q", direct=False, reconnect_s=0.5) as stream:
        append_samples(stream, SPEC, 1)


def test_the_reserve_is_made_with_room_and_given_up_once(tmp_path: Path, disk: Path) -> None:
    assert keep_reserve(tmp_path)
    assert keep_reserve(tmp_path)
    found = (tmp_path / ".reserve").stat()
    assert (found.st_size, found.st_mode & 0o077) == (1 << 20, tmp_path.stat().st_mode & 0o044)
    assert [spend_reserve(tmp_path), spend_reserve(tmp_path)] == [True, False]
    (disk / "half").write_bytes(b"x" * (30 << 20))
    assert not keep_reserve(disk)
    assert not keep_reserve(tmp_path / "nowhere")


def test_a_store_without_a_reserve_says_that_the_disk_is_full(disk: Path) -> None:
    with isogloss.connect(disk / "store", run_workers=False):
        pass
    (disk / "store" / ".reserve").unlink()
    fill(disk)
    with pytest.raises(StorageFull, match=r"store .* cannot be opened: no room"):
        isogloss.connect(disk / "store", run_workers=False)
    (disk / "filler").unlink()
    with isogloss.connect(disk / "store", run_workers=False) as client:
        assert client.recordings() == []
