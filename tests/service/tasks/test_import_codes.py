"""Codes of another tool, imported and taken through every verb that takes features."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from tests.service import planted
from tests.service.run_here import run_here
from tests.service.serving import server_on

import isogloss
from isogloss.dictionaries import load_dictionary
from isogloss.errors import AlreadyExists, InvalidInput, NotFound
from isogloss.service.control.entries import dictionary_info, probe_info
from isogloss.service.control.uploads import keep_part, upload_directory
from isogloss.service.pages.report import render_report
from isogloss.service.query.queries import Queries
from isogloss.service.wire.features import from_part, to_parts
from isogloss.store import Store, check_codes
from isogloss.universality import Probe, load_probed
from isogloss.universality.correlation.moments import shape_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A store with a dictionary of either model on one probe."""
    with Store.open(tmp_path_factory.mktemp("imported") / "store") as store:
        planted.record(store, "small-docs", seed=1)
        planted.record(store, "large-docs", seed=2)
        planted.dictionary(store, "small-docs", "small", seed=1)
        planted.dictionary(store, "large-docs", "large", seed=2)
        spec = {"probe": "p", "recordings": ["small-docs", "large-docs"]}
        run_here(store, "probe", {**spec, "dictionaries": ["small", "large"]})
        yield store


def codes_of(store: Store, dictionary: str = "large") -> sp.csr_array:
    """Return the codes of a dictionary on the probe, as another tool would give them."""
    uids = (store.catalog.get("dictionary", dictionary).uid, store.catalog.get("probe", "p").uid)
    probed = load_probed(store.artifact("codes", *uids), dictionary)
    return probed.features_matrix(np.arange(probed.features)).T.tocsr()


def import_here(store: Store, codes: sp.csr_array, name: str, **more: object) -> dict[str, object]:
    """Send codes in parts and run the job that imports them, in this process."""
    present = more.pop("present", None)
    assert present is None or isinstance(present, np.ndarray)
    segments, kept = shape_of(codes)[0], 0
    checked = check_codes(codes, segments=segments, present=present)
    for part in to_parts("probes/p", checked):
        kept = keep_part(store, part.upload, part.first_segment, from_part(part, segments))
    assert kept == segments
    spec: dict[str, object] = {
        "dictionary": name,
        "probe": "p",
        "upload": checked.digest,
        "site": "",
        "origin": "t",
        "features": checked.features,
    }
    assert upload_directory(store, checked.digest).is_dir()
    run_here(store, "import", spec | more)
    assert not upload_directory(store, checked.digest).exists(), "an upload outlived its import"
    return {**store.catalog.get("dictionary", name).body}


def test_imported_codes_match_like_the_dictionary_that_made_them(store: Store) -> None:
    import_here(store, codes_of(store), "theirs", recording="large-docs", site="encoder.layer.2")
    made = dictionary_info(store.catalog.get("dictionary", "theirs"))
    assert (made.kind, made.features, made.recording) == ("imported_codes", 40, "large-docs")
    assert made.provenance["origin"] == "t"
    assert "theirs" in probe_info(store.catalog.get("probe", "p")).dictionaries
    settings = {"draws": 1, "max_draws": 1, "keys": ["none"]}
    for name, other in (("with-theirs", "theirs"), ("with-ours", "large")):
        run_here(store, "match", {"match": name, "a": "small", "b": other, "settings": settings})
    queries = Queries(store)
    got, wanted = queries.pairs("with-theirs"), queries.pairs("with-ours")
    assert len(got) > 5
    assert [(p.feature_a, p.feature_b, p.r, p.cosine) for p in got] == [
        (p.feature_a, p.feature_b, p.r, p.cosine) for p in wanted
    ]
    details = queries.match("with-theirs").details
    assert "imported as codes" in render_report([details])
    best = got[0]
    hits = queries.nearest("small", best.feature_a, ["theirs", "large"], 1)
    assert {hit.dictionary for hit in hits} == {"theirs", "large"}
    assert {(hit.feature, hit.r) for hit in hits} == {(best.feature_b, hits[0].r)}
    assert queries.feature("theirs", best.feature_b).contexts


def test_missing_segments_are_left_out_and_an_unrecorded_model_is_said(store: Store) -> None:
    codes = codes_of(store)
    present = np.ones(shape_of(codes)[0], np.bool_)
    present[::3] = False
    kept = sp.csr_array(sp.diags_array(present.astype(float)) @ codes)
    body = import_here(store, kept, "holes", present=present)
    assert isinstance(body["provenance"], dict)
    assert body["provenance"]["model_known"] is False
    settings = {"draws": 1, "max_draws": 1, "keys": ["none"]}
    run_here(store, "match", {"match": "h", "a": "small", "b": "holes", "settings": settings})
    data = Queries(store).match("h").details["data"]
    assert isinstance(data, dict)
    halves = data["probe"]["segments"]
    assert halves["choose"] + halves["report"] == int(present.sum())
    assert "unrecorded model of t" in render_report([Queries(store).match("h").details])
    (caution,) = [c for c in data["cautions"] if c["code"] == "FOREIGN_CODES"]
    assert "was not recorded" in caution["message"]


