"""Each numeric field of each kind of job, given absurd values: judged when it is submitted.

Fields are found in the messages and in the schemas of kinds, so a new one is tried by itself.
"""

from collections.abc import Iterator, Mapping
from typing import cast

import pytest
from google.longrunning.operations_pb2 import Operation
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.message import Message

import isogloss
from isogloss import Client
from isogloss.dictionaries import TrainConfig, least_bytes
from isogloss.errors import IsoglossError
from isogloss.proto.v1 import dictionaries_pb2, universality_pb2
from isogloss.service.control.needs import WORKER_BYTES, train_bytes
from isogloss.service.transport.call import ask
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.results import SiteRef
from isogloss.service.wire.scalars import to_struct
from isogloss.store import Store
from isogloss.store.testing import sample_spec

WHOLE = (-(1 << 63), -(1 << 31), -1, 0, 1 << 40, 1 << 60, (1 << 63) - 1)
REAL = (-1e300, -1.0, -1e-300, 1e9, 1e300, float("inf"), float("-inf"), float("nan"))

HARMLESS: Mapping[str, str] = {
    "seed": "any number",
    "rows_seed": "any number",
    "dead_after_rows": "never reached",
    "checkpoint_every": "never written before the end",
    "steps": "refused where the recording has no such rows; matches look when they run",
    "time_limit_s": "the server has a limit of its own",
    "min_fires": "leaves nothing to match, which the job says",
    "min_r": "a bar that is never or always reached",
    "replicates_low": "a bar that is never or always reached",
    "aux_k": "at most the features",
    "k_anneal": "share of the run",
    "resample_every": "never reached",
    "subsets": "at most 4",
}
"""Fields of which large, or any, values take no memory and no time that others would not."""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    root = tmp_path_factory.mktemp("absurd") / "store"
    with Store.open(root) as store:
        store.create_recording(sample_spec("docs"), ["a"])
        for name in "ab":
            store.catalog.put(
                "dictionary", name, store.catalog.new_uid(), {"features": 8, "width": 4}
            )
        store.catalog.put("probe", "p", store.catalog.new_uid(), {})
    with isogloss.connect(root, run_workers=False) as client:
        yield client


def train_request() -> dictionaries_pb2.TrainDictionaryRequest:
    site = sample_spec("docs").sites[0].name
    return dictionaries_pb2.TrainDictionaryRequest(
        dictionary_id="d",
        sources=[dictionaries_pb2.Source(recording="recordings/docs", site=site)],
        config=dictionaries_pb2.TrainConfig(settings=to_struct({"features": 8, "k": 4})),
    )


def probe_request() -> universality_pb2.CreateProbeRequest:
    return universality_pb2.CreateProbeRequest(probe_id="p", recordings=["recordings/docs"])


def match_request() -> universality_pb2.CreateMatchRequest:
    return universality_pb2.CreateMatchRequest(match_id="m", a="dictionaries/a", b="dictionaries/b")


def import_request() -> universality_pb2.ImportCodesRequest:
    return universality_pb2.ImportCodesRequest(
        dictionary_id="d", probe="probes/p", upload="0" * 64, features=8
    )


def rotate_request() -> universality_pb2.RotateDictionaryRequest:
    return universality_pb2.RotateDictionaryRequest(
        dictionary_id="d", source="dictionaries/a", seed=1
    )


REQUESTS = (train_request, probe_request, match_request, import_request, rotate_request)


