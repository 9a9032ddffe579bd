"""[fuzz]: every call of a real server with messages that are valid, strange, damaged or random.

``python benchmarks/service.py --only fuzz --executions N`` does the next N of a seed's executions
and adds what it finds to ``results/service_fuzz.json``; changed code begins again. The generator is
our own: by the descriptors, from a seed.
"""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType

import grpc
import grpc.aio
from house_figures.figure import Figure

import isogloss
from isogloss.errors import IsoglossError, NotFound
from isogloss.service.transport.over_grpc import channel_options
from isogloss.service.wire.methods import METHODS, Method
from isogloss.store import Store
from isogloss.store.testing import sample_batch, sample_spec
from service_figures import kept_fuzz
from service_figures.atlas import PROBE, RECORDING, names, plant_dictionary, write_atlas
from service_figures.kept_fuzz import MOST_GROWTH, Found
from service_figures.messages import MARK, Known, Maker
from service_figures.served import Served, memory_bytes, memory_directory, scratch, served
from service_figures.sizes import Sizes
from service_figures.streams import metadata

SEED = 11
WRONG = frozenset({"INTERNAL", "UNKNOWN", "hang", "no status"})
WAITS = frozenset({"WaitOperation", "WatchJob"})
"""Calls that may last as long as their caller likes."""
_BEHAVED_S = 1.0
_HANG_S = 60.0
_AT_A_TIME = 16
_EPOCH = 500
"""Executions after which what was deleted is made again."""
_MOST_ANSWERS = 16
_SHOWN = 160
_LONGEST = 1200
_DICTIONARIES, _FEATURES, _SEGMENTS = 3, 64, 512
_PATHS = tuple(sorted(METHODS))


def fuzz(sizes: Sizes) -> Figure:
    """Do the next executions, keep what they found, and return the figure of all so far."""
    before = kept_fuzz.load(kept_fuzz.hash_of_code(), SEED)
    found = before.add(run(before.code, SEED, before.executions, sizes.executions))
    if sizes.are_kept:
        kept_fuzz.save(found)
    return kept_fuzz.figure(found)


def run(code: str, seed: int, first: int, count: int) -> Found:
    """Do executions ``first`` to ``first + count`` of a seed on a new server."""
    found = Found(code=code, seed=seed, executions=count, runs=1)
    with scratch(memory_directory()) as root:
        for name in ("home", "tmp"):
            (root / name).mkdir()
        write_atlas(
            root / "store",
            dictionaries=_DICTIONARIES,
            features=_FEATURES,
            segments=_SEGMENTS,
        )
        before = files_outside(root)
        with served(root, "--no-workers", environment=_environment(root)) as server:
            started = server.pids()
            with closing(Fuzzer(server, found)) as fuzzer:
                asyncio.run(fuzzer.run(seed, first, count))
            if problem := _is_well(server, started):
                wrong(found, "deaths", problem)
        for path in sorted(files_outside(root) ^ before) + list(marked(root)):
            wrong(found, "files outside the store", str(path))
    return found


def _environment(root: Path) -> dict[str, str]:
    own = {"HOME": str(root / "home"), "TMPDIR": str(root / "tmp"), "PYTHONDONTWRITEBYTECODE": "1"}
    return {name: value for name, value in os.environ.items() if "XDG" not in name} | own


def files_outside(root: Path) -> set[tuple[str, int, int]]:
    """Return path, size and time of each file below a directory that is of no store there."""
    found: set[tuple[str, int, int]] = set()
    for path in root.rglob("*"):
        first = path.relative_to(root).parts[0]
        if first not in ("store", "run", "server.log") and not path.is_dir():
            seen = path.lstat()
            found.add((str(path.relative_to(root)), seen.st_size, seen.st_mtime_ns))
    return found


def marked(root: Path, mark: str = MARK, top: Path = Path("/")) -> Iterator[Path]:
    """Yield what lies anywhere under a name that a message tried to write.

    Args:
        root: directory of the store, which is not looked through.
        mark: what such names hold.
        top: what is looked through.

    Yields:
        Paths of files and directories.
    """
    apart = {top / name for name in ("proc", "sys")} | {root / "store"}
    for folder, directories, files in os.walk(top):
        here = Path(folder)
        directories[:] = [name for name in directories if here / name not in apart]
        yield from (here / name for name in (*directories, *files) if mark in name)