def test_the_same_codes_again_change_nothing_and_others_are_refused(store: Store) -> None:
    codes = codes_of(store)
    import_here(store, codes, "twice")
    before = store.catalog.get("dictionary", "twice")
    import_here(store, codes, "twice")
    assert store.catalog.get("dictionary", "twice") == before
    with pytest.raises(AlreadyExists, match="not of these codes"):
        import_here(store, sp.csr_array(2 * codes), "twice")


def test_an_import_that_lacks_parts_or_names_no_recording_of_the_probe_says_so(
    store: Store,
) -> None:
    codes = codes_of(store)
    segments = shape_of(codes)[0]
    checked = check_codes(codes, segments=segments, features=40)
    half = checked.part(0, segments // 2)
    keep_part(store, checked.digest, 0, half)
    spec: dict[str, object] = {
        "dictionary": "part",
        "probe": "p",
        "upload": checked.digest,
        "features": 40,
        "site": "",
        "origin": "",
    }
    with pytest.raises(InvalidInput, match=f"has {segments // 2} of the probe's {segments}"):
        run_here(store, "import", spec)
    assert store.catalog.find("dictionary", "part") is None
    rest = checked.part(segments // 2, segments)
    assert keep_part(store, checked.digest, segments // 2, rest) == segments
    with pytest.raises(InvalidInput, match="name one of these, or none"):
        run_here(store, "import", {**spec, "recording": "lost"})
    with pytest.raises(InvalidInput, match="of 40 features, wanted 41"):
        run_here(store, "import", {**spec, "features": 41})
    run_here(store, "import", spec)
    uid = store.catalog.get("dictionary", "part").uid
    found = load_probed(store.artifact("codes", uid, store.catalog.get("probe", "p").uid), "part")
    again = found.features_matrix(np.arange(40)).T.tocsr()
    np.testing.assert_array_equal(again.toarray(), codes.toarray())


def test_what_needs_weights_says_that_there_are_none(store: Store) -> None:
    import_here(store, codes_of(store), "bare")
    with pytest.raises(InvalidInput, match="has no weights"):
        Queries(store).encode("bare", np.zeros((1, 32), np.float32))
    spec = {"probe": "elsewhere", "recordings": ["small-docs", "large-docs"], "holdout": 0.2}
    with pytest.raises(InvalidInput, match="imported as codes on another probe"):
        run_here(store, "probe", {**spec, "dictionaries": ["bare"]})


def test_over_a_server_segments_tell_the_rows_and_their_codes_come_back(tmp_path: Path) -> None:
    """A stranger's whole way: read the rows, encode them with a tool of their own, import."""
    path = tmp_path / "store"
    with Store.open(path) as store:
        planted.record(store, "large-docs", seed=2)
        planted.dictionary(store, "large-docs", "large", seed=2)
        run_here(
            store, "probe", {"probe": "p", "recordings": ["large-docs"], "dictionaries": ["large"]}
        )
        probe = Probe.load(store.artifact("probe", store.catalog.get("probe", "p").uid))
        tool = load_dictionary(
            store.artifact("dictionary", store.catalog.get("dictionary", "large").uid)
        )
        wanted = codes_of(store)
    with server_on(path, "--workers"), isogloss.connect(path, timeout_s=120) as client:
        assert not client.is_local
        segments = client.segments("p", recording="large-docs")
        assert segments.row is not None
        tokens = client.tokens("large-docs", revision=segments.revision)
        np.testing.assert_array_equal(tokens.document[segments.row], segments.document)
        np.testing.assert_array_equal(tokens.position[segments.row], segments.span[:, 1])
        np.testing.assert_array_equal(segments.half, probe.half)
        bare = client.segments("p")
        assert (bare.row, bare.revision) == (None, None)
        np.testing.assert_array_equal(bare.span, segments.span)
        with pytest.raises(NotFound, match="made of large-docs"):
            client.segments("p", recording="other")
        rows = client.read("large-docs", "encoder.layer.2", revision=segments.revision)
        values, indices = client.encode("large", rows[segments.row])
        assert tool.features == 40
        at = np.repeat(np.arange(len(segments)), values.shape[1])
        codes = {"segment": at, "feature": indices.ravel(), "value": values.ravel()}
        made = client.import_codes(
            "p", codes, dictionary="theirs", features=40, recording="large-docs"
        ).result()
        checked = check_codes(wanted, segments=len(segments))
        assert made.provenance["codes_sha256"] == checked.digest
        with pytest.raises(InvalidInput, match="is negative or not finite"):
            client.import_codes(
                "p", {**codes, "value": -values.ravel()}, dictionary="no", features=40
            )
