"""``help()`` of every public dataclass says what each of its fields is."""

import copy
import dataclasses
import importlib
import inspect
import pickle
import pydoc
import subprocess
import sys

import pytest

from isogloss.field_docs import field_docs, show_fields
from isogloss.service import DocumentOptions, FeatureRef
from isogloss.universality import MatchSettings

ROOMS = ("kernels", "store", "models", "dictionaries", "universality", "service")


def plain(text: str) -> str:
    return " ".join(pydoc.plain(text).replace("|", " ").split())


@pytest.mark.parametrize("room", ROOMS)
def test_help_of_a_public_dataclass_shows_what_each_field_is(room: str) -> None:
    module = importlib.import_module(f"isogloss.{room}")
    silent: list[str] = []
    for name in module.__all__:
        public = getattr(module, name)
        if not (inspect.isclass(public) and dataclasses.is_dataclass(public)):
            continue
        shown = plain(pydoc.render_doc(public))
        texts = field_docs(public)
        for field in dataclasses.fields(public):
            text = texts.get(field.name)
            if not text or plain(text) not in shown:
                silent.append(f"isogloss.{room}.{name}.{field.name}")
    assert not silent, "help() says nothing of these fields: write a docstring under each"


def test_help_of_an_option_is_the_docstring_under_it() -> None:
    shown = plain(pydoc.render_doc(DocumentOptions))
    assert "Training step of the model's weights; 0 outside training." in shown
    assert inspect.getdoc(DocumentOptions.step) is not None
    assert "Firings on the choose half" in (MatchSettings.__doc__ or "")


def test_a_class_whose_fields_are_shown_is_as_before() -> None:
    ref = FeatureRef(dictionary="a", feature=3)
    assert list(FeatureRef.__slots__) == ["dictionary", "feature"]
    assert copy.deepcopy(ref) == pickle.loads(pickle.dumps(ref)) == ref
    assert dataclasses.replace(ref, feature=4).feature == 4

    @dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
    class More(FeatureRef):
        """A subclass has slots of its own only."""

        more: int = 0

    assert More.__slots__ == ("more",)
    assert not hasattr(More(dictionary="a", feature=1), "__dict__")


def test_what_is_no_dataclass_stays_as_it_is() -> None:
    before = dict(vars(int))
    for public in (int, len, 3, "x"):
        show_fields(public)
    assert dict(vars(int)) == before


def test_looking_a_class_up_reads_no_source() -> None:
    code = (
        "import linecache, isogloss.store as s; s.RowBatch, s.Document; "
        "print([f for f in linecache.cache if 'isogloss' in f])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
