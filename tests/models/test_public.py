"""The room's public surface."""

import subprocess
import sys

import pytest

import isogloss.models as room


def test_every_public_name_exists_and_nothing_else_is_listed():
    assert sorted(room.__all__) == dir(room)
    for name in room.__all__:
        assert getattr(room, name) is not None
    assert set(room._HOMES) == set(room.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'latent'"):
        room.latent  # noqa: B018 - the access is the test


def test_importing_the_room_and_its_texts_loads_nothing_heavy():
    code = (
        "import sys; from isogloss.models import passages, standard_library_texts;"
        "print(sorted({'torch', 'transformers', 'tokenizers', 'numpy'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
