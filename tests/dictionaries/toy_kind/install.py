"""Installs the toy kind into a directory, as pip would, but without pip and without a network."""

import shutil
import tomllib
from pathlib import Path

HERE = Path(__file__).parent

KIND = "toy_relu"
"""Name under which the package offers its kind."""


def install_toy_kind(directory: Path) -> Path:
    """Lay down the package and its metadata; put the directory on PYTHONPATH of a child process.

    Returns:
        The directory.
    """
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    metadata = directory / f"toy_kind-{project['version']}.dist-info"
    metadata.mkdir(parents=True)
    shutil.copy(HERE / "toy_kind.py", directory)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in project["entry-points"].items()
    ]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    return directory
