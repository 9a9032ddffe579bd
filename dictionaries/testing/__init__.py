"""Contracts of a dictionary, of a kind and of a kind with every wiring, as tests to subclass."""

from isogloss.dictionaries.testing.dictionary import DictionaryContract
from isogloss.dictionaries.testing.kind import KindContract
from isogloss.dictionaries.testing.wired import WiredContract

__all__ = ["DictionaryContract", "KindContract", "WiredContract"]