def numbers_in(message: Message, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the paths of numeric fields of a request, and of the messages of ours within."""
    for found in message.DESCRIPTOR.fields:
        field = cast("Field", found)
        here = (*path, field.name)
        if field.message_type is not None:
            if field.message_type.full_name.startswith("isogloss.v1.") and not field.is_repeated:
                yield from numbers_in(getattr(message, field.name), here)
        elif field.cpp_type not in (
            Field.CPPTYPE_STRING,
            Field.CPPTYPE_BOOL,
            Field.CPPTYPE_ENUM,
        ):
            yield here


def values_of(message: Message, path: tuple[str, ...]) -> Iterator[int | float]:
    for name in path[:-1]:
        message = getattr(message, name)
    field = cast("Field", message.DESCRIPTOR.fields_by_name[path[-1]])
    is_real = field.cpp_type in (Field.CPPTYPE_DOUBLE, Field.CPPTYPE_FLOAT)
    is_unsigned = field.cpp_type in (Field.CPPTYPE_UINT64, Field.CPPTYPE_UINT32)
    for value in REAL if is_real else WHOLE:
        if value >= 0 or not is_unsigned:
            yield value


def put(message: Message, path: tuple[str, ...], value: float) -> None:
    for name in path[:-1]:
        message = getattr(message, name)
    if cast("Field", message.DESCRIPTOR.fields_by_name[path[-1]]).is_repeated:
        getattr(message, path[-1]).append(value)
    else:
        setattr(message, path[-1], value)


def accepted(client: Client, request: Message) -> bool:
    """Submit a request; cancel its job where it is accepted."""
    try:
        made = client.run(ask(request, Operation))
    except IsoglossError as error:
        if error.reason == "INTERNAL_ERROR":
            raise
        return False
    client.job(made.name.removeprefix("operations/")).cancel()
    return True


@pytest.mark.parametrize("make", REQUESTS, ids=lambda make: make.__name__)
def test_no_number_in_a_request_is_taken_that_the_job_could_not_work_with(
    client: Client, make: type[Message]
) -> None:
    assert accepted(client, make())
    tried = 0
    wrong: list[tuple[str, float]] = []
    for path in numbers_in(make()):
        for value in values_of(make(), path):
            request = make()
            name, depth = path[-1], len(path)
            if name in ("features", "k") and depth > 1:  # else it is given twice
                del getattr(request, path[0]).settings.fields[name]
            put(request, path, value)
            tried += 1
            if accepted(client, request) and name not in HARMLESS:
                wrong.append((".".join(path), value))
    assert tried > 5
    assert wrong == []


def test_no_setting_of_a_kind_is_taken_that_no_machine_could_work_with(client: Client) -> None:
    wrong: list[tuple[str, str, float]] = []
    tried = 0
    for kind in client.kinds():
        properties = cast("Mapping[str, object]", kind.schema["properties"])
        for name in properties:
            none = (0,) if name in ("features", "k") else ()  # elsewhere it may turn a part off
            for value in (-1, *none, 1 << 40, (1 << 53) - 1, -1e300, 1e300):
                request = train_request()
                request.config.kind = kind.name
                settings = {"features": 64, name: value}
                request.config.settings.CopyFrom(to_struct(settings))
                tried += 1
                if accepted(client, request) and name not in HARMLESS:
                    wrong.append((kind.name, name, value))
    assert tried > 50
    assert wrong == []


@pytest.mark.parametrize("text", ["../../x", "x" * 100_000, "tokens\n", "\x00", "é"])
def test_no_text_of_a_request_becomes_a_path(client: Client, text: str) -> None:
    for name in ("probe_id", "grid"):
        request = probe_request()
        setattr(request, name, text)
        assert not accepted(client, request)


def test_what_a_training_needs_is_what_its_room_says(client: Client) -> None:
    spec = sample_spec("docs")
    config = {"features": 4096, "batch_rows": 512}
    sources = tuple(SiteRef(recording="docs", site=site.name) for site in spec.sites[:2])
    store = Store.attach(client.address)
    for given in (config, {"settings": {"features": 4096}, "batch_rows": 512}):
        asked = TrainSpec(dictionary="d", sources=sources, config=given)
        widths = [site.width for site in spec.sites[:2]]
        assert train_bytes(store, asked) == WORKER_BYTES + least_bytes(
            TrainConfig.from_dict(given), widths
        )
    store.close()


def test_a_training_that_never_fits_is_refused_with_numbers(client: Client) -> None:
    with pytest.raises(IsoglossError, match=r"need.* at least .* GiB"):
        client.train("docs", site=sample_spec("docs").sites[0].name, features=2**30)
