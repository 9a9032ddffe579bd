"""What killed processes leave half-written goes at the next start, or with the next export."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.service.serving import append_samples, server_on

import isogloss
from isogloss.store import Form, Store, export_recording
from isogloss.store.testing import check_sample, sample_batch, sample_spec

SPEC = sample_spec()
OLD_S = 3600.0


def leave(path: Path, *, is_directory: bool) -> Path:
    """Make something half-written, an hour ago."""
    if is_directory:
        (path / "c").mkdir(parents=True)
        (path / "c" / "0").write_bytes(b"half")
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    then = time.time() - OLD_S
    os.utime(path, (then, then))
    return path


def leftovers(store: Path, recording: Path, lane: Path) -> list[Path]:
    """Make every kind of leftover that there is."""
    uid = "0" * 24
    files = [
        store / ".server.json.partial",
        store / ".token.0badcafe.partial",
        store / ".writable",
        store / "..writable.0badcafe.partial",
        recording / ".recording.json.partial",
        recording / ".import-0.json.0badcafe.partial",
        recording / "manifest" / f".{lane.name}.0badcafe.partial",
        lane / ".seal.json.partial",
        store / "dictionaries" / uid / ".weights.safetensors.partial",
        store / "matches" / uid / ".match.json.0badcafe.partial",
    ]
    directories = [
        store / "trash" / uid,
        store / "recordings" / uid,
        recording / ".vocabulary.0badcafe.partial",
        recording / ".vocabulary.0badcafe.partial.old",
        recording / "lanes" / ".00000009.0badcafe.partial",
        lane / ".compressed-0.partial",
        lane / ".columns.0badcafe.partial",
        lane / ".statistics-0.0badcafe.partial",
        store / "probes" / f".{uid}.0badcafe.partial",
        store / "codes" / uid / f".{uid}.0badcafe.partial",
        store / "atlases" / f".{uid}.0badcafe.partial",
    ]
    made = [leave(path, is_directory=False) for path in files]
    return made + [leave(path, is_directory=True) for path in directories]


def test_the_next_server_removes_every_kind_of_leftover_and_nothing_else(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with server_on(store), isogloss.connect(store) as client:
        client.create_recording(SPEC, ["a"] * 1000)
        with client.appender("sample", "p") as appender:
            append_samples(appender, SPEC, 4)
    # the server was killed; a reader closes its lane's books without an owner
    with Store.open(store) as opened:
        recording = opened.recording("sample")
        recording.derive()
        lane = recording.directory / "lanes" / recording.lanes()[0].name
        directory = recording.directory
    before = {path for path in store.rglob("*") if "run" not in path.parts}
    left = leftovers(store, directory, lane)
    young = store / "dictionaries" / ("1" * 24) / ".state.json.partial"
    young.parent.mkdir(parents=True)
    young.write_bytes(b"a worker writes it")
    with server_on(store) as server, isogloss.connect(store) as client:
        deadline = time.monotonic() + 60
        while any(path.exists() for path in left):
            assert time.monotonic() < deadline, [path for path in left if path.exists()]
            time.sleep(0.05)
        assert young.exists()
        assert client.verify("sample") == []
        assert server.terminate() == 0
    gone = before - set(store.rglob("*"))
    assert {path.name for path in gone} <= {
        "server.json",
        "catalog.sqlite-wal",
        "catalog.sqlite-shm",
    }
    with Store.attach(store) as attached:
        reader = attached.recording("sample").reader()
        assert check_sample(reader, {"p": 4}) == {"p": 4}


EXPORT = """
import sys
from pathlib import Path
from isogloss.store import Store, export_recording
from isogloss.store.disk.filesystem import FileSystem

class Slow(FileSystem):
    def sync_data(self, descriptor):
        print("half", flush=True)
        sys.stdin.read()

with Store.attach(sys.argv[1]) as store:
    export_recording(store.recording("sample"), Path(sys.argv[2]), form=sys.argv[3], files=Slow())
"""


@pytest.mark.parametrize("form", ["zarr", "numpy"])
def test_an_export_removes_what_a_killed_one_left_and_not_what_another_one_writes(
    tmp_path: Path, form: Form
) -> None:
    with Store.open(tmp_path / "store") as store:
        recording = store.create_recording(SPEC, ["a"] * 1000)
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
        target = tmp_path / "exported"

        def begin() -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", EXPORT, str(store.root), str(target), form]
            begun = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            assert begun.stdout is not None
            assert begun.stdout.readline() == b"half\n"
            return begun

        killed = begin()
        killed.kill()
        killed.communicate()
        (left,) = tmp_path.glob(".exported.*.partial")
        other = begin()
        (living,) = tmp_path.glob(".exported.*.partial")
        assert living != left, "what the killed one left is there still"
        export_recording(recording, target, form=form)
        assert target.is_dir()
        assert living.exists(), "what another process writes was removed"
        other.kill()
        other.communicate()


def test_what_bears_the_name_of_a_leftover_and_is_none_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    leave(kept, is_directory=True)
    (tmp_path / ".exported.0badcafe.partial").symlink_to(kept, target_is_directory=True)
    leave(tmp_path / ".exported.1badcafe.partial", is_directory=False)
    with Store.open(tmp_path / "store") as store:
        recording = store.create_recording(SPEC, ["a"] * 1000)
        with recording.open_lane() as lane:
            lane.append([sample_batch(SPEC, "p", 1)])
        leave(tmp_path / ".exported.2badcafe.partial", is_directory=True)
        export_recording(recording, tmp_path / "exported", form="numpy")
    assert (kept / "c" / "0").read_bytes() == b"half", "a link was followed"
    assert {path.name for path in tmp_path.glob(".exported.*")} == {
        ".exported.0badcafe.partial",
        ".exported.1badcafe.partial",
    }
