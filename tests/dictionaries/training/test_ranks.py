"""Ranks of torchrun train what one process trains, go on after a kill, and refuse to differ."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from dictionaries_figures.rank_train import Plan, run_ranks

from isogloss.dictionaries import (
    DictionaryProvenance,
    LeaveOut,
    Source,
    SparseDictionary,
    TrainConfig,
    load_dictionary,
    train,
)
from isogloss.dictionaries.testing.planted import WIDTH
from isogloss.dictionaries.testing.recorded import record_planted
from isogloss.dictionaries.training.ranks import RankGroup, code_hash, ranks_of
from isogloss.dictionaries.training.shares import readers_of, step_bytes
from isogloss.errors import InvalidInput, JobCancelled
from isogloss.store import Document, RowBatch, Store

_KINDS: Mapping[str, Mapping[str, object]] = {
    "topk": {"k": 2},
    "batch_topk": {"k": 2},
    "matryoshka_batch_topk": {"k": 2},
    "jumprelu": {"target_l0": 2.0},
    "relu_l1": {"resample_every": 3},
    "gated": {"resample_every": 3},
}
_ROWS, _WIDTH, _K = 128, WIDTH, 2


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, list[Source]]]:
    with Store.open(tmp_path_factory.mktemp("ranks") / "store") as store:
        yield store, record_planted(store)


def config(kind: str = "topk", **settings: object) -> TrainConfig:
    return TrainConfig(
        kind=kind,
        settings={"features": 40, **_KINDS[kind], **settings},
        batch_rows=_ROWS,
        epochs=4.0,
        learning_rate=1e-2,
        dead_after_rows=512,
        checkpoint_every=3,
        seed=0,
    )


def plan_of(
    planted: tuple[Store, list[Source]], directory: Path, *configs: TrainConfig, sites: int = 1
) -> Plan:
    store, sources = planted
    return Plan(
        store=str(store.root),
        recording=sources[0].reader.spec.recording,
        sites=[source.site for source in sources[:sites]],
        directory=str(directory),
        configs=[one.to_dict() for one in configs],
    )


def same(
    wanted: SparseDictionary, directory: Path, said: list[dict[str, object]], error: str
) -> None:
    """Every rank made the tensors of one process, and the figures of its training."""
    assert [one["rank"] for one in said] == [0, 1], error
    for one in said:
        assert one["error"] == ""
        found = load_dictionary(Path(f"{directory}-rank-{one['rank']}"))
        for name, tensor in wanted.tensors.items():
            assert torch.equal(found.tensors[name], tensor), name
        assert told(found.provenance) == told(wanted.provenance)


def told(provenance: DictionaryProvenance) -> list[object]:
    curve = [replace(point, rows_per_s=0.0) for point in provenance.curve]
    left, trained = provenance.rows_left_out, provenance.rows_trained
    return [curve, left, trained, provenance.weights_sha256, provenance.init_hash]


def test_two_ranks_make_what_one_process_makes_and_send_what_the_formula_says(
    planted: tuple[Store, list[Source]], tmp_path: Path
) -> None:
    wanted = train(config(), planted[1][:1], tmp_path / "one")
    plan = plan_of(planted, tmp_path / "two", config())
    said, error = run_ranks(plan, 2)
    same(wanted, tmp_path / "two", said, error)
    sent = [one["sent"] for one in said]
    assert isinstance(sent[0], list)
    assert sent[0] == sent[1]
    # the first steps, before a feature is dead and a checkpoint is written
    steps = np.diff(sent[0])[:2].tolist()
    assert steps == [step_bytes(batch_rows=_ROWS, width=_WIDTH, world=2, k=_K)] * 2


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != "topk"])
def test_two_ranks_of_every_kind_make_what_one_process_makes(
    planted: tuple[Store, list[Source]], tmp_path: Path, kind: str
) -> None:
    wanted = train(config(kind), planted[1][:1], tmp_path / "one")
    same(wanted, tmp_path / "two", *run_ranks(plan_of(planted, tmp_path / "two", config(kind)), 2))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_crosscoder_of_ranks_leaves_out_the_rows_that_one_process_leaves_out(
    planted: tuple[Store, list[Source]], tmp_path: Path
) -> None:
    own = replace(config("batch_topk", dedicated=0.25), wiring="crosscoder", batch_rows=99)
    own = replace(own, leave_out=LeaveOut(max_norm=1.3, document_starts=True))
    wanted = train(own, planted[1], tmp_path / "one")
    assert wanted.provenance.rows_left_out > 0
    plan = plan_of(planted, tmp_path / "two", own, sites=2)
    same(wanted, tmp_path / "two", *run_ranks(plan, 2))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rank_that_is_killed_and_started_again_goes_on_from_the_last_checkpoint(
    planted: tuple[Store, list[Source]], tmp_path: Path
) -> None:
    wanted = train(config("batch_topk"), planted[1][:1], tmp_path / "one")
    plan = plan_of(planted, tmp_path / "two", config("batch_topk"))
    said, error = run_ranks(replace(plan, kill=1, kill_step=8), 2, restarts=1)
    second = [one for one in said if one["life"] == "1"]
    same(wanted, tmp_path / "two", second, error)
    assert {one["first"] for one in second} == {7}  # behind the checkpoint of step 6
    for one in said[: -len(second)]:  # torchrun may have ended the other rank before it noticed
        assert str(one["error"]).startswith("RankLost: rank 0 of 2 no longer reaches the others")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_run_goes_on_with_another_number_of_ranks(
    planted: tuple[Store, list[Source]], tmp_path: Path
) -> None:
    own, sources, place = config("batch_topk"), planted[1][:1], tmp_path / "two"
    wanted = train(own, sources, tmp_path / "one")
    asked = iter([False] * 5 + [True])
    with pytest.raises(JobCancelled, match="after step 5 of"):
        train(own, sources, place, should_stop=lambda: next(asked))
    said, _ = run_ranks(replace(plan_of(planted, place, own), stop=1, stop_step=6), 2)
    stopped = "JobCancelled: training was cancelled after step 11 of"
    assert [str(one["error"]).startswith(stopped) for one in said] == [True, True]
    whole = train(own, sources, place)
    for name, tensor in wanted.tensors.items():
        assert torch.equal(whole.tensors[name], tensor), name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_that_differ_are_refused_with_both_values(
    planted: tuple[Store, list[Source]], tmp_path: Path
) -> None:
    plan = plan_of(planted, tmp_path / "two", config(), config(k=3))
    said, _ = run_ranks(plan, 2)
    refused = (
        "Conflict: rank 1 has config.settings.k 3, rank 0 has 2: start all ranks with the same "
        "release, config and revision of the recording"
    )
    assert [one["error"] for one in said] == [refused] * 2
    said, _ = run_ranks(replace(plan, configs=[config().to_dict()], library="0.1"), 2)
    assert all("rank 1 has libraries.numba '0.1', rank 0 has" in str(one["error"]) for one in said)
    assert not list(Path(plan.directory).glob("step-*"))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ranks_that_read_other_revisions_are_refused_with_both(tmp_path: Path) -> None:
    with Store.open(tmp_path / "store") as store:
        sources = record_planted(store)
        recording = store.recording(sources[0].reader.spec.recording)
        before = recording.revision().to_dict()
        document = Document.from_token_ids(np.array([4_000_000_000], dtype=np.uint32))
        with recording.open_lane() as lane:
            lane.append(
                [
                    RowBatch(
                        producer="later",
                        sequence=1,
                        sites={name: np.ones((20, WIDTH), np.float32) for name in ("in", "out")},
                        token_id=np.zeros(20, dtype=np.uint32),
                        document=np.full(20, document.id, dtype=np.uint64),
                        position=np.arange(20, dtype=np.uint32),
                        span=None,
                        documents=(document,),
                    )
                ]
            )
        after = recording.revision().to_dict()
        plan = plan_of((store, sources), tmp_path / "two", config())
        said, _ = run_ranks(replace(plan, revisions=[after, before]), 2)
        newest = recording.revision().to_dict()
    assert newest == after
    for one in said:
        assert str(one["error"]).startswith("Conflict: rank 1 has revision.")
        assert f"{before['lanes']!r}" in str(one["error"]), one["error"]
        assert f"{after['lanes']!r}" in str(one["error"])


def test_as_many_ranks_read_as_share_the_rows_evenly() -> None:
    assert [readers_of(512, world) for world in (1, 2, 3, 4, 7)] == [1, 2, 2, 4, 4]


def test_one_process_sends_nothing_and_agrees_with_itself() -> None:
    alone = ranks_of("all")
    assert (alone.rank, alone.world, alone.share) == (0, 1, None)
    assert alone.agree(lambda: 3) == 3
    assert alone.any(own=True)
    assert not alone.any(own=False)
    assert alone.texts("said") == ["said"]
    assert alone.together(torch.ones(2), [2]).tolist() == [1, 1]
    assert alone.total(torch.tensor([2])).tolist() == [2]
    alone.require_same({"a": 1})
    with pytest.raises(InvalidInput):
        alone.agree(lambda: TrainConfig(settings={}, batch_rows=0))
    assert alone.sent_bytes == 0


def test_the_code_has_one_hash_which_changes_with_it() -> None:
    assert len(code_hash()) == 64
    assert code_hash() == code_hash()


def test_a_group_is_taken_as_it_is_given(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1
    )
    try:
        group = torch.distributed.group.WORLD
        assert group is not None
        assert isinstance(ranks_of(group), RankGroup)
        assert ranks_of("one").world == 1
        assert ranks_of("all").world == 1
    finally:
        torch.distributed.destroy_process_group()