def _is_well(server: Served, started: Mapping[str, int]) -> str:
    """Return what happened to a server that is not as it was; empty: it is."""
    try:
        with isogloss.connect(server.unix, timeout_s=_HANG_S) as client:
            processes = client.server_info().processes
    except IsoglossError as error:
        return f"the server does not answer: {error}"
    ended = [f"{found.name} {found.last_end}" for found in processes if found.restarts]
    if any(found.name == "control" and found.pid != started["control"] for found in processes):
        ended.append("the server was started again")
    return ", ".join(ended)


def wrong(found: Found, kind: str, what: str) -> None:
    """Count a fault, and keep what it was."""
    found.faults[kind] = found.faults.get(kind, 0) + 1
    if len(found.examples) < kept_fuzz.EXAMPLES:
        found.examples.append(f"{kind}: {what}"[:_LONGEST])


class Fuzzer:
    """Makes executions on one server and counts what comes of them."""

    def __init__(self, server: Served, found: Found) -> None:
        self._server = server
        self._found = found
        self._statuses: Counter[str] = Counter()
        self._calls: Counter[str] = Counter()
        self._early_bytes = 0
        self._blocking = grpc.insecure_channel(server.unix, channel_options(server.unix))

    def close(self) -> None:
        """Close the connection."""
        self._blocking.close()

    async def run(self, seed: int, first: int, count: int) -> None:
        """Do executions ``first`` to ``first + count`` of a seed."""
        address, last = self._server.unix, first + count
        # a new connection each time: a damaged stream ends no other's
        options = [*channel_options(address), ("grpc.enable_retries", 0)]
        for start in range(first, last, _EPOCH):
            known = await asyncio.to_thread(replenish, self._server)
            async with grpc.aio.insecure_channel(address, options) as channel:
                await channel.channel_ready()
                numbers = iter(range(start, min(start + _EPOCH, last)))
                await asyncio.gather(
                    *(self._work(channel, seed, numbers, known) for _ in range(_AT_A_TIME))
                )
            if start - first <= count // 10:
                self._early_bytes = self._memory()
        grown = self._memory() - self._early_bytes
        self._found.most_growth = max(0, grown)
        if grown > MOST_GROWTH:
            wrong(
                self._found, "runs in which memory grew", f"{grown >> 20} MiB in {count} executions"
            )
        self._found.statuses = dict(self._statuses)
        self._found.calls = dict(self._calls)

    def _memory(self) -> int:
        return sum(memory_bytes(pid) for pid in self._server.pids().values())

    async def _work(
        self, channel: grpc.aio.Channel, seed: int, numbers: Iterator[int], known: Known
    ) -> None:
        for number in numbers:
            maker = Maker(seed, number, known)
            method = METHODS[maker.chance.choice(_PATHS)]
            messages = maker.messages(method)
            status, text = await self._execute(channel, method, messages)
            self._calls[method.name] += 1
            self._statuses[status] += 1
            if status in WRONG:
                shown = " ".join(message.hex()[:_SHOWN] for message in messages)
                wrong(
                    self._found,
                    status,
                    f"{number} of seed {seed}: {method.name} {text[:300]}: {shown}",
                )

    async def _execute(
        self, channel: grpc.aio.Channel, method: Method, messages: list[bytes]
    ) -> tuple[str, str]:
        """Make a call; return its status and the text beside it."""
        may_last = method.name in WAITS
        try:
            async with asyncio.timeout(_BEHAVED_S if may_last else 2 * _HANG_S):
                await self._answers(channel, method, messages)
        except grpc.RpcError as error:  # of both kinds of calls
            code, text = status_of(error)
            return ("hang" if code == "DEADLINE_EXCEEDED" else code), text
        except TimeoutError:
            return ("lasts", "") if may_last else ("hang", "no end")
        return "OK", ""

    async def _answers(
        self, channel: grpc.aio.Channel, method: Method, messages: list[bytes]
    ) -> None:
        """Make a call and take its answers, or the first of many."""
        named = metadata("fuzzer")
        if method.takes_stream:
            await asyncio.to_thread(self._append, method, messages)
        elif not method.gives_stream:
            await channel.unary_unary(method.path)(messages[0], metadata=named)
        else:
            call = channel.unary_stream(method.path)(messages[0], metadata=named)
            try:
                taken = 0
                async for _ in call:
                    taken += 1
                    if taken == _MOST_ANSWERS:
                        return
            finally:
                call.cancel()

    def _append(self, method: Method, messages: list[bytes]) -> None:
        """Send a stream of messages and take all answers.

        Blocking calls are told the server's status also where it came amid a message; grpc.aio
        says INTERNAL, "Internal error from Core", there.
        """
        call = self._blocking.stream_stream(method.path)
        for _ in call(iter(messages), timeout=_HANG_S, metadata=metadata("fuzzer")):
            pass


