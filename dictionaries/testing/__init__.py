"""Contracts of a dictionary and of a kind, as tests to subclass."""

from isogloss.dictionaries.testing.dictionary import DictionaryContract
from isogloss.dictionaries.testing.kind import KindContract

__all__ = ["DictionaryContract", "KindContract"]
