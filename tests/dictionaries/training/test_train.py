import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tests.dictionaries.toy_kind.toy_kind import ReluL1
from torch import Tensor

from isogloss.dictionaries import (
    Evaluation,
    InitialWeights,
    Kind,
    LeaveOut,
    Source,
    StepBatch,
    TrainConfig,
    TrainProgress,
    evaluate,
    held_out_batches,
    initial_decoder,
    load_dictionary,
    save_dictionary,
    train,
)
from isogloss.dictionaries.registry import Registry
from isogloss.dictionaries.testing.recorded import record_planted
from isogloss.dictionaries.training.checkpoints import CheckpointDirectory, exclusive
from isogloss.dictionaries.training.state import mean_cosine
from isogloss.dictionaries.wirings import load
from isogloss.errors import Conflict, InvalidInput, JobCancelled, NonFiniteRows, UnknownSite
from isogloss.kernels import StepResult
from isogloss.store import Document, RecordingReader, RowBatch, Store

SITE = "encoder.layer.3"

Record = Callable[..., RecordingReader]
Superpose = Callable[..., tuple[NDArray[np.float32], NDArray[np.float32]]]


def _source(reader: RecordingReader) -> list[Source]:
    return [Source(reader=reader, site=SITE)]


def _of_16_features(config: TrainConfig) -> TrainConfig:
    return replace(config, settings={**config.settings, "features": 16})