def status_of(error: grpc.RpcError) -> tuple[str, str]:
    """Return the status with which a call ended, and the text beside it."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return "no status", str(error)
    return error.code().name, error.details() or ""


def replenish(server: Served) -> Known:
    """Make again what calls deleted; return what there is, for messages to name."""
    with isogloss.connect(server.unix, timeout_s=_HANG_S) as client:
        for name in ("a", RECORDING):
            try:
                client.recording(name)
            except NotFound:
                made = sample_spec(name)
                client.create_recording(made, ["a"])
                with client.appender(name, "first") as stream:
                    stream.write(sample_batch(made, "first", stream.next_sequence))
        with closing(Store.attach(server.store)) as store:
            recording = store.recording(RECORDING)
            source = (recording.uid, recording.revision())
            for name in names(_DICTIONARIES):
                if store.catalog.find("dictionary", name) is None:
                    plant_dictionary(store, name, _FEATURES, source)
            body: dict[str, object] = {
                "a": names(2)[0],
                "b": names(2)[1],
                "a_uid": "x",
                "b_uid": "y",
                "probe": PROBE,
                "probe_uid": "z",
                "settings": {},
                "pairs": 0,
                "summary": "made up",
            }
            if store.catalog.find("match", "m") is None:
                uid = store.catalog.new_uid()
                (directory := store.artifact("match", uid)).mkdir(parents=True)
                (directory / "report.json").write_text("{}")
                store.catalog.put("match", "m", uid, body)
            etags = [
                entry.etag
                for kind in ("dictionary", "probe", "match")
                for entry in store.catalog.list(kind)
            ]
        etags += [found.etag for found in client.recordings()[:20]]
        jobs = [f"operations/{job.name}" for job in client.jobs()[:5]]
        lanes = [lane.name for lane in client.lanes("a")[:5]]
    dictionaries = [f"dictionaries/{name}" for name in names(_DICTIONARIES)]
    recordings = ["recordings/a", f"recordings/{RECORDING}"]
    features = [f"{name}/features/{number}" for name in dictionaries for number in (0, 5, 63)]
    texts = {
        "etag": etags,
        "recording": recordings,
        "recordings": recordings,
        "dictionaries": dictionaries,
        "among": dictionaries,
        "a": dictionaries,
        "b": dictionaries,
        "feature": features,
        "parent": ["matches/m"],
        "probe": ["", f"probes/{PROBE}"],
        "site": ["layer.2", "layer.1/out"],
        "sites": ["layer.2", "layer.1/out"],
        "lane": lanes or ["x"],
        "producer": ["p", "q"],
        "producers": ["p", "q"],
        "kind": ["topk", "batch_topk", "jumprelu"],
        "wiring": ["sae", "crosscoder"],
        "grid": ["tokens", "word_ends"],
        "recording_id": ["b", "c"],
        "dictionary_id": ["d", "e"],
        "probe_id": ["q", PROBE],
        "match_id": ["n", "m"],
        "page_token": [""],
    }
    by_type = {
        "Recording": recordings,
        "Vocabulary": recordings,
        "Statistics": recordings,
        "Read": recordings,
        "Lane": recordings,
        "Dictionary": dictionaries,
        "Encode": dictionaries,
        "Probe": [f"probes/{PROBE}"],
        "Match": ["matches/m"],
        "Feature": features,
        "Operation": jobs or ["operations/x"],
        "Job": jobs or ["operations/x"],
    }
    return Known(texts=MappingProxyType(texts), names=MappingProxyType(by_type))
