"""The parts that one process runs for a store."""

import threading
from pathlib import Path

from isogloss.service.control.owner import Owner
from isogloss.service.query.queries import Queries
from isogloss.store import Store
from isogloss.store.testing import sample_batch, sample_spec


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("isogloss")}


def test_closing_commits_what_waits_ends_every_thread_and_lets_the_store_go(tmp_path: Path) -> None:
    before = threads()
    owner = Owner(Store.open(tmp_path / "store"))
    owner.recordings.create(sample_spec(), ["a"] * 1000, "")
    session = owner.ingest.open("sample", "p", lambda: None)
    assert threads() - before == {"isogloss-ingest", "isogloss-jobs"}
    assert session.offer_batch(sample_batch(sample_spec(), "p", 1), 100)
    owner.close()
    assert session.durable == 1
    assert threads() == before
    with Owner(Store.open(tmp_path / "store"), run_workers=False) as again:
        assert again.store.recording("sample").cursor("p") == 1


def test_a_process_that_only_answers_queries_starts_no_thread_and_takes_no_ownership(
    tmp_path: Path,
) -> None:
    with Owner(Store.open(tmp_path / "store"), run_workers=False):
        before = threads()
        with Store.attach(tmp_path / "store") as store:
            assert Queries(store).matches() == []
            assert threads() == before


def test_an_owner_keeps_a_reserve_of_disk_space_in_a_directory(tmp_path: Path) -> None:
    with Owner(Store.open(tmp_path / "store"), run_workers=False):
        assert (tmp_path / "store" / ".reserve").stat().st_size == 1 << 20
