"""A store that is served, written and worked on, and what was promised of it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
from tests.service.faults.produce import NAMES
from tests.service.faults.proxy import Proxy

import isogloss
from isogloss.service.jobs.queue import JobTable
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.jobs import JobRecord, JobState
from isogloss.service.values.results import SiteRef
from isogloss.store import Store
from isogloss.store.testing import check_sample, sample_spec

_HERE = Path(__file__).parent
STEPS = 30
PATIENCE_S = 240.0
"""How long anything may take on a busy machine before it counts as hung."""


class World:
    """A store in a directory with its server, its producers and its jobs. May be opened again."""

    def __init__(self, directory: Path) -> None:
        self.store = directory / "store"
        self.unix = f"unix:{directory}/run/s"
        self._state = directory / "state.json"
        self._log = directory / "server.log"
        self.clock = directory / "clock"
        paths = (str(_HERE / "clock"), os.environ.get("PYTHONPATH", ""))
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "ISOGLOSS_TEST_CLOCK": str(self.clock),
        }
        kept = json.loads(self._state.read_text()) if self._state.exists() else {}
        self.round = int(kept.get("round", 0))
        self.promised: dict[str, int] = kept.get("promised", dict.fromkeys(NAMES, 0))
        self.jobs = int(kept.get("jobs", 0))
        self._port = int(kept.get("port", 0)) or _free_port()
        self.errors: list[str] = []
        self.server: subprocess.Popen[str] | None = None
        self.producer: subprocess.Popen[str] | None = None
        self._heard = threading.Condition()
        self.proxy = Proxy(("127.0.0.1", self._port))

    def save(self) -> None:
        """Write down what was promised, so that another run goes on from here."""
        kept = {
            "round": self.round,
            "promised": self.promised,
            "jobs": self.jobs,
            "port": self._port,
        }
        new = self._state.with_suffix(".new")
        new.write_text(json.dumps(kept))
        new.replace(self._state)

    # Its processes.

    def start_server(self) -> None:
        """Run `isogloss serve`; waits until it answers, also behind one that still ends."""
        end = time.monotonic() + PATIENCE_S
        while True:
            words = [str(_HERE / "serve.py"), str(self.store), str(os.getpid()), self.unix]
            with self._log.open("ab") as log:
                process = subprocess.Popen(
                    [sys.executable, *words, f"127.0.0.1:{self._port}"],
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    env=self.environment,
                )
            assert process.stdout is not None
            if process.stdout.readline():
                self.server = process
                return
            process.stdout.close()
            process.wait()
            assert time.monotonic() < end, "the server does not start"
            time.sleep(0.1)

    def start_producer(self) -> None:
        """Run the process that appends."""
        self.producer = subprocess.Popen(
            [
                *(sys.executable, str(_HERE / "produce.py"), str(self.store), self.unix),
                *(f"127.0.0.1:{self.proxy.port}", str(os.getpid())),
            ],
            stdout=subprocess.PIPE,
            text=True,
            env=self.environment,
        )
        threading.Thread(target=self._listen, args=(self.producer,), daemon=True).start()

    def _listen(self, producer: "subprocess.Popen[str]") -> None:
        assert producer.stdout is not None
        for line in producer.stdout:
            with self._heard:
                if line.startswith("ERROR"):
                    self.errors.append(line.strip())
                else:
                    name, number = line.split()
                    self.promised[name] = max(self.promised[name], int(number))
                self._heard.notify_all()
        producer.stdout.close()

    def process(self, kind: str) -> psutil.Process | None:
        """Return a living process: keeper, control, query, worker or producer."""
        if kind == "producer":
            return None if self.producer is None else psutil.Process(self.producer.pid)
        if self.server is None:
            return None
        with contextlib.suppress(psutil.Error):
            keeper = psutil.Process(self.server.pid)
            if kind == "keeper":
                return keeper
            marks = {"control": "--server", "query": "processes.query", "worker": "counting_worker"}
            for found in keeper.children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    if any(marks[kind] in word for word in found.cmdline()):
                        return found
        return None

    # What must go on.

    def begin(self) -> None:
        """Start everything; where there is no store yet, make its recordings."""
        self.start_server()
        with isogloss.connect(self.unix) as client:
            for name in NAMES:
                client.create_recording(sample_spec(name), ["a"])
        self.start_producer()
        self.wait_for_progress()

    def wait_for_progress(self) -> None:
        """Return once every stream has more durable batches than now."""
        before = dict(self.promised)
        end = time.monotonic() + PATIENCE_S
        with self._heard:
            while not all(self.promised[name] > before[name] for name in NAMES):
                assert not self.errors, self.errors
                assert self.producer is not None
                assert self.producer.poll() is None, "the producer ended by itself"
                left = end - time.monotonic()
                assert left > 0, f"no progress since {before}: {self.promised}"
                self._heard.wait(min(left, 1.0))

    def keep_working(self) -> bool:
        """Queue a job, and the next one where that has ended as it should; say whether it has."""
        with Store.attach(self.store) as store:
            table = JobTable.of(store)
            try:
                job = self._submit(table)
                if not job.state.is_final:
                    return False
                self._check_job(job)
                self.jobs += 1
                return True
            finally:
                table.close()

    def _submit(self, table: JobTable) -> JobRecord:
        name = f"job-{self.jobs}"
        config: dict[str, object] = {"mode": "", "total": STEPS, "pause_s": 0.02}
        source = SiteRef(recording="unix", site="layer.2")
        return table.submit(TrainSpec(dictionary=name, sources=(source,), config=config), name)

    def _check_job(self, job: JobRecord) -> None:
        """Raise AssertionError unless a job ended with the result of one that was not disturbed."""
        name = f"job-{self.jobs}"
        assert job.state is JobState.SUCCEEDED, f"{name} ended as {job.state}: {job.error}"
        steps = (self.store / f"{name}.steps").read_text().splitlines()
        numbers, attempts = zip(*(map(int, line.split()) for line in steps), strict=True)
        assert sorted(set(numbers)) == list(range(STEPS))
        # a step is done again where its worker died before it had written that it was done
        assert list(numbers) == sorted(numbers), "an attempt went on after a later one had begun"
        assert list(attempts) == sorted(attempts)
        assert job.result is not None
        assert job.result["dictionary"] == name
        first = job.result["first"]
        assert isinstance(first, int)
        assert first <= attempts[0], "the attempts did not agree on what they pinned"

    # The end.

    def end(self) -> None:
        """End everything in good order, and check that all is there and nothing is left."""
        self.wait_for_progress()
        assert self.producer is not None
        self.producer.send_signal(signal.SIGTERM)
        assert self.producer.wait(PATIENCE_S) == 0
        assert not self.errors, self.errors
        end = time.monotonic() + PATIENCE_S
        while not self.keep_working():
            assert time.monotonic() < end, "a job does not end"
            time.sleep(0.1)
        family = [found for kind in _FAMILY if (found := self.process(kind)) is not None]
        assert self.server is not None
        self.server.send_signal(signal.SIGTERM)
        assert self.server.wait(PATIENCE_S) == 0
        _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
        assert alive == [], "processes are left"
        self.check()

    def check(self) -> None:
        """Raise an error where anything is lost, doubled or left; nothing runs any more."""
        with Store.open(self.store) as store:
            for step in store.recordings():
                found = check_sample(step.reader(), {"p": self.promised[step.id]})
                assert set(found) == {"p"}
                assert step.verify() == []
            store.collect_garbage(0.0)
        left = [path for path in self.store.rglob("*") if path.name.endswith(_TEMPORARY)]
        assert left == [], "temporary files are left"
        assert self.named_processes() == []
        assert not Path(self.unix.removeprefix("unix:")).exists()

    def named_processes(self) -> list[list[str]]:
        """Return the command lines of processes of this store, other than this one."""
        found: list[list[str]] = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                words = process.cmdline()
                if process.pid != os.getpid() and str(self.store) in words:
                    found.append(words)
        return found

    def kill(self) -> None:
        """End everything at once, after a failure too."""
        self.proxy.close()
        for kind in _FAMILY:
            found = self.process(kind)
            if found is not None:
                with contextlib.suppress(psutil.Error):
                    found.kill()
        for started in (self.server, self.producer):
            if started is not None:
                started.kill()
                started.wait()
                if started.stdout is not None and started is self.server:
                    started.stdout.close()


_FAMILY = ("worker", "query", "control", "keeper")
_TEMPORARY = (".partial", ".tmp", ".new")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
