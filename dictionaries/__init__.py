"""Sparse dictionaries: kinds and wirings, training, checkpoints, files, evaluation."""

from typing import TYPE_CHECKING

from isogloss.errors import load_name

if TYPE_CHECKING:
    from isogloss.dictionaries.config import TrainConfig
    from isogloss.dictionaries.dictionary import Dictionary
    from isogloss.dictionaries.evaluation import Evaluation, evaluate
    from isogloss.dictionaries.initialise import initial_decoder
    from isogloss.dictionaries.kinds.kind import InitialWeights, Kind, Normalisation, StepBatch
    from isogloss.dictionaries.kinds.load import kind_schema, kind_summary
    from isogloss.dictionaries.kinds.table import DEFAULT_KIND, kind_names
    from isogloss.dictionaries.provenance import DictionaryProvenance, TrainedSite, TrainProgress
    from isogloss.dictionaries.rows.batches import held_out_batches, training_batches, training_rows
    from isogloss.dictionaries.rows.dataset import RowDataset, TensorBatch
    from isogloss.dictionaries.rows.source import Source
    from isogloss.dictionaries.saving import load_dictionary, load_provenance, save_dictionary
    from isogloss.dictionaries.sparse_dictionary import SparseDictionary
    from isogloss.dictionaries.training.checkpoints import remove_checkpoints
    from isogloss.dictionaries.training.plan import complete_config, least_bytes
    from isogloss.dictionaries.training.train import train
    from isogloss.dictionaries.wirings.load import check_sites
    from isogloss.dictionaries.wirings.table import DEFAULT_WIRING, wiring_names
    from isogloss.dictionaries.wirings.wiring import WiredColumns, Wiring

__all__ = [
    "DEFAULT_KIND",
    "DEFAULT_WIRING",
    "Dictionary",
    "DictionaryProvenance",
    "Evaluation",
    "InitialWeights",
    "Kind",
    "Normalisation",
    "RowDataset",
    "Source",
    "SparseDictionary",
    "StepBatch",
    "TensorBatch",
    "TrainConfig",
    "TrainProgress",
    "TrainedSite",
    "WiredColumns",
    "Wiring",
    "check_sites",
    "complete_config",
    "evaluate",
    "held_out_batches",
    "initial_decoder",
    "kind_names",
    "kind_schema",
    "kind_summary",
    "least_bytes",
    "load_dictionary",
    "load_provenance",
    "remove_checkpoints",
    "save_dictionary",
    "train",
    "training_batches",
    "training_rows",
    "wiring_names",
]

_HOMES = {
    "WiredColumns": "wirings.wiring",
    "DEFAULT_KIND": "kinds.table",
    "DEFAULT_WIRING": "wirings.table",
    "Dictionary": "dictionary",
    "DictionaryProvenance": "provenance",
    "Evaluation": "evaluation",
    "InitialWeights": "kinds.kind",
    "Kind": "kinds.kind",
    "Normalisation": "kinds.kind",
    "RowDataset": "rows.dataset",
    "Source": "rows.source",
    "SparseDictionary": "sparse_dictionary",
    "StepBatch": "kinds.kind",
    "TensorBatch": "rows.dataset",
    "TrainConfig": "config",
    "TrainProgress": "provenance",
    "TrainedSite": "provenance",
    "Wiring": "wirings.wiring",
    "check_sites": "wirings.load",
    "complete_config": "training.plan",
    "least_bytes": "training.plan",
    "evaluate": "evaluation",
    "held_out_batches": "rows.batches",
    "initial_decoder": "initialise",
    "kind_names": "kinds.table",
    "kind_schema": "kinds.load",
    "kind_summary": "kinds.load",
    "load_dictionary": "saving",
    "load_provenance": "saving",
    "remove_checkpoints": "training.checkpoints",
    "save_dictionary": "saving",
    "train": "training.train",
    "training_batches": "rows.batches",
    "training_rows": "rows.batches",
    "wiring_names": "wirings.table",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; public: {__all__}")
    return load_name(f"{__name__}.{home}", name)


def __dir__() -> list[str]:
    return sorted(__all__)
