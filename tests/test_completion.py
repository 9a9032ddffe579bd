"""Completion in shells, and ``python -m isogloss``, in processes as a shell starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from isogloss.version import __version__

AS_MODULE = (sys.executable, "-m", "isogloss")
AS_SCRIPT = (
    *(sys.executable, "-c"),
    "import sys; sys.argv[0] = 'isogloss'; from isogloss.__main__ import main; main()",
)


def run(*line: str, **environment: str) -> str:
    ended = subprocess.run(
        line,
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("command", [AS_SCRIPT, AS_MODULE], ids=["script", "module"])
def test_a_shell_is_offered_commands_and_options(command: tuple[str, ...]) -> None:
    asked = {"_ISOGLOSS_COMPLETE": "complete_bash"}
    found = run(*command, COMP_WORDS="isogloss rec", COMP_CWORD="1", **asked)
    assert found.split() == ["record", "recordings"]
    found = run(*command, COMP_WORDS="isogloss nearest --te", COMP_CWORD="2", **asked)
    assert found.split() == ["--text"]


@pytest.mark.parametrize(
    ("shell", "file"),
    [
        ("bash", ".bash_completions/isogloss.sh"),
        ("zsh", ".zfunc/_isogloss"),
        ("fish", ".config/fish/completions/isogloss.fish"),
    ],
)
def test_completion_is_installed_for_isogloss_also_from_the_module(
    shell: str, file: str, tmp_path: Path
) -> None:
    run(*AS_MODULE, "--install-completion", shell, HOME=str(tmp_path))
    written = (tmp_path / file).read_text()
    assert "_ISOGLOSS_COMPLETE" in written
    assert "python" not in written.lower()


def test_the_module_is_the_command() -> None:
    assert run(*AS_MODULE, "--version") == f"isogloss {__version__}\n"
    assert "Usage: isogloss [OPTIONS]" in run(*AS_MODULE, "--help", COLUMNS="80")
