"""Scores against a planted truth: of the truth itself, and of what is wrong by design."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from isogloss.dictionaries.experiments.recovery import score_recovery
from isogloss.dictionaries.experiments.superposition import Superposition
from isogloss.dictionaries.provenance import DictionaryProvenance
from isogloss.errors import ShapeError
from isogloss.kernels import Codes, decode

WORLD = Superposition(features=12, width=16, fires=2.0)


@dataclass
class Oracle:
    """A dictionary whose features are given directions, and fire where a lookup says."""

    decoder: Tensor
    of: list[int]
    """For each feature the planted one with which it fires; -1: never."""
    every: int = 1
    """Fires on each so many of these rows."""

    kind: str = "oracle"
    provenance: DictionaryProvenance = field(default_factory=DictionaryProvenance)

    @property
    def width(self) -> int:
        return self.decoder.shape[1]

    @property
    def features(self) -> int:
        return len(self.decoder)

    def encode(self, rows: Tensor) -> Codes:
        fires = self._present(rows)
        values = torch.zeros(len(rows), self.features)
        for own, true in enumerate(self.of):
            if true >= 0:
                hit = np.flatnonzero(fires[:, true])[:: self.every]
                values[hit, own] = 1.0
        indices = torch.arange(self.features, dtype=torch.int32).expand(len(rows), -1).contiguous()
        return Codes(values=values, indices=indices, features=self.features)

    def decode(self, codes: Codes) -> Tensor:
        return decode(codes, self.decoder)

    @staticmethod
    def _present(rows: Tensor) -> np.ndarray:
        for number in range(2**40, 2**40 + 2):
            block = WORLD.block(number)
            if np.array_equal(block.rows, rows.numpy()):
                return block.fires
        raise AssertionError("rows of no held-out block")


def truth() -> Tensor:
    return torch.from_numpy(WORLD.directions())


def test_the_truth_scores_one_in_any_order() -> None:
    order = np.random.default_rng(0).permutation(12)
    oracle = Oracle(truth()[torch.from_numpy(order)], list(map(int, order)))
    found = score_recovery(oracle, WORLD, blocks=2)
    assert found.to_dict() == pytest.approx(
        {"recovered": 1, "mcc": 1, "precision": 1, "recall": 1, "f1": 1, "l0": found.l0}
    )
    assert found.l0 == pytest.approx(2.0, rel=0.05)


def test_a_feature_that_fires_on_every_third_row_has_a_third_of_the_recall() -> None:
    found = score_recovery(Oracle(truth(), list(range(12)), every=3), WORLD, blocks=2)
    assert found.precision == 1
    assert found.recall == pytest.approx(1 / 3, abs=2e-3)
    assert found.f1 == pytest.approx(0.5, abs=2e-3)


def test_features_that_swap_their_firing_have_neither_precision_nor_recall() -> None:
    swapped = [1, 0, *range(2, 12)]
    found = score_recovery(Oracle(truth(), swapped), WORLD, blocks=2)
    assert found.recovered == 1
    assert 10 / 12 < found.f1 < 11 / 12  # two by two they fire together by chance at times


def test_one_feature_counts_for_one_planted_feature_only() -> None:
    doubled = torch.cat([truth()[:1].repeat(12, 1)])
    found = score_recovery(Oracle(doubled, [0] * 12), WORLD, blocks=2)
    assert found.recovered == pytest.approx(1 / 12)


def test_what_has_no_partner_scores_nothing() -> None:
    found = score_recovery(Oracle(truth()[:6], list(range(6))), WORLD, blocks=2)
    for score in (found.recovered, found.mcc, found.precision, found.recall, found.f1):
        assert score == pytest.approx(0.5)


def test_the_opposite_direction_is_not_found() -> None:
    found = score_recovery(Oracle(-truth(), list(range(12))), WORLD, blocks=2)
    assert found.recovered == 0


def test_a_dictionary_of_another_width_is_refused() -> None:
    with pytest.raises(ShapeError, match="wanted 16"):
        score_recovery(Oracle(torch.eye(12), list(range(12))), WORLD)
