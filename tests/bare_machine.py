"""Run a script or a module as a machine would that has little installed.

``python bare_machine.py FILE_OR_MODULE [ARGUMENTS]``: of what is installed only the packages of
such a machine, and what they need, can be found. Everything else is missing, as ``find_spec`` and
``import`` see it, and so are the plugins of pytest that come with it.
"""

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

PRESENT = {
    *("torch", "torchgen", "functorch", "triton", "numba", "llvmlite", "numpy", "safetensors"),
    *(
        "hypothesis",
        "_hypothesis_pytestplugin",
        "_hypothesis_globals",
        "_hypothesis_ftz_detector",
        "sortedcontainers",
        "attr",
        "attrs",
    ),
    *("jaxtyping", "wadler_lindig", "pytest", "_pytest", "py", "pluggy", "iniconfig", "packaging"),
    *("pygments", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "filelock", "fsspec"),
    *("typing_extensions", "setuptools", "nvidia", "cuda", "yaml", "six"),
}
"""Top-level names of the packages that such a machine has."""


class Bare(PathFinder):
    """Finds the standard library, the checkout and what is present."""

    @classmethod
    def find_spec(
        cls,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path, target)
        name = fullname.partition(".")[0]
        if name in PRESENT or found is None:
            return found
        places = [found.origin or "", *(found.submodule_search_locations or [])]
        return None if any("site-packages" in str(place) for place in places) else found


if __name__ == "__main__":
    Bare.__name__ = PathFinder.__name__  # jaxtyping looks for it
    sys.meta_path[:] = [Bare if each is PathFinder else each for each in sys.meta_path]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    sys.argv = sys.argv[1:]
    if Path(sys.argv[0]).is_file():
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
