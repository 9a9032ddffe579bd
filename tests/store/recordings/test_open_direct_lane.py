"""A direct lane is opened with the store's own ticket, past no link."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from isogloss.errors import (
    Conflict,
    NotFound,
    NotPermitted,
)
from isogloss.store import LaneLimits, Recording, Store
from isogloss.store.recordings.open_direct_lane import open_direct_lane
from isogloss.store.testing import sample_spec

SPEC = sample_spec()


SHARD_BYTES = 8 << 10


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Iterator[Store]:
    with Store.open(root) as opened:
        opened.create_recording(SPEC, ["a", "b"], shard_bytes=SHARD_BYTES)
        yield opened


@pytest.fixture
def recording(store: Store) -> Recording:
    return store.recording("sample")


def test_a_ticket_that_the_store_does_not_hold_is_refused(
    root: Path, recording: Recording, tmp_path: Path
) -> None:
    ticket = recording.offer_direct_lane(["p"])
    with pytest.raises(NotPermitted, match="differs"):
        open_direct_lane(root, replace(ticket, limits=LaneLimits(free_bytes=0)))
    with pytest.raises(NotPermitted, match="another store"):
        open_direct_lane(root, replace(ticket, lane="00000009.0123456789abcdef"))
    with Store.open(tmp_path / "other"), pytest.raises(NotPermitted, match="another store"):
        open_direct_lane(tmp_path / "other", ticket)
    with pytest.raises(NotFound, match="mounted"):
        open_direct_lane(tmp_path / "nowhere", ticket)


@pytest.mark.parametrize("part", ["recordings", "uid", "lanes", "direct", "lane", "ticket"])
def test_no_symbolic_link_on_the_way_is_followed(
    root: Path, recording: Recording, tmp_path: Path, part: str
) -> None:
    ticket = recording.offer_direct_lane(["p"])
    path = {
        "recordings": root / "recordings",
        "uid": recording.directory,
        "lanes": recording.directory / "lanes",
        "direct": recording.directory / "direct",
        "lane": recording.directory / "lanes" / ticket.lane,
        "ticket": root / ticket.file,
    }[part]
    elsewhere = tmp_path / "elsewhere"
    if path.exists():
        path.rename(elsewhere)
    else:
        elsewhere.mkdir()
    path.symlink_to(elsewhere)
    before = sorted(elsewhere.rglob("*"))
    with pytest.raises((NotPermitted, Conflict)):
        open_direct_lane(root, ticket)
    if part in {"lanes", "lane"}:
        assert sorted(elsewhere.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory to another user")
@pytest.mark.parametrize("part", [".", "recordings", "recordings/{uid}/lanes"])
def test_a_directory_of_another_user_is_refused(
    root: Path, recording: Recording, part: str
) -> None:
    ticket = recording.offer_direct_lane(["p"])
    os.chown(root / part.format(uid=recording.uid), 12345, -1)
    with pytest.raises(NotPermitted, match="12345"):
        open_direct_lane(root, ticket)
