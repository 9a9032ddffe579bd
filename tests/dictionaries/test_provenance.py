import json

import pytest

from isogloss.dictionaries import DictionaryProvenance, SparseAutoencoder, TrainProgress
from isogloss.errors import CorruptData


def test_every_field_survives_json(autoencoder: SparseAutoencoder):
    provenance = autoencoder.provenance
    read = DictionaryProvenance.from_dict(json.loads(json.dumps(provenance.to_dict())))
    assert read == provenance


def test_a_dictionary_made_by_hand_has_a_provenance_that_says_nothing():
    nothing = DictionaryProvenance()
    assert nothing.config is None
    assert DictionaryProvenance.from_dict(nothing.to_dict()) == nothing


@pytest.mark.parametrize(
    "changes",
    [
        {"curve": None},
        {"curve": [1]},
        {"curve": [{}]},
        {"revision": []},
        {"config": 3},
        {"recording": 3},
        {"init_seed": "7"},
        {"init_cosine": True},
        {"later": 1},
    ],
)
def test_a_field_of_the_wrong_kind_is_corrupt_data(
    autoencoder: SparseAutoencoder, changes: dict[str, object]
):
    with pytest.raises(CorruptData, match="wanted"):
        DictionaryProvenance.from_dict(autoencoder.provenance.to_dict() | changes)


def test_a_progress_point_with_a_field_missing_is_corrupt_data():
    with pytest.raises(CorruptData, match="wanted"):
        TrainProgress.from_dict({"step": 1})
