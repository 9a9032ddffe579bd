"""Recordings and dictionaries that the tests of this room share."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, Protocol

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from isogloss.dictionaries import (
    DictionaryProvenance,
    Source,
    SparseDictionary,
    TrainConfig,
    TrainedSite,
    TrainProgress,
    complete_config,
)
from isogloss.store import (
    Document,
    ModelInfo,
    RecordingReader,
    RecordingSpec,
    RowBatch,
    SiteSpec,
    Store,
)

DOCUMENT_ROWS = 50
SITE = "encoder.layer.3"


class Record(Protocol):
    """Makes a recording of one site and returns its pinned reader."""

    def __call__(
        self,
        rows: NDArray[np.float32],
        dtype: Literal["bfloat16", "float32"] = "bfloat16",
        steps: tuple[int, ...] = (0,),
    ) -> RecordingReader: ...


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    with Store.open(tmp_path_factory.mktemp("room") / "store") as opened:
        yield opened


@pytest.fixture(scope="session")
def record(store: Store) -> Record:
    """Record rows as documents of 50 token positions each, once at each training step."""

    def make(
        rows: NDArray[np.float32],
        dtype: Literal["bfloat16", "float32"] = "bfloat16",
        steps: tuple[int, ...] = (0,),
    ) -> RecordingReader:
        spec = RecordingSpec(
            recording=f"recording-{len(store.recordings())}",
            model=ModelInfo(name="none"),
            tokenizer="numbers",
            corpus="numbers",
            sites=(SiteSpec(name=SITE, width=rows.shape[1], dtype=dtype),),
            has_spans=False,
            provenance={},
        )
        recording = store.create_recording(spec, ["zero"])
        number = np.arange(len(rows)) // DOCUMENT_ROWS
        documents = [
            Document.from_token_ids(np.array([n, rows.shape[1]], dtype=np.uint32))
            for n in range(number[-1] + 1)
        ]
        batch = RowBatch(
            producer="test",
            sequence=1,
            sites={SITE: rows.astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else rows},
            token_id=np.zeros(len(rows), dtype=np.uint32),
            document=np.array([documents[n].id for n in number], dtype=np.uint64),
            position=(np.arange(len(rows)) % DOCUMENT_ROWS).astype(np.uint32),
            span=None,
            documents=tuple(documents),
        )
        lane = recording.open_lane()
        lane.append([replace(batch, sequence=n + 1, step=step) for n, step in enumerate(steps)])
        lane.close()
        return recording.reader()

    return make


class Superpose(Protocol):
    """Makes rows of sparse features, and the unit directions they are made of."""

    def __call__(
        self, *, rows: int, features: int, width: int, active: float, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]: ...


@pytest.fixture(scope="session")
def superpose() -> Superpose:
    """Sum features that fire independently, ``active`` a row on average, about a mean row."""

    def make(
        *, rows: int, features: int, width: int, active: float, seed: int
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        generator = np.random.default_rng(seed)
        directions = generator.standard_normal((features, width))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        fires = generator.random((rows, features)) < active / features
        strength = np.where(fires, 1 + np.abs(generator.standard_normal((rows, features))), 0)
        made = strength @ directions + 0.3 * generator.standard_normal(width)
        return made.astype(np.float32), directions.astype(np.float32)

    return make


@pytest.fixture(scope="session")
def recorded(record: Record, superpose: Superpose) -> RecordingReader:
    """20,000 rows of 64 features in width 32, 3 firing on average."""
    rows, _ = superpose(rows=20_000, features=64, width=32, active=3.0, seed=3)
    return record(rows)


@pytest.fixture(scope="session")
def sources(recorded: RecordingReader) -> list[Source]:
    """The one site of ``recorded``."""
    return [Source(reader=recorded, site=SITE)]


@pytest.fixture(scope="session")
def small_config() -> TrainConfig:
    """About 30 steps on ``recorded``, with dead features on the way."""
    return complete_config(
        TrainConfig(
            settings={"features": 96, "k": 4},
            batch_rows=512,
            epochs=1.0,
            dead_after_rows=1024,
            checkpoint_every=5,
            seed=0,
        )
    )


@pytest.fixture
def autoencoder() -> SparseDictionary:
    """An autoencoder of random weights with every field of its provenance set."""
    features, width, k = 40, 12, 5
    generator = torch.Generator().manual_seed(11)
    decoder = torch.nn.functional.normalize(torch.randn(features, width, generator=generator))
    point = TrainProgress(
        step=3,
        total_steps=4,
        rows=96,
        fvu=0.25,
        loss=0.3,
        l0=4.5,
        dead_fraction=0.1,
        rows_per_s=1234.5,
    )
    provenance = DictionaryProvenance(
        sites=(
            TrainedSite(
                recording="minilm-docs",
                recording_uid="ab" * 16,
                site=SITE,
                revision={"schema_version": 1, "recording": "ab" * 16, "lanes": [["lane-1", 96]]},
            ),
        ),
        config=TrainConfig(settings={"features": features, "k": k, "aux_k": None}),
        init_seed=7,
        init_hash="cd" * 32,
        init_cosine=0.75,
        rows_trained=96,
        input_scale=0.5,
        curve=(point,),
    )
    tensors = {
        "encoder": decoder.clone(),
        "encoder_bias": 0.1 * torch.randn(features, generator=generator),
        "decoder": decoder,
        "decoder_bias": torch.randn(width, generator=generator),
    }
    return SparseDictionary.make("topk", {"features": features, "k": k}, tensors, provenance)
