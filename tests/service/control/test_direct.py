"""Lanes are given to processes that read the proof in the store, while its owner lives."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from isogloss.errors import NotFound, NotPermitted, StorageError
from isogloss.service.control.direct import DirectAccess
from isogloss.service.ingest.ingest import Ingest
from isogloss.service.values.direct_proof import PROOF_NAME, is_secret, make_proof
from isogloss.store import Store
from isogloss.store.testing import sample_spec


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "store") as store:
        store.create_recording(sample_spec("docs"), [])
        yield store


@pytest.fixture
def ingest(store: Store) -> Iterator[Ingest]:
    ingest = Ingest(store)
    yield ingest
    ingest.close()


@pytest.fixture
def access(store: Store, ingest: Ingest) -> Iterator[DirectAccess]:
    access = DirectAccess(store, ingest)
    yield access
    access.close()


def test_the_proof_is_a_long_secret_for_the_stores_user_and_new_in_each_life(
    store: Store, ingest: Ingest, access: DirectAccess
) -> None:
    path = store.root / PROOF_NAME
    assert not path.exists()
    assert access.storage() == str(store.root)
    first = path.read_text()
    assert is_secret(first.encode()), "32 bytes in base64"
    assert path.stat().st_mode & 0o777 == 0o600
    access.storage()
    assert path.read_text() == first
    access.close()
    assert not path.exists()
    access.close()
    again = DirectAccess(store, ingest)
    again.storage()
    assert path.read_text() != first
    again.close()


def test_a_proof_that_was_removed_is_written_again(store: Store, access: DirectAccess) -> None:
    path = store.root / PROOF_NAME
    access.storage()
    first = path.read_bytes()
    path.unlink()
    access.storage()
    assert path.read_bytes() == first, "who read it before goes on"
    assert access.open("docs", ["p"], make_proof(first, "docs", ["p"])).lane


@pytest.mark.parametrize("harm", ["other", "empty", "longer", "open to others", "link", "folder"])
def test_a_proof_that_is_not_as_it_was_made_is_made_anew(
    harm: str, store: Store, access: DirectAccess, tmp_path: Path
) -> None:
    path = store.root / PROOF_NAME
    access.storage()
    first = path.read_bytes()
    if harm == "open to others":
        path.chmod(0o644)
    elif harm == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif harm == "folder":
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes({"other": b"y" * 43, "empty": b"", "longer": first * 2}[harm])
    if harm == "folder":  # what is not ours to remove stays, and is said
        with pytest.raises((StorageError, OSError), match=PROOF_NAME):
            access.storage()
        return
    access.storage()
    made = path.read_bytes()
    assert is_secret(made)
    assert made != first
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotPermitted):
        access.open("docs", ["p"], make_proof(first, "docs", ["p"]))
    assert access.open("docs", ["p"], make_proof(made, "docs", ["p"])).lane


def test_a_lane_is_for_who_read_the_proof(store: Store, access: DirectAccess) -> None:
    says = f"not made with what {PROOF_NAME} in the store holds now: read it again"
    for proof in ("", "x"):  # none was ever written
        with pytest.raises(NotPermitted, match=says):
            access.open("docs", ["p"], proof)
    access.storage()
    secret = (store.root / PROOF_NAME).read_bytes()
    right = make_proof(secret, "docs", ["p"])
    others = [
        make_proof(secret, "docs", ["q"]),
        make_proof(secret, "docs", ["p", "q"]),
        make_proof(secret, "lost", ["p"]),
        make_proof(b"x" * 43, "docs", ["p"]),
    ]
    for wrong in ("", right[:-1], f"{right} ", "\u00e9", secret.decode(), *others):
        with pytest.raises(NotPermitted, match=says):
            access.open("docs", ["p"], wrong)
    ticket = access.open("docs", ["p"], right)
    assert ticket.lane
    with pytest.raises(NotFound, match="lost"):
        access.open("lost", ["q"], make_proof(secret, "lost", ["q"]))
    access.close()
    with pytest.raises(NotPermitted, match=says):
        access.open("docs", ["q"], make_proof(secret, "docs", ["q"]))


def test_a_lane_that_nobody_made_is_not_ended(access: DirectAccess) -> None:
    with pytest.raises(NotFound):
        access.end("docs", "no-such-lane")
    with pytest.raises(NotFound, match="lost"):
        access.end("lost", "lane")


def test_without_a_lock_that_says_that_a_writer_died_none_is_given(tmp_path: Path) -> None:
    with Store.open(tmp_path / "unlocked", fencing="create") as store:
        ingest = Ingest(store)
        access = DirectAccess(store, ingest)
        assert access.storage() == ""
        assert not (store.root / PROOF_NAME).exists()
        with pytest.raises(NotPermitted):
            access.open("docs", ["p"], "")
        access.close()
        ingest.close()
