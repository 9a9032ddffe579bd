"""Contracts to subclass in tests: what every dictionary, and what every kind, must do."""

from isogloss.dictionaries.testing.dictionary import DictionaryContract
from isogloss.dictionaries.testing.kind import KindContract

__all__ = ["DictionaryContract", "KindContract"]
