"""Sparse dictionaries: architectures, losses, training, checkpoints, evaluation."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from isogloss.dictionaries.autoencoder import SparseAutoencoder
    from isogloss.dictionaries.checkpoints import remove_checkpoints
    from isogloss.dictionaries.config import TrainConfig
    from isogloss.dictionaries.dictionary import Dictionary
    from isogloss.dictionaries.evaluation import Evaluation, evaluate
    from isogloss.dictionaries.initialise import initial_decoder
    from isogloss.dictionaries.loader import held_out_batches, training_batches, training_rows
    from isogloss.dictionaries.provenance import DictionaryProvenance, TrainProgress
    from isogloss.dictionaries.saving import load_dictionary, load_provenance, save_dictionary
    from isogloss.dictionaries.training import train

__all__ = [
    "Dictionary",
    "DictionaryProvenance",
    "Evaluation",
    "SparseAutoencoder",
    "TrainConfig",
    "TrainProgress",
    "evaluate",
    "held_out_batches",
    "initial_decoder",
    "load_dictionary",
    "load_provenance",
    "remove_checkpoints",
    "save_dictionary",
    "train",
    "training_batches",
    "training_rows",
]

_HOMES = {
    "Dictionary": "dictionary",
    "DictionaryProvenance": "provenance",
    "Evaluation": "evaluation",
    "SparseAutoencoder": "autoencoder",
    "TrainConfig": "config",
    "TrainProgress": "provenance",
    "evaluate": "evaluation",
    "held_out_batches": "loader",
    "initial_decoder": "initialise",
    "load_dictionary": "saving",
    "load_provenance": "saving",
    "remove_checkpoints": "checkpoints",
    "save_dictionary": "saving",
    "train": "training",
    "training_batches": "loader",
    "training_rows": "loader",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public: {__all__}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