def test_training_explains_rows_it_never_saw(
    recorded: RecordingReader, sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    config = replace(small_config, epochs=6.0, learning_rate=1e-2)
    seen: list[TrainProgress] = []
    dictionary = train(config, sources, tmp_path, on_progress=seen.append)
    found = evaluate(dictionary, held_out_batches(recorded, SITE, holdout=config.holdout))
    assert found.fvu < 0.15
    assert found.fvu == pytest.approx(seen[-1].fvu, rel=0.3)
    assert found.l0 == pytest.approx(seen[-1].l0, rel=0.1)
    assert [point.step for point in seen] == sorted({point.step for point in seen})
    assert seen[-1].step == seen[-1].total_steps
    assert seen[-1].rows == seen[-1].total_steps * (config.batch_rows or 0)
    assert seen[-1].fvu < 0.5 * seen[0].fvu
    assert all(point.rows_per_s > 0 for point in seen)
    norms = dictionary.decoder.norm(dim=1)
    torch.testing.assert_close(norms, torch.ones_like(norms), rtol=1e-5, atol=1e-5)


def test_provenance_says_what_was_learned_from_and_how(
    recorded: RecordingReader, sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    dictionary = train(small_config, sources, tmp_path)
    found = dictionary.provenance
    (site,) = found.sites
    assert (site.recording, site.site) == (recorded.spec.recording, SITE)
    assert site.revision == recorded.revision.to_dict()
    assert found.config == small_config
    assert small_config.seed is not None
    initial = initial_decoder(dictionary.features, 32, small_config.seed)
    assert found.init_seed == small_config.seed
    assert found.init_cosine == pytest.approx(mean_cosine(dictionary.decoder, initial))
    assert found.init_cosine is not None
    assert 0.2 < found.init_cosine < 0.9999
    assert len(found.init_hash) == len(found.weights_sha256) == 64
    assert found.curve[-1].step == found.curve[-1].total_steps
    assert found.rows_trained == found.curve[-1].rows


def test_the_scale_of_the_input_changes_codes_by_that_scale_and_nothing_else(
    record: Record, superpose: Superpose, small_config: TrainConfig, tmp_path: Path
):
    rows, _ = superpose(rows=8_000, features=64, width=32, active=3.0, seed=3)
    config = replace(small_config, holdout=0.0)
    # a power of two, so that every intermediate rounds alike
    one, other = (
        train(config, _source(record(rows * scale, dtype="float32")), tmp_path / str(scale))
        for scale in (1.0, 1024.0)
    )
    torch.testing.assert_close(one.decoder, other.decoder, rtol=0, atol=0)
    some = torch.from_numpy(rows[:100])
    codes, scaled = one.encode(some), other.encode(some * 1024)
    torch.testing.assert_close(scaled.values, codes.values * 1024, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(other.decode(scaled), one.decode(codes) * 1024, rtol=1e-4, atol=1e-2)


def test_a_constant_offset_of_a_column_changes_no_figure(
    record: Record, superpose: Superpose, small_config: TrainConfig, tmp_path: Path
):
    rows, _ = superpose(rows=8_000, features=64, width=32, active=3.0, seed=3)
    config = replace(small_config, epochs=3.0, learning_rate=1e-2)
    found: list[float] = []
    for offset in (0.0, 1e4):
        moved = rows.copy()
        moved[:, 5] += offset
        reader = record(moved, dtype="float32")
        dictionary = train(config, _source(reader), tmp_path / str(offset))
        held_out = held_out_batches(reader, SITE, holdout=config.holdout)
        found.append(evaluate(dictionary, held_out).fvu)
    assert found[1] <= 1.02 * found[0]


def test_far_rows_are_left_out_unless_asked_for_and_figures_of_usual_rows_stand_beside(
    record: Record,
    superpose: Superpose,
    small_config: TrainConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    rows, _ = superpose(rows=8_000, features=64, width=32, active=3.0, seed=3)
    rows[::50] += 300  # the first token of every document
    rows[4001] = 1e6
    reader = record(rows, dtype="float32")
    config = replace(small_config, epochs=3.0, learning_rate=1e-2)
    found: dict[float | None, Evaluation] = {}
    for limit in (None, 0.0):
        caplog.clear()
        made = train(
            replace(config, leave_out=LeaveOut(max_norm=limit)),
            _source(reader),
            tmp_path / str(limit),
        )
        found[limit] = evaluate(made, held_out_batches(reader, SITE, holdout=config.holdout))
        curve = made.provenance.curve[-1]
        assert curve.usual_fvu is not None
        if limit is None:
            assert "training leaves such rows out" in caplog.text
            assert made.provenance.rows_left_out > 300
            assert curve.usual_fvu == pytest.approx(curve.fvu)
        else:
            assert "takes them in" in caplog.text
            assert made.provenance.rows_left_out == 0
            assert curve.usual_fvu > 5 * curve.fvu
    assert found[None].usual_fvu < 0.45
    assert found[None].usual_fvu < found[0.0].usual_fvu
    assert found[None].usual_rows < found[None].rows
    assert found[None].fvu > 0.5, "far rows were not learned, and the figure says so"
    assert found[0.0].fvu < 0.5 * found[0.0].usual_fvu


def test_the_auxiliary_loss_revives_features_that_never_win(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    config = replace(small_config, epochs=3.0, learning_rate=1e-2, dead_after_rows=4096)
    settings = small_config.settings
    last: dict[int, TrainProgress] = {}
    for aux_k in (0, 16):
        directory = tmp_path / str(aux_k)
        config = replace(config, settings={**settings, "aux_k": aux_k})
        with pytest.raises(JobCancelled):
            train(config, sources, directory, should_stop=lambda: True)
        with exclusive(directory) as checkpoints:
            start = checkpoints.newest()
            assert start is not None
            start.tensors["weights.encoder"][32:] *= 0.05  # two thirds too weak for the top k
            checkpoints.save(start)
        dictionary = train(config, sources, directory)
        last[aux_k] = dictionary.provenance.curve[-1]
    assert last[0].dead_fraction > 0.5
    assert last[16].dead_fraction < 0.3
    assert last[16].fvu < 0.8 * last[0].fvu


def test_the_same_bits_come_from_any_number_of_threads(
    store: Store, recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    code = (
        "import json, sys\n"
        "from pathlib import Path\n"
        "from isogloss.dictionaries import Source, TrainConfig, train\n"
        "from isogloss.store import Store\n"
        "import torch\n"
        "reader = Store.attach(Path(sys.argv[1])).recording(sys.argv[2]).reader()\n"
        "settings = {'features': 96, 'k': 4}\n"
        "config = TrainConfig(\n"
        "    settings=settings, batch_rows=512, epochs=0.5, dead_after_rows=1024\n"
        ")\n"
        f"source = Source(reader=reader, site={SITE!r})\n"
        "for threads in (1, 2, 4):\n"
        "    torch.set_num_threads(threads)\n"
        "    made = train(config, [source], Path(sys.argv[3]) / str(threads))\n"
        "    print(made.provenance.weights_sha256)\n"
    )
    result = subprocess.run(  # our own interpreter and code
        [sys.executable, "-c", code, str(store.root), recorded.spec.recording, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "4", "NUMBA_NUM_THREADS": "4"},
    )
    hashes = result.stdout.split()
    assert len(hashes) == 3
    assert len(set(hashes)) == 1


def test_a_feature_of_every_true_direction_is_recovered(
    record: Record, superpose: Superpose, tmp_path: Path
):
    rows, directions = superpose(rows=40_000, features=64, width=32, active=3.0, seed=3)
    config = TrainConfig(
        settings={"features": 128, "k": 4},
        batch_rows=512,
        epochs=4.0,
        learning_rate=1e-2,
        dead_after_rows=20_000,
    )
    dictionary = train(config, _source(record(rows)), tmp_path)
    cosines = torch.from_numpy(directions) @ dictionary.decoder.T
    best = cosines.max(dim=1).values
    assert float((best > 0.9).float().mean()) >= 0.9, f"found {sorted(best.tolist())[:10]}"


def test_a_recording_that_is_still_being_written_is_trained_on_as_its_revision_has_it(
    tmp_path: Path,
) -> None:
    still, alone = (_trained_while(tmp_path / name, name == "still") for name in ("still", "alone"))
    for name, tensor in alone.items():
        assert torch.equal(still[name], tensor), name


def _trained_while(place: Path, is_written: bool) -> Mapping[str, Tensor]:
    """Train on a recording, to which each step appends rows where ``is_written``."""
    config = TrainConfig(settings={"features": 16, "k": 2}, batch_rows=128, epochs=1.0, seed=0)
    with Store.open(place / "store") as store:
        source = record_planted(store)[0]
        more, sequence = source.reader.read("in", 0, 64), iter(range(1, 1000))
        with store.recording("planted").open_lane() as lane:

            def write() -> bool:
                if is_written:
                    lane.append([_later(more, next(sequence))])
                return False

            found = train(config, [source], place / "run", should_stop=write)
        rows = store.recording("planted").reader().rows
        assert (rows > source.reader.rows) == is_written
    return found.tensors


def _later(rows: NDArray[np.generic], sequence: int) -> RowBatch:
    document = Document.from_token_ids(np.array([10**6 + sequence], dtype=np.uint32))
    return RowBatch(
        producer="later",
        sequence=sequence,
        sites={"in": rows, "out": rows},
        token_id=np.zeros(len(rows), dtype=np.uint32),
        document=np.full(len(rows), document.id, dtype=np.uint64),
        position=np.arange(len(rows), dtype=np.uint32),
        span=None,
        documents=(document,),
    )


def test_an_unknown_site_is_refused_with_the_nearest_names(
    recorded: RecordingReader, small_config: TrainConfig, tmp_path: Path
):
    with pytest.raises(UnknownSite, match=r"encoder\.layer\.4.*nearest: encoder\.layer\.3"):
        train(small_config, [Source(reader=recorded, site="encoder.layer.4")], tmp_path)
    assert not list(tmp_path.glob("checkpoints*"))


def test_too_few_rows_for_one_batch_are_refused(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    with pytest.raises(InvalidInput, match=r"training rows of 20000.*batch_rows 16384"):
        train(replace(small_config, batch_rows=16_384), sources, tmp_path)


def test_rows_that_do_not_vary_are_refused(
    record: Record, small_config: TrainConfig, tmp_path: Path
):
    reader = record(np.ones((2000, 8), dtype=np.float32))
    with pytest.raises(InvalidInput, match="do not vary"):
        train(_of_16_features(small_config), _source(reader), tmp_path)


def test_rows_that_are_not_finite_are_refused(
    record: Record, small_config: TrainConfig, tmp_path: Path
):
    rows = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    rows[:, 3] = np.nan
    with pytest.raises(NonFiniteRows, match=r"encoder\.layer\.3"):
        train(_of_16_features(small_config), _source(record(rows)), tmp_path)


def test_rows_that_are_not_finite_are_left_out_by_wish_and_counted(
    record: Record,
    small_config: TrainConfig,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
):
    rows = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    rows[::50, 3] = np.nan  # the first row of each document
    source, config = _source(record(rows)), _of_16_features(small_config)
    with pytest.raises(NonFiniteRows, match=r"26 of 1,300 rows .* such as row 50, hold NaN"):
        train(config, source, tmp_path / "refused")
    asked = replace(config, leave_out=LeaveOut(non_finite=True), batch_rows=100, epochs=1.0)
    made = train(asked, source, tmp_path / "asked")
    assert "26 of 1300 rows" in caplog.text
    assert made.provenance.rows_left_out == 26
    assert made.provenance.rows_trained == 1274
    assert bool(torch.isfinite(made.decoder).all())


def test_fewer_live_features_than_are_meant_to_fire_are_told_of_once(
    record: Record, small_config: TrainConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    rows = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    out_of_reach = {"features": 16, "target_l0": 12.0, "threshold": 1e6}
    config = replace(small_config, kind="jumprelu", settings=out_of_reach, dead_after_rows=64)
    train(replace(config, batch_rows=64), _source(record(rows)), tmp_path)
    said = [one for one in caplog.messages if "fewer than the 12 that are meant to fire" in one]
    assert len(said) == 1
    assert said[0].startswith("0 of 16 features fired in the last 64 rows")


def test_cancelling_before_the_first_step_leaves_a_checkpoint_of_step_0(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    with pytest.raises(JobCancelled):
        train(small_config, sources, tmp_path, should_stop=lambda: True)
    found = CheckpointDirectory(tmp_path).newest()
    assert found is not None
    assert found.step == 0


def test_a_device_that_does_not_exist_is_refused(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    with pytest.raises(InvalidInput, match="abacus"):
        train(small_config, sources, tmp_path, device="abacus")


def _train_by(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """Let a kind stand for every name."""

    def make(name: str, settings: Mapping[str, object]) -> Kind:
        return kind

    def find(name: str) -> type[Kind]:
        return type(kind)

    monkeypatch.setattr("isogloss.dictionaries.chosen.make_kind", make)
    monkeypatch.setattr("isogloss.dictionaries.chosen.kind_class", find)


@pytest.fixture
def two_sites(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {name: f"tests.dictionaries.two_sites:{name}" for name in ("SideBySide", "OneToAnother")}
    monkeypatch.setattr(load, "WIRINGS", Registry(noun="wiring", group="-", built_in=rows))


@pytest.mark.usefixtures("two_sites")
def test_a_kind_trains_on_the_sites_of_a_wiring_it_knows_nothing_of(
    sources: list[Source], small_config: TrainConfig, tmp_path: Path
):
    config = replace(small_config, wiring="SideBySide", epochs=6.0, learning_rate=1e-2)
    dictionary = train(config, sources * 2, tmp_path / "run")
    assert dictionary.width == 64
    assert [site.site for site in dictionary.provenance.sites] == [SITE, SITE]
    assert dictionary.provenance.curve[-1].fvu < 0.5 * dictionary.provenance.curve[0].fvu
    save_dictionary(dictionary, tmp_path)
    read = load_dictionary(tmp_path)
    assert read.wiring == "SideBySide"
    torch.testing.assert_close(read.decoder, dictionary.decoder, rtol=0, atol=0)
    with pytest.raises(Conflict, match="sites"):
        train(config, sources * 3, tmp_path / "run")


@pytest.mark.usefixtures("two_sites")
def test_rows_to_read_and_rows_to_reconstruct_are_cut_as_the_wiring_says(
    recorded: RecordingReader,
    sources: list[Source],
    small_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    seen: list[StepBatch] = []
    started: list[InitialWeights] = []

    class Watching(ReluL1):
        def start(self, initial: InitialWeights) -> dict[str, Tensor]:
            started.append(initial)
            return ReluL1.start(self, initial)

        def step(self, tensors: Mapping[str, Tensor], batch: StepBatch) -> StepResult:
            seen.append(batch)
            return ReluL1.step(self, tensors, batch)

    _train_by(monkeypatch, Watching(features=96))
    config = TrainConfig(
        settings={"features": 96}, wiring="OneToAnother", batch_rows=512, epochs=1.0
    )
    train(config, sources * 2, tmp_path / "across")
    assert not started[0].reads_what_it_writes
    assert all(batch.rows is not batch.target for batch in seen)
    torch.testing.assert_close(seen[0].rows, seen[0].target, rtol=0, atol=0)  # the same site twice
    assert seen[0].rows.shape == (512, 32)
    assert [batch.step for batch in seen] == list(range(1, seen[0].total_steps + 1))


def test_sources_of_recordings_that_share_no_document_are_refused(
    sources: list[Source], record: Record, small_config: TrainConfig, tmp_path: Path
):
    other = _source(record(np.ones((2000, 16), dtype=np.float32)))
    with pytest.raises(InvalidInput, match="share no document"):
        train(replace(small_config, wiring="crosscoder"), sources + other, tmp_path)


def test_names_of_tensors_that_a_checkpoint_needs_itself_are_refused(
    sources: list[Source],
    small_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    class Greedy(ReluL1):
        def start(self, initial: InitialWeights) -> dict[str, Tensor]:
            return ReluL1.start(self, initial) | {"mean": initial.mean}

    _train_by(monkeypatch, Greedy(features=8))
    with pytest.raises(InvalidInput, match=r"tensors named \['mean'\]"):
        train(replace(small_config, settings={"features": 8}), sources, tmp_path)
