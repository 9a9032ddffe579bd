"""A client alone, as a process: thin_client.py ADDRESS [--trains]; says what it did as JSON.

Modules that a client does without are refused here, so that nothing loads them on the way.
"""

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

HEAVY = frozenset(
    {
        *("torch", "faiss", "numba", "zarr", "numcodecs", "triton", "transformers", "scipy"),
        *("zstandard", "safetensors", "google_crc32c", "jinja2", "regex", "jaxtyping", "msgspec"),
        *("grpc_health", "grpc_reflection", "obstore", "tokenizers"),
    }
)


class Refusing(MetaPathFinder):
    """Finds none of them, and remembers who was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] not in HEAVY:
            return None
        self.asked.append(fullname)
        raise ModuleNotFoundError(f"{fullname} is not for a client alone", name=fullname)


def command_line(*arguments: str) -> str:
    """Run a command as `isogloss` does; return what it wrote."""
    from isogloss.service.cli.main import app

    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        app(list(arguments), standalone_mode=False)
    return out.getvalue()


def ends_with_a_remedy(*arguments: str) -> bool:
    """Whether a command ends with status 1 and one line that holds the pip command."""
    from isogloss.service.cli.main import main as run

    told = io.StringIO()
    sys.argv = ["isogloss", *arguments]
    try:
        with contextlib.redirect_stderr(told), contextlib.redirect_stdout(io.StringIO()):
            run()
    except SystemExit as ended:
        line = " ".join(told.getvalue().split())
        return ended.code == 1 and "pip install 'isogloss[" in line and "Traceback" not in line
    return False


def refusals(address: str) -> dict[str, bool]:
    """Use what a client alone does not have; return for each whether the pip command is told."""
    import isogloss
    from isogloss import dictionaries, models, service, store, universality
    from isogloss.errors import MissingExtra

    said: dict[str, bool] = {}
    for room in (service, store, models, dictionaries, universality):
        for name in room.__all__:
            try:
                getattr(room, name)
            except MissingExtra as error:
                said[f"{room.__name__}.{name}"] = "pip install 'isogloss[" in str(error)
    with isogloss.connect(address) as client:
        for name in ("record", "record_documents"):
            method = getattr(client, name)
            documents = {"documents": [[1, 2]]} if name == "record_documents" else {}
            try:
                method(model=None, sites=["x"], recording="live", **documents)
            except MissingExtra as error:
                said[name] = name in str(error) and "pip install 'isogloss[server]'" in str(error)
        try:
            client.dictionary("d")
        except MissingExtra as error:
            said["dictionary"] = "isogloss[server]" in str(error) and "_info" in str(error)
    said["serve command"] = ends_with_a_remedy("serve", "--store", "a-store-of-its-own")
    said["report command"] = ends_with_a_remedy("report", "m", "--store", address)
    return said


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--trains", action="store_true", help="the server runs jobs")
    given = parser.parse_args()
    refusing = Refusing()
    sys.meta_path.insert(0, refusing)
    said = {"help": "nearest" in command_line("--help")}

    import numpy as np

    import isogloss
    from isogloss.errors import MissingExtra, NotFound
    from isogloss.store import Document, ModelInfo, RecordingSpec, RowBatch, SiteSpec

    rng = np.random.default_rng(0)
    spec = RecordingSpec(
        recording="thin",
        model=ModelInfo(name="made/up"),
        tokenizer="ids",
        corpus="made up",
        sites=(SiteSpec(name="site", width=4, dtype="float32"),),
        has_spans=False,
    )
    rows = np.zeros((32, 4), np.float32)
    with isogloss.connect(given.address) as client:
        said["version"] = client.server_info().version == isogloss.__version__
        client.create_recording(spec, [f"t{i}" for i in range(100)])
        with client.appender("thin", "rank-0") as appender:
            for _ in range(40):
                ids = rng.integers(0, 100, 32).astype(np.uint32)
                document = Document.from_token_ids(ids)
                rows = rng.standard_normal((32, 4)).astype(np.float32)
                batch = RowBatch(
                    producer="rank-0",
                    sequence=appender.next_sequence,
                    sites={"site": rows},
                    token_id=ids,
                    document=np.full(32, document.id, np.uint64),
                    position=np.arange(32, dtype=np.uint32),
                    documents=(document,),
                )
                appender.write(batch)
        kept = client.read("thin", "site", 39 * 32)
        said["rows"] = bool(np.array_equal(kept, rows))
        said["lanes"] = len(client.lanes("thin")) == 1
        said["verified"] = client.verify("thin") == []
        jobs = [
            client.train(
                "thin", site="site", features=8, k=4, epochs=4.0, seed=seed, more={"batch_rows": 64}
            )
            for seed in (0, 1)
        ]
        said["queued"] = {job.name for job in jobs} <= {info.name for info in client.jobs()}
        if given.trains:
            a, b = (job.result(300) for job in jobs)
            active = client.encode(a, rows)[1][0]
            hits = client.nearest(a.feature(int(active[0])), [b])
            said["hits"] = {hit.dictionary for hit in hits} == {b.id}
            shown = command_line("nearest", a.id, str(active[0]), "--store", given.address)
            said["shown"] = b.id in shown
        else:
            for job in jobs:
                job.cancel()
            try:
                command_line("nearest", "no-such", "0", "--store", given.address)
            except NotFound as error:
                said["not found"] = "no-such" in str(error)
    said["described"] = "site" in command_line("describe", "thin", "--store", given.address)
    try:
        isogloss.connect("a-store-of-its-own")
    except MissingExtra as error:
        said["owns no store"] = "isogloss[server]" in str(error)
    said.update(refusals(given.address))
    heavy = sorted({name for name in sys.modules if name.partition(".")[0] in HEAVY})
    sys.stdout.write(json.dumps({"said": said, "heavy": heavy}) + "\n")


if __name__ == "__main__":
    main()
