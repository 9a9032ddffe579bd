"""The room gives its names when asked, and loads nothing heavy before."""

import subprocess
import sys


def test_the_room_imports_neither_faiss_nor_torch_until_asked() -> None:
    code = (
        "import sys, isogloss.universality as room; "
        "heavy = {'faiss', 'torch', 'scipy', 'zarr'}; "
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); "
        "room.Atlas; assert 'faiss' in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_public_names_are_never_the_files_they_live_in() -> None:
    code = (
        "import isogloss.universality.atlas.signatures, isogloss.universality.atlas.nearest; "
        "import isogloss.universality as room; "
        "assert callable(room.signatures) and callable(room.nearest); "
        "from isogloss.universality import nearest; assert callable(nearest); "
        "from isogloss.universality.atlas.neighbour import Neighbour as Origin; "
        "assert Origin is room.Neighbour"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
