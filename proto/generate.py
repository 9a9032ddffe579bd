"""Regenerate ``isogloss.proto.v1`` from ``isogloss/v1/*.proto``: ``python proto/generate.py``.

protoc names Python modules after the proto path (``isogloss.v1``); ours live in
``isogloss.proto.v1``, so imports between them are rewritten. ``google.longrunning`` is found at
run time in googleapis-common-protos, which registers the same file name as the copy kept here.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_HEADER = "# Made by proto/generate.py; not edited by hand.\n"


def generate(out: Path) -> None:
    """Write the modules and stubs of every file of package isogloss.v1 into ``out``.

    Raises:
        CalledProcessError: protoc or a plugin failed; its message is on standard error.
    """
    sources = sorted(path.relative_to(_HERE).as_posix() for path in _HERE.glob("isogloss/v1/*"))
    scripts = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as scratch:
        flags = [f"--{kind}_out={scratch}" for kind in ("python", "grpc_python", "mypy")]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{_HERE}", *flags, *sources]
        path = os.pathsep.join((str(scripts), os.environ.get("PATH", "")))
        subprocess.run(command, check=True, cwd=_HERE, env={**os.environ, "PATH": path})
        out.mkdir(parents=True, exist_ok=True)
        for made in sorted(Path(scratch).glob("isogloss/v1/*")):
            text = made.read_text()
            # a file without services gives a grpc module that says nothing
            if not made.stem.endswith("_grpc") or "Stub" in text:
                (out / made.name).write_text(_HEADER + _rewrite(text))


def _rewrite(text: str) -> str:
    """Point imports of ``isogloss.v1`` at ``isogloss.proto.v1``."""
    text = re.sub(r"\bfrom isogloss\.v1 import\b", "from isogloss.proto.v1 import", text)
    text = re.sub(r"\bimport isogloss\.v1\.", "import isogloss.proto.v1.", text)
    return re.sub(r"(?<![\w.])isogloss\.v1\.(\w+_pb2)", r"isogloss.proto.v1.\1", text)


def release(image: Path) -> None:
    """Write the image that ``buf breaking`` compares later versions with."""
    buf = Path(sys.executable).parent / "buf"
    command = [
        str(buf),
        "build",
        "--path",
        "proto/isogloss",
        "--exclude-source-info",
        "-o",
        str(image),
    ]
    subprocess.run(command, check=True, cwd=_HERE.parent)


def main(arguments: Sequence[str] | None = None) -> int:
    """Regenerate the modules; with ``--release`` also the image of the released interface."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", action="store_true", help="also renew released/v1.binpb")
    options = parser.parse_args(arguments)
    generate(_HERE / "v1")
    if options.release:
        (_HERE / "released").mkdir(exist_ok=True)
        release(_HERE / "released" / "v1.binpb")
    return 0


if __name__ == "__main__":
    sys.exit(main())
