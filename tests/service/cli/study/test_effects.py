"""What features do, on the command line."""

import json
from pathlib import Path

import pytest
from tests.service.cli.study.conftest import Run

from isogloss.dictionaries import read_token_effects
from isogloss.service.cli.study.effects import shown_tokens

TEXT = " ".join(f"call {i} resumes where {i * i} stopped; keys stay in order." for i in range(200))


@pytest.fixture
def trained(run: Run, gpt2: str, tmp_path: Path) -> str:
    """A dictionary of the tiny model's first layer, in a store."""
    (tmp_path / "text.txt").write_text(TEXT)
    words = ("record", gpt2, "--site", "h.0", "--recording", "tiny", "text.txt", "--words", "40")
    code, _, err = run(*words)
    assert code == 0, err
    settings = ("--features", "16", "--k", "4")
    code, _, err = run("train", "tiny", "--site", "h.0", "--dictionary", "d", *settings)
    assert code == 0, err
    return gpt2


def test_a_dictionary_is_measured_whole_and_by_features(run: Run, trained: str, tmp_path: Path):
    measure = ("effects", "d", "text.txt", "--model", trained, "--windows", "3", "--tokens", "12")
    code, out, err = run(*measure, "--json")
    assert code == 0, err
    whole = json.loads(out)
    assert whole["ablated"] != whole["clean"]
    assert whole["share"] == pytest.approx(
        (whole["ablated"] - whole["rebuilt"]) / (whole["ablated"] - whole["clean"])
    )
    code, out, err = run(*measure, "--feature", "3", "--random", "4", "-o", "kept", "--json")
    assert code == 0, err
    (one,) = json.loads(out)
    assert len(one["tokens"]["promoted"]) == 8
    assert len(one["effect"]["null_kl"]) == 4
    assert list(read_token_effects(tmp_path / "kept")) == [3]
    code, out, err = run(*measure, "--feature", "3", "--random", "2", "--keep")
    assert code == 0, err
    (directory,) = (tmp_path / "isogloss-store" / "dictionaries").iterdir()
    kept = read_token_effects(directory)
    assert list(kept) == [3]
    for line in shown_tokens(kept[3]):  # as `isogloss feature` shows what was kept
        assert line in out.splitlines()
    code, out, _ = run(*measure, "--feature", "3", "--change", "steer", "--value", "2")
    assert code == 0
    assert "feature 3, steer: KL" in out
    assert "promotes" in out
    for more, said in (
        (("--change", "raise"), "wanted one of ablate, clamp, steer"),
        (("--feature", "99"), "0 to 15"),
        (("--keep",), "give --feature"),
        (("--allow", "colour"), "parts of a passport"),
        (("--feature", "3", "-o", "text.txt/kept"), "choose --output"),
        (("--tokens", "500"), "the model reads 128"),
        (("--feature", "3", "--feature", "3"), "named twice"),
        (("--feature", "3", "--keep", "--count", "65"), "64 are kept at most: --count"),
    ):
        code, _, err = run(*measure, *more)
        assert code == 1
        assert said in err
    assert not (tmp_path / "text.txt" / "kept").exists()


def test_a_feature_that_never_fires_is_said_to_and_has_no_p(
    run: Run, gpt2: str, trained_store: Path, tmp_path: Path
):
    (tmp_path / "text.txt").write_text("e" * 400)
    measure = ("effects", "first", "text.txt", "--model", gpt2, "--store", str(trained_store))
    sizes = ("--windows", "1", "--tokens", "4", "--random", "2")
    every = [word for one in range(16) for word in ("--feature", str(one))]
    code, out, err = run(*measure, *sizes, *every, "--json")
    assert code == 0, err
    found = [one["effect"] for one in json.loads(out)]
    silent = [one for one in found if not one["firings"]]
    assert 0 < len(silent) < 16
    for one in silent:
        assert [one[name] for name in ("kl", "loss", "p_kl", "p_loss")] == [None] * 4
        assert one["null_kl"] == []
    assert all(0 < one["p_kl"] <= 1 for one in found if one["firings"])
    never = ("--feature", str(silent[0]["feature"]))
    code, out, err = run(*measure, *sizes, *never)
    assert code == 0, err
    assert f"feature {silent[0]['feature']}, ablate: it never fires on these texts" in out
    assert "KL" not in out
    code, out, _ = run(*measure, *sizes, *never, "--change", "steer", "--value", "3")
    assert code == 0
    assert "KL" in out
    assert "it never fires on these texts by itself" in out
    code, _, err = run(*measure, *sizes, *never, "--change", "steer")
    assert code == 1
    assert "give value= (--value)" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--feature", "99"), "0 to 15"),
        (("--feature", "3", "-o", "text.txt/kept"), "choose --output"),
        (("--change", "raise"), "wanted one of"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_the_model_is_loaded(
    run: Run, trained_store: Path, tmp_path: Path, words: tuple[str, ...], said: str
):
    (tmp_path / "text.txt").write_text(TEXT)
    store = ("--store", str(trained_store))
    code, _, err = run("effects", "first", "text.txt", "--model", "no/such/model", *store, *words)
    assert code == 1
    assert said in err
