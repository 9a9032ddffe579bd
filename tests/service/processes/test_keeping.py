"""`isogloss serve` starts its server again; small scripts stand for servers that die young."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from tests.service.serving import append_samples, start_kept

import isogloss
from isogloss import Client
from isogloss.errors import NotPermitted, ServerUnavailable
from isogloss.service.processes import keeping
from isogloss.service.processes.config import ServerConfig
from isogloss.service.processes.keeping import keep_serving
from isogloss.service.values.server import ServerProcess
from isogloss.store import Store
from isogloss.store.testing import check_sample, sample_spec

SPEC = sample_spec()
_HEAD = "import json, os, signal, sys, time; given = json.loads(sys.stdin.readline()); "
_READY = "print(json.dumps({'addresses': ['127.0.0.1:7']}), flush=True); "


def script(body: str) -> tuple[str, ...]:
    """A server of a few lines, which has its settings in ``given``."""
    return (sys.executable, "-c", _HEAD + body)


def test_what_the_first_server_says_against_its_start_is_raised(tmp_path: Path) -> None:
    said = json.dumps({"reason": "NOT_PERMITTED", "message": "no, chmod 700 it"})
    with pytest.raises(NotPermitted, match="no, chmod 700 it"):
        keep_serving(tmp_path, command=script(f"print({said!r}); sys.exit(1)"))
    with pytest.raises(ServerUnavailable, match="ended with exit code 3 before it answered"):
        keep_serving(tmp_path, command=script("sys.exit(3)"))


@contextmanager
def told_to_end(when: Callable[[], bool], times: int = 1) -> Generator[None]:
    """Send this process SIGTERM once something is so."""

    def tell() -> None:
        for _ in range(times):
            while not when():
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.5)

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        teller.join()


def test_it_is_started_again_at_the_same_address_with_pauses_that_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_FIRST_PAUSE_S", 0.02)
    log = tmp_path / "log"
    body = f"open({str(log)!r}, 'a').write(json.dumps([time.time(), given]) + chr(10)); {_READY}"
    body += "os.kill(os.getpid(), signal.SIGKILL)"
    ready: list[object] = []

    def lives() -> list[tuple[float, dict[str, dict[str, object]]]]:
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    with told_to_end(lambda: len(lives()) == 5):
        config = ServerConfig(listen=("127.0.0.1:0",))
        keep_serving(tmp_path, config, on_ready=ready.append, command=script(body))
    assert ready == [("127.0.0.1:7",)]
    found = lives()
    assert [given["config"]["listen"] for _, given in found] == [
        ["127.0.0.1:0"],
        *[["127.0.0.1:7"]] * (len(found) - 1),
    ]
    assert [given["lives"]["restarts"] for _, given in found] == list(range(len(found)))
    assert [given["lives"]["last_end"] for _, given in found][1:] == ["killed by SIGKILL"] * (
        len(found) - 1
    )
    assert found[4][0] - found[3][0] >= 0.16, "the pause before the fifth life is 8 times the first"


def test_told_to_end_it_has_its_server_end_and_gives_its_exit_code(tmp_path: Path) -> None:
    ready = threading.Event()
    # SIGTERM would kill these: they are told by their standard input
    with told_to_end(ready.is_set):
        body = f"{_READY}sys.stdin.read(); sys.exit(4)"
        code = keep_serving(tmp_path, on_ready=lambda _: ready.set(), command=script(body))
    assert code == 4
    ready.clear()
    with told_to_end(ready.is_set, times=2):
        body = f"{_READY}sys.stdin.read(); time.sleep(600)"
        code = keep_serving(tmp_path, on_ready=lambda _: ready.set(), command=script(body))
    assert code == 128 + signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def processes_of(client: Client) -> dict[str, ServerProcess]:
    return {found.name: found for found in client.server_info().processes}


def test_a_server_that_was_killed_is_started_again_and_its_clients_go_on(tmp_path: Path) -> None:
    store = tmp_path / "store"
    server = start_kept(store, "--listen", "127.0.0.1:0", "--listen", f"unix:{tmp_path}/run/s")
    token = (store / "token").read_text().strip()
    try:
        with isogloss.connect(server.addresses[0], token=token) as client:
            client.create_recording(SPEC, ["a"])
            with client.stream("sample", "p", direct=False) as stream:
                append_samples(stream, SPEC, 3)
                stream.flush(60)
                before = processes_of(client)
                assert [(p.restarts, p.last_end) for p in before.values()] == [(0, "")] * 2
                assert (sorted(before), before["query"].pid) == (["control", "query"], 0)
                os.kill(before["control"].pid, signal.SIGKILL)
                append_samples(stream, SPEC, 3)
                stream.flush(60)
            after = processes_of(client)["control"]
            assert after.pid not in {0, before["control"].pid}
            assert (after.restarts, after.last_end) == (1, "killed by SIGKILL")
        # as systemd does: to each process, and the server drains all the same
        os.kill(after.pid, signal.SIGTERM)
        assert server.terminate() == 0
    finally:
        server.kill()
    with Store.open(store) as opened:
        assert check_sample(opened.recording("sample").reader(), {"p": 6}) == {"p": 6}


def test_the_log_says_which_process_died_how_and_what_becomes_of_its_work(tmp_path: Path) -> None:
    store, log = tmp_path / "store", tmp_path / "log"
    server = start_kept(store, log=log)

    def until_said(pattern: str) -> re.Match[str]:
        while (found := re.search(pattern, log.read_text())) is None:
            time.sleep(0.05)
        return found

    try:
        with isogloss.connect(store, timeout_s=600) as client:
            client.create_recording(SPEC, ["a"])
            with client.appender("sample", "p") as appender:
                append_samples(appender, SPEC, 8)
            small = {"batch_rows": 8, "holdout": 0.0, "epochs": 2000.0}
            job = client.train("sample", site=SPEC.sites[0].name, features=8, k=2, more=small)
            query = processes_of(client)["query"].pid
            control = processes_of(client)["control"].pid
            os.kill(query, signal.SIGKILL)  # nobody asks it anything now
            until_said(rf"the query process {query} is gone: killed by SIGKILL; the next question")
            killed: list[int] = []
            while not killed:
                found = psutil.Process(control).children()
                killed = [one.pid for one in found if "processes.worker" in " ".join(one.cmdline())]
            os.kill(killed[0], signal.SIGKILL)
            until_said(
                rf"job {job.name}, attempt 1, process {killed[0]}: the worker was killed by SIGKILL"
                r".*\.log\); another one goes on with it"
            )
            job.cancel()
            os.kill(control, signal.SIGKILL)
            until_said("the server is gone: killed by SIGKILL; starting it again in 0.1 s")
    finally:
        server.kill()


def test_the_server_ends_in_good_order_when_who_keeps_it_was_killed(tmp_path: Path) -> None:
    store = tmp_path / "store"
    server = start_kept(store)
    with isogloss.connect(store) as client:
        [pid] = [found.pid for found in client.server_info().processes if found.name == "control"]
        server.kill()
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.02)
    assert not (store / "run" / "socket").exists()
    assert not (store / "server.json").exists()
    with Store.open(store):
        pass


def test_nothing_heavy_is_loaded_by_who_keeps_a_server(tmp_path: Path) -> None:
    code = (
        "import sys, isogloss.service.processes.keeping\n"
        "print([m for m in ('grpc', 'numpy', 'zarr', 'google.protobuf') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
