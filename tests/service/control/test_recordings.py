"""Creating and deleting recordings as the owner of a store does it."""

from collections.abc import Iterator

import pytest

from isogloss.errors import Conflict, InvalidInput, NotFound, UnknownSite
from isogloss.service.control.owner import Owner
from isogloss.service.values.job_specs import TrainSpec
from isogloss.service.values.results import SiteRef
from isogloss.store import Store
from isogloss.store.testing import sample_spec


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owner]:
    store = Store.open(tmp_path_factory.mktemp("recordings") / "store")
    with Owner(store, run_workers=False) as owner:
        yield owner


def test_a_repeated_request_is_answered_as_before_even_after_the_recording_was_deleted(
    owner: Owner,
) -> None:
    first = owner.recordings.create(sample_spec("once"), ["a"], "r1")
    owner.recordings.delete("once", first.etag)
    assert owner.recordings.create(sample_spec("once"), ["a"], "r1") == first
    with pytest.raises(NotFound):
        owner.store.recording("once")


def test_a_request_id_stands_for_one_request(owner: Owner) -> None:
    owner.recordings.create(sample_spec("a"), ["a"], "r2")
    with pytest.raises(InvalidInput, match="'r2' was used for a different request"):
        owner.recordings.create(sample_spec("a"), ["b"], "r2")


def test_a_recording_that_changed_or_is_used_is_not_deleted(owner: Owner) -> None:
    made = owner.recordings.create(sample_spec("used"), ["a"], "")
    with pytest.raises(Conflict, match="has etag"):
        owner.recordings.delete("used", "old")
    job = owner.jobs.submit(
        TrainSpec(dictionary="d", sources=(SiteRef(recording="used", site="s"),), config={})
    )
    with pytest.raises(Conflict, match=f"used by job '{job.id}'"):
        owner.recordings.delete("used", made.etag)
    owner.jobs.cancel(job.id)
    owner.recordings.delete("used", made.etag)


def test_a_site_is_checked_by_name(owner: Owner) -> None:
    spec = sample_spec("sites")
    owner.recordings.create(spec, ["a"], "")
    name = spec.sites[0].name
    assert owner.recordings.site_name("sites", name) == name
    assert owner.recordings.site_name("sites", f"model.{name}") == name
    with pytest.raises(UnknownSite, match="nearest"):
        owner.recordings.site_name("sites", "layer.99")
    with pytest.raises(NotFound, match="lost"):
        owner.recordings.site_name("lost", spec.sites[0].name)
