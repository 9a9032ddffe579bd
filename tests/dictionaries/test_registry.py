import os
import subprocess
import sys
from pathlib import Path

import pytest

from isogloss.dictionaries.registry import Registry
from isogloss.errors import InvalidInput

REGISTRY = Registry(noun="thing", group="isogloss.tests", built_in={"path": "pathlib:Path"})


def _package(directory: Path, name: str, module: str, entries: str) -> None:
    (directory / f"{name}.py").write_text(module)
    metadata = directory / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[isogloss.tests]\n{entries}\n")


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_built_in_name_is_found_and_its_module_imported_only_then():
    assert REGISTRY.names() == ["path"]
    assert REGISTRY.find("path") is Path


@pytest.mark.parametrize("name", ["", "paht", "pathlib", "pathlib:Path", "os.path", "path:Path"])
def test_a_name_that_is_no_row_is_refused_and_those_there_are_listed(name: str):
    with pytest.raises(InvalidInput, match=f"no thing '{name}' is installed; there are: path"):
        REGISTRY.find(name)


def test_no_name_is_imported_as_a_module():
    code = (
        "import sys\n"
        "from isogloss.dictionaries.registry import Registry\n"
        "from isogloss.errors import InvalidInput\n"
        "registry = Registry(noun='thing', group='isogloss.tests', built_in={})\n"
        "for name in ('antigravity', 'antigravity:x', 'this.x'):\n"
        "    try: registry.find(name)\n"
        "    except InvalidInput: pass\n"
        "sys.exit(bool({'antigravity', 'this'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], env=os.environ, timeout=60).returncode == 0


def test_an_installed_package_adds_a_row(installed: Path):
    _package(installed, "outside_one", "class Thing: pass\n", "thing = outside_one:Thing")
    assert REGISTRY.names() == ["path", "thing"]
    found = REGISTRY.find("thing")
    assert isinstance(found, type)
    assert found.__module__ == "outside_one"


def test_a_package_does_not_replace_a_built_in_row(installed: Path):
    _package(installed, "outside_two", "class Thing: pass\n", "path = outside_two:Thing")
    assert REGISTRY.names() == ["path"]
    assert REGISTRY.find("path") is Path


def test_a_name_that_two_packages_offer_is_refused_and_both_are_named(installed: Path):
    for name in ("outside_three", "outside_four"):
        _package(installed, name, "class Thing: pass\n", f"thing = {name}:Thing")
    with pytest.raises(InvalidInput, match=r"outside.four .* and outside.three .*uninstall"):
        REGISTRY.find("thing")


@pytest.mark.parametrize("value", ["outside_five:Missing", "outside_six:Thing"])
def test_a_package_that_does_not_import_is_named(installed: Path, value: str):
    _package(installed, "outside_five", "class Thing: pass\n", f"thing = {value}")
    with pytest.raises(InvalidInput, match=r"outside.five .* does not import"):
        REGISTRY.find("thing")


@pytest.mark.parametrize("n", range(4))
def test_whatever_a_package_does_while_it_is_imported_it_is_named(installed: Path, n: int):
    module = ["1 / 0", "raise SystemExit(3)", "def (", "raise RuntimeError('no device')"][n]
    name = f"outside_broken_{n}"
    _package(installed, name, module + "\n", f"thing = {name}:Thing")
    with pytest.raises(InvalidInput, match=r"outside.broken.* does not import: \w+"):
        REGISTRY.find("thing")
