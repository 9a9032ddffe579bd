"""The service on stores without locks: in a shared directory, and on a real object store."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from obstore.store import MemoryStore
from tests.object_server import object_server
from tests.service import planted
from tests.service.serving import append_samples, server_on
from typer.testing import CliRunner

import isogloss
from isogloss import Client
from isogloss.errors import InvalidInput, ServerUnavailable, StorageError
from isogloss.service.cli import main
from isogloss.service.control.garbage import remove_orphans
from isogloss.service.jobs.queue import QUEUE_NAME, JobTable
from isogloss.service.jobs.supervisor import Jobs
from isogloss.service.testing.contracts import VOCABULARY, ClientContract, JobContract
from isogloss.service.values.addresses import TOKEN_NAME
from isogloss.service.values.job_kinds import read_spec
from isogloss.service.values.results import DictionaryInfo
from isogloss.service.values.state_directory import STATE_VARIABLE, state_directory
from isogloss.store import Catalog, Store
from isogloss.store.disk.object_files import ObjectFiles
from isogloss.store.testing import sample_batch, sample_spec

SPEC = sample_spec("samples")


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Generator[Path]:
    """Where this user's programs keep their state."""
    home = tmp_path_factory.mktemp("state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STATE_VARIABLE, str(home))
        yield home


@pytest.fixture(scope="module")
def bucket(state: Path) -> Generator[str]:
    """The address of a bucket of a real server."""
    assert state.is_dir()
    with object_server() as address:
        yield address


@pytest.fixture(scope="module")
def served(bucket: str) -> Generator[str]:
    """The address of a store on an object store that a server owns."""
    address = f"{bucket}/served"
    with server_on(address, "--workers"):
        yield address


@pytest.fixture(scope="module")
def objects_client(served: str) -> Generator[Client]:
    with isogloss.connect(served) as client:
        assert not client.is_local
        yield client


class TestClientOfAServerOnObjects(ClientContract):
    @pytest.fixture
    def client(self, objects_client: Client) -> Client:
        return objects_client


def record(client: Client, count: int) -> None:
    """Append sample batches until there are ``count``."""
    client.create_recording(SPEC, VOCABULARY)
    with client.appender("samples", "rank-0") as appender:
        append_samples(appender, SPEC, count - appender.durable_sequence)


def check(client: Client, count: int) -> None:
    """Every row of the first ``count`` batches is there, once, and nothing else."""
    batches = [sample_batch(SPEC, "rank-0", number) for number in range(1, count + 1)]
    for site in SPEC.sites:
        wanted = np.concatenate([batch.sites[site.name] for batch in batches])
        assert client.read("samples", site.name).tobytes() == wanted.tobytes()
    assert client.verify("samples") == []


def train(client: Client, seed: int, epochs: float = 2.0) -> DictionaryInfo:
    """Train a tiny dictionary."""
    site = planted.SITES["small-docs"]
    more = {"batch_rows": 512, "learning_rate": 0.01}
    made = client.train(
        "small-docs", site=site, features=40, k=3, epochs=epochs, seed=seed, more=more
    )
    return made.result(60)


@pytest.fixture
def planted_store(tmp_path: Path) -> Path:
    """A directory fenced by creation, with something to learn from."""
    with Store.open(tmp_path / "store", fencing="create") as store:
        planted.record(store, "small-docs", seed=1)
    return tmp_path / "store"


def test_a_served_directory_without_locks_records_trains_and_starts_again(
    planted_store: Path,
) -> None:
    with server_on(planted_store, "--workers") as server:
        assert server.addresses == [f"unix:{planted_store}/run/socket"]
        with isogloss.connect(planted_store) as client:
            assert not client.is_local
            record(client, 3)
            made = train(client, seed=1)
            assert server.terminate() == 0
    assert not (planted_store / "run" / "socket").exists()
    with server_on(planted_store) as server, isogloss.connect(planted_store) as client:
        assert not client.is_local
        check(client, 3)
        record(client, 5)
        assert client.compact("samples").lanes == 2
        check(client, 5)
        assert client.dictionaries() == [made]
        assert [job.state for job in client.jobs()] == ["SUCCEEDED"]
        server.kill()
    with isogloss.connect(planted_store, run_workers=False) as client:
        assert client.is_local
        check(client, 5)
        assert client.dictionaries() == [made]
        values, indices = client.encode(made.id, np.zeros((2, made.width), np.float32))
        assert values.shape == indices.shape == (2, 3)


@pytest.mark.slow
def test_matches_and_nearest_features_need_no_locks(planted_store: Path) -> None:
    with (
        server_on(planted_store, "--workers"),
        isogloss.connect(planted_store) as client,
    ):
        made = [train(client, seed=seed, epochs=4.0) for seed in (1, 2)]
        matched = client.match(made[0], made[1], match="both").result(60)
        assert matched.pairs > 10
        feature = made[0].feature(client.pairs("both")[0].feature_a)
        assert client.nearest(feature, [made[1]])[0].dictionary == made[1].id


@pytest.fixture(scope="module")
def unlocked_workers(tmp_path_factory: pytest.TempPathFactory) -> Generator[Client]:
    root = tmp_path_factory.mktemp("unlocked") / "store"
    Store.open(root, fencing="create").close()
    with isogloss.connect(root) as client:
        assert client.is_local
        yield client


@pytest.mark.slow
class TestJobsWithoutLocks(JobContract):
    @pytest.fixture
    def client(self, unlocked_workers: Client) -> Client:
        return unlocked_workers


def test_the_queue_beside_a_catalog_of_records_is_durable_without_shared_memory(
    tmp_path: Path,
) -> None:
    with Store.open(tmp_path / "store", fencing="create") as store:
        tables = [JobTable.of(store) for _ in range(2)]
        job = tables[0].submit(read_spec("train", planted.train_spec("small-docs", "d")), "once")
        assert tables[1].all() == [job]
        claimed = tables[1].claim(30)
        assert claimed is not None
        assert tables[0].get(job.id).attempt == 1
        for table in tables:
            table.close()
        names = sorted(path.name for path in store.root.glob(f"{QUEUE_NAME}*"))
        assert names == [QUEUE_NAME]
        with closing(sqlite3.connect(store.root / QUEUE_NAME)) as queue:
            assert queue.execute("pragma journal_mode").fetchone() == ("delete",)
        assert not (store.root / "catalog.sqlite").exists()
    with Store.open(tmp_path / "locked") as store:
        table = JobTable.of(store)
        assert (
            table.submit(read_spec("train", planted.train_spec("small-docs", "d")), "").attempt == 0
        )
        table.close()
        assert not (store.root / QUEUE_NAME).exists()


def test_a_store_on_objects_is_owned_in_process_and_then_served(bucket: str, state: Path) -> None:
    address = f"{bucket}/moved"
    with isogloss.connect(address) as client:
        assert client.is_local
        record(client, 4)
        check(client, 4)
        assert client.recording("samples").rows == client.recordings()[0].rows
        described = client.lanes("samples")[0]
        assert not described.direct
        assert [(site.tier, site.stored_bytes) for site in described.sites] == [
            ("live", described.rows * site.row_bytes) for site in SPEC.sites
        ]
        with pytest.raises(InvalidInput, match="recordings only"):
            client.train("samples", site="layer.2", features=8, k=2, more={"batch_rows": 8})
    with server_on(address, "--listen", "127.0.0.1:0") as server:
        with isogloss.connect(address) as client:  # with the token that is kept on this machine
            assert not client.is_local
            record(client, 8)
            check(client, 8)
            assert client.compress("samples").sites == 2 * len(SPEC.sites)  # of two lanes
            tiers = {site.tier for lane in client.lanes("samples") for site in lane.sites}
            assert tiers == {"compressed"}
            check(client, 8)
            old = client.recording("samples").revision
            told: list[int] = []
            joined = client.compact("samples", on_progress=lambda care: told.append(care.done))
            assert (joined.lanes, joined.into, joined.rows) == (2, 1, old.rows)
            assert told == sorted(told)
            assert told[-1] == old.rows * SPEC.row_bytes
            (lane,) = client.lanes("samples")
            assert {site.tier for site in lane.sites} == {"compressed"}
            assert len(client.read("samples", "layer.2", revision=old)) == old.rows
            check(client, 8)
        server.kill()
    with isogloss.connect(address) as client:
        assert client.is_local
        check(client, 8)
        client.delete_recording("samples", client.recording("samples").etag)
        assert client.recordings() == []
    kept = state_directory(address)
    assert kept.parent == state / "isogloss"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert {TOKEN_NAME, QUEUE_NAME} <= {path.name for path in kept.iterdir()}


def test_what_needs_a_directory_is_refused_before_it_is_queued(
    objects_client: Client,
) -> None:
    record(objects_client, 2)
    with pytest.raises(InvalidInput, match=r"recordings only: .* a store in a directory"):
        objects_client.train("samples", site="layer.2", features=8, k=2, more={"batch_rows": 8})
    with pytest.raises(InvalidInput, match="recordings only"):
        objects_client.create_probe(["samples"])
    with pytest.raises(InvalidInput, match="recordings only"):
        objects_client.match("a", "b", probe="p")
    assert objects_client.jobs() == []
    objects_client.collect_garbage(0)
    check(objects_client, 2)


def test_garbage_of_a_store_on_objects_is_never_looked_for_among_our_files(
    state: Path, tmp_path: Path
) -> None:
    assert state.is_dir()
    others = tmp_path / "dictionaries" / Catalog.new_uid()
    others.mkdir(parents=True)
    files = ObjectFiles(MemoryStore())
    with Store.open("/", files=files) as store, Jobs(store, run_workers=False) as jobs:
        store.root = tmp_path
        assert remove_orphans(store, jobs, 0.0) == 0
    assert others.is_dir()


def test_the_command_line_takes_the_address_of_an_object_store(bucket: str) -> None:
    address = f"{bucket}/commands"
    with isogloss.connect(address) as client:
        record(client, 2)
        rows = client.recording("samples").rows
    commands = CliRunner()
    described = commands.invoke(main.app, ["describe", "samples", "--store", address, "--json"])
    assert json.loads(described.stdout)["rows"] == rows
    with isogloss.connect(address) as client:
        record(client, 4)
        rows = client.recording("samples").rows
    joined = commands.invoke(main.app, ["compact", "samples", "--store", address, "--json"])
    assert json.loads(joined.stdout) == {"lanes": 2, "into": 1, "rows": rows}
    verified = commands.invoke(main.app, ["verify", "--store", address])
    assert (verified.exit_code, f"{rows:,} rows" in verified.stdout) == (0, True)
    command = [sys.executable, "-c", "from isogloss.service.cli.main import main; main()"]
    with subprocess.Popen(
        [*command, "serve", "--store", address],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        said = server.stdout.readline()
        answer = commands.invoke(main.app, ["describe", "samples", "--store", address, "--json"])
        server.terminate()
        assert server.wait(60) == 0
    assert said == f"serving {address} on unix:{state_directory(address)}/run/socket\n"
    assert json.loads(answer.stdout)["rows"] == rows


def test_without_the_extra_connecting_names_it_and_makes_nothing(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['obstore'] = None\n"
        "import isogloss\n"
        "try:\n"
        "    isogloss.connect('s3://bucket/x')\n"
        "except isogloss.errors.MissingExtra as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, STATE_VARIABLE: str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "pip install isogloss[cloud]" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_an_address_of_another_scheme_is_refused_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"'ftp://bucket/x' has scheme 'ftp'"):
        isogloss.connect("ftp://bucket/x")
    assert list(tmp_path.iterdir()) == []


def test_state_lies_where_the_user_says_and_elsewhere_when_that_is_no_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(STATE_VARIABLE, "relative")
    found = state_directory("s3://bucket/x")
    assert found.parent == tmp_path / ".local" / "state" / "isogloss"
    assert state_directory("s3://bucket/x/") == found != state_directory("s3://bucket/y")
    assert state_directory(tmp_path / "store") == tmp_path / "store"
    (tmp_path / "file").touch()
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path / "file"))
    with (
        Store.open("/", files=ObjectFiles(MemoryStore())) as store,
        pytest.raises(StorageError, match=f"set {STATE_VARIABLE}"),
    ):
        Jobs(store, run_workers=False)


def test_an_owner_that_was_replaced_runs_no_more_jobs(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store", fencing="create") as sleeper:
        other = tmp_path / "started"
        command = [sys.executable, "-c", f"open({str(other)!r}, 'w')"]
        with (
            Jobs(sleeper, worker_command=command) as jobs,
            Store.open(tmp_path / "store", force=True) as owner,
        ):
            job = jobs.submit(read_spec("train", planted.train_spec("small-docs", "d")))
            assert jobs._workers is not None
            jobs._workers._thread.join(10)
            assert not jobs._workers._thread.is_alive()
            with closing(JobTable.of(owner)) as table:
                assert table.get(job.id) == job
    assert not other.exists()


def test_a_server_that_only_another_machine_reaches_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Store.open(tmp_path / "store", fencing="create") as store:
        here = socket.gethostname()
        for address in (f"unix:{tmp_path}/none", "127.0.0.1:7447"):
            store.set_server(address)
            with monkeypatch.context() as patch:
                patch.setattr(socket, "gethostname", lambda: "elsewhere")
                with pytest.raises(ServerUnavailable, match=f"served on {here} at {address}"):
                    isogloss.connect(tmp_path / "store")
