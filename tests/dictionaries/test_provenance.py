import json

import pytest

from isogloss.dictionaries import DictionaryProvenance, SparseDictionary, TrainedSite, TrainProgress
from isogloss.errors import CorruptData


def test_every_field_survives_json(autoencoder: SparseDictionary):
    provenance = autoencoder.provenance
    read = DictionaryProvenance.from_dict(json.loads(json.dumps(provenance.to_dict())))
    assert read == provenance


def test_a_dictionary_made_by_hand_has_a_provenance_that_says_nothing():
    nothing = DictionaryProvenance()
    assert nothing.config is None
    assert DictionaryProvenance.from_dict(nothing.to_dict()) == nothing


SITE: dict[str, object] = {"recording": "r", "recording_uid": "u", "site": "s", "revision": {}}


@pytest.mark.parametrize(
    "changes",
    [
        {"curve": None},
        {"curve": [1]},
        {"curve": [{}]},
        {"sites": None},
        {"sites": [{}]},
        {"sites": [SITE | {"revision": []}]},
        {"sites": [SITE | {"recording": 3}]},
        {"config": 3},
        {"init_hash": 3},
        {"init_seed": "7"},
        {"init_cosine": True},
        {"later": 1},
    ],
)
def test_a_field_of_the_wrong_kind_is_corrupt_data(
    autoencoder: SparseDictionary, changes: dict[str, object]
):
    with pytest.raises(CorruptData, match="wanted"):
        DictionaryProvenance.from_dict(autoencoder.provenance.to_dict() | changes)


def test_a_progress_point_with_a_field_missing_is_corrupt_data():
    with pytest.raises(CorruptData, match="wanted"):
        TrainProgress.from_dict({"step": 1})


def test_the_form_of_one_site_is_read(autoencoder: SparseDictionary):
    values = autoencoder.provenance.to_dict()
    del values["sites"]
    read = DictionaryProvenance.from_dict(values | SITE)
    assert read.sites == (TrainedSite(recording="r", recording_uid="u", site="s", revision={}),)
    made_by_hand: dict[str, object] = dict.fromkeys(("recording", "recording_uid", "site"), "")
    assert DictionaryProvenance.from_dict(values | made_by_hand | {"revision": {}}).sites == ()
    for wrong in ({"revision": []}, {"recording": 3}):
        with pytest.raises(CorruptData, match="wanted"):
            DictionaryProvenance.from_dict(values | SITE | wrong)


def test_training_steps_are_kept_where_one_is_not_0():
    site = TrainedSite.from_dict(SITE)
    assert site.steps == (0,)
    assert site.to_dict() == SITE  # as releases that know no steps wrote it
    later = TrainedSite.from_dict(SITE | {"steps": [0, 2**64 - 1]})
    assert later.steps == (0, 2**64 - 1)
    assert TrainedSite.from_dict(json.loads(json.dumps(later.to_dict()))) == later
    for wrong in ([], [-1], ["1"], 3):
        with pytest.raises(CorruptData, match=r"wanted|at least one"):
            TrainedSite.from_dict(SITE | {"steps": wrong})
