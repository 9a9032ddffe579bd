"""Several processes of a job train what one trains; from another dictionary's decoder too."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tests.service import planted
from tests.service.run_here import run_here

from isogloss.dictionaries import (
    Source,
    SparseDictionary,
    TrainConfig,
    load_dictionary,
    tensor_hash,
)
from isogloss.errors import InvalidInput, NotFound
from isogloss.service.query.kinds import check_training
from isogloss.service.tasks import ranks, train
from isogloss.service.tasks.ranks import SharedTraining
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.results import SiteRef
from isogloss.store import Store

_START = {"directions": "given", "dictionary": "one"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("ranks") / "store") as store:
        planted.record(store, "small-docs", seed=1)
        run_here(store, "train", spec("one"))
        yield store


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "processors", lambda: 2)


def spec(dictionary: str, processes: int = 1, **config: object) -> dict[str, object]:
    made = planted.train_spec("small-docs", dictionary, **{"seed": 0, "epochs": 2.0, **config})
    return {**made, "processes": processes} if processes > 1 else made


def made(store: Store, name: str) -> SparseDictionary:
    return load_dictionary(store.artifact("dictionary", store.catalog.get("dictionary", name).uid))


def test_two_processes_make_the_dictionary_of_one(store: Store) -> None:
    threads = torch.get_num_threads()
    run_here(store, "train", spec("two", processes=2))
    one, two = made(store, "one"), made(store, "two")
    for name, tensor in one.tensors.items():
        assert torch.equal(two.tensors[name], tensor), name
    assert torch.get_num_threads() == threads
    assert not list(store.root.glob("ranks-*"))
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_two_processes_start_from_the_decoder_of_another_dictionary_as_one_does(
    store: Store,
) -> None:
    for name, processes in (("from-one", 1), ("from-one-by-two", 2)):
        run_here(store, "train", spec(name, processes, init=_START, kind="batch_topk"))
    first, second = made(store, "from-one"), made(store, "from-one-by-two")
    for name, tensor in first.tensors.items():
        assert torch.equal(second.tensors[name], tensor), name


def test_a_job_starts_from_the_decoder_of_another_dictionary_and_keeps_what_it_was(
    store: Store,
) -> None:
    run_here(store, "train", spec("later", epochs=0.5, init=_START))
    provenance = made(store, "later").provenance
    assert provenance.config is not None
    init = provenance.config.init
    assert (init.dictionary, init.directions) == ("one", "given")
    assert init.sha256 == tensor_hash(made(store, "one").decoder)
    assert provenance.init_hash != made(store, "one").provenance.init_hash
    assert provenance.init_cosine is not None
    assert provenance.init_cosine > 0.8
    again = run_here(store, "train", spec("later", epochs=0.5, init=_START))
    assert again.total_steps == 0, "it trained again"


def test_weights_that_a_run_starts_from_are_read_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []

    def counted(directory: Path) -> SparseDictionary:
        read.append(directory)
        return load_dictionary(directory)

    monkeypatch.setattr(train, "load_dictionary", counted)
    monkeypatch.setattr(ranks, "load_dictionary", counted)
    run_here(store, "train", spec("once", epochs=0.1, init=_START))
    start = store.artifact("dictionary", store.catalog.get("dictionary", "one").uid)
    assert read.count(start) == 1, "for its hash and to start from"
    assert len(read) == 2, "the other is what was saved, for passport and figures"


@pytest.mark.parametrize(
    ("init", "error", "message"),
    [
        ({"directions": "given"}, InvalidInput, "name a stored dictionary where a decoder is give"),
        ({"dictionary": "one"}, InvalidInput, "init.directions is 'random' and init.dictionary"),
        ({"directions": "given", "dictionary": "none"}, NotFound, "none"),
        (
            _START,
            InvalidInput,
            r"the decoder of dictionary 'one' is \[40, 24\] .* wanted \[64, 24\]",
        ),
    ],
)
def test_a_start_that_does_not_fit_is_refused_when_it_is_submitted(
    store: Store, init: dict[str, object], error: type[Exception], message: str
) -> None:
    source = SiteRef(recording="small-docs", site="layer.1")
    with pytest.raises(error, match=message):
        check_training(store, [source], [{"settings": {"features": 64}, "init": init}])


def test_more_processes_than_processors_are_refused(store: Store) -> None:
    source = SiteRef(recording="small-docs", site="layer.1")
    with pytest.raises(InvalidInput, match="processes is 4096, wanted 1 to"):
        check_training(store, [source], [{"settings": {"features": 64}}], 4096)
    with pytest.raises(InvalidInput, match="processes is 0, wanted 1 to"):
        TrainSpec.from_dict({**spec("none"), "processes": 0})


def test_what_ranks_do_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    reader = store.recording("small-docs").reader()
    config = TrainConfig(settings={"features": 8, "k": 2})
    written = SharedTraining(
        sources=[Source(reader=reader, site="layer.1")], runs={tmp_path: config}, starts=[None]
    )
    found = SharedTraining.read(store, written.to_dict())
    assert found.to_dict() == written.to_dict()
    assert found.sources[0].reader.revision == reader.revision
    assert found.given() == [None]
