"""What ``benchmarks/capture.py`` finds on a few architectures: all rows recorded, none wrong."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import capture
import numpy as np
import pytest
from capture_figures import architectures, each, models_combined, oracle, recorded

FEW = ("bert", "gpt2", "llama", "mamba", "opt")


@pytest.fixture(scope="module")
def found() -> list[dict[str, object]]:
    return capture.figures(*capture.measure(FEW, show=False))


def test_rows_of_common_architectures_are_those_of_a_process_without_isogloss(
    found: list[dict[str, object]],
) -> None:
    recorded_, wrong = found
    assert (recorded_["value"], recorded_["others"], recorded_["not built"]) == (1.0, {}, {})
    assert (wrong["value"], wrong["wrong"]) == (0, {})
    rows = sum(oracle.LENGTHS)
    assert wrong["peers"]["rows"] == 3 * len(FEW) * rows  # pyright: ignore[reportIndexIssue] - JSON


def test_every_named_family_can_be_built() -> None:
    assert len(architectures.FAMILIES) >= 30
    assert set(architectures.FAMILIES) <= set(architectures.text_architectures())
    for name in architectures.FAMILIES:
        model = architectures.tiny_model(name)
        rows = oracle.right_rows(model, oracle.texts()[:1])
        assert rows[model.site][0].shape[0] == oracle.LENGTHS[0]


def test_a_row_that_is_wrong_missing_or_of_no_text_is_counted() -> None:
    right = {7: np.ones((2, 3), "float32")}
    rows = np.ones((3, 3), "float32")
    rows[1] += 0.001
    gaps = recorded._gaps(right, rows, np.array([7, 7, 9], "uint64"), np.array([0, 1, 0], "uint32"))
    assert (gaps > recorded.TOLERANCE).tolist() == [False, True, True]
    gaps = recorded._gaps(right, rows[:1], np.array([7], "uint64"), np.array([0], "uint32"))
    assert (gaps > recorded.TOLERANCE).tolist() == [False, True]


def test_the_oracle_does_not_import_isogloss() -> None:
    code = "import sys, capture_figures.oracle; sys.exit('isogloss' in sys.modules)"
    folder = Path(capture.__file__).parent
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(folder)})


def test_a_loop_and_record_documents_of_the_same_texts_share_every_segment() -> None:
    found = models_combined.models_combined(models_combined.texts_in_other_scripts())
    assert found.holds, found.peers
    ways = found.peers["same and all, by way"]
    assert isinstance(ways, dict)
    assert list(ways) == ["said", "cut", "decoded"]
    assert all(same == most > 20 for same, most in ways.values())


def test_figures_are_chosen_by_their_names(monkeypatch: pytest.MonkeyPatch) -> None:
    few = models_combined.models_combined(models_combined.texts_in_other_scripts()).to_dict()
    monkeypatch.setattr(capture, "FIGURES", {**capture.FIGURES, "models_combined": lambda: few})
    with pytest.raises(SystemExit, match="no figure \\['models_rigth'\\]"):
        list(capture.measured(["models_rigth"], show=False))
    (found,) = capture.measured(["models_combined"], show=False)
    assert (found["figure"], found["holds"]) == ("models_combined", True)


def test_rows_are_compared_with_the_padded_pass_only_where_padding_reaches_them() -> None:
    rows = {f"{prefix}site {i}": np.ones((2, 3), "float32") for prefix in ("", "padded ")
            for i in range(len(oracle.LENGTHS))}  # fmt: skip
    assert not recorded.padding_reaches(rows, "site")
    rows["padded site 3"][1, 2] += 0.001
    assert recorded.padding_reaches(rows, "site")
    for name, reaches in (("fnet", True), ("bert", False)):
        found = oracle.all_rows(architectures.tiny_model(name))
        assert recorded.padding_reaches(found, "site") is reaches


def test_what_hangs_or_crashes_costs_itself_only() -> None:
    code = """
import sys, time
from capture_figures.each import tell
for name in sys.argv[1:]:
    if name == "hangs":
        time.sleep(600)
    if name == "crashes":
        raise SystemExit(3)
    tell(name, {"name": name})
"""
    names = ("a", "hangs", "crashes", "b")
    environment = {**os.environ, "PYTHONPATH": str(Path(capture.__file__).parent)}
    command: Sequence[str] = (sys.executable, "-c", code)
    found = list(each.each(command, names, environment=environment, deadline_s=5.0))
    assert [name for name, _ in found] == list(names)
    assert [told for _, told in found] == [
        {"name": "a"}, "no end within 5 s", "its process ended with 3", {"name": "b"}
    ]  # fmt: skip
