"""Sparse dictionaries: kinds and wirings, training, checkpoints, files, evaluation."""

from typing import TYPE_CHECKING

from isogloss.errors import load_name

if TYPE_CHECKING:
    from isogloss.dictionaries.chosen import kind_of, wiring_of
    from isogloss.dictionaries.config import Init, LeaveOut, TrainConfig
    from isogloss.dictionaries.dictionary import Dictionary
    from isogloss.dictionaries.effects.after_firing import SteeredFeature, steered_followers
    from isogloss.dictionaries.effects.feature_circuit import FeatureCircuit, feature_circuit
    from isogloss.dictionaries.effects.firings import Firings, find_firings
    from isogloss.dictionaries.effects.interventions import (
        CHANGES,
        FeatureEffect,
        check_change,
        feature_effect,
    )
    from isogloss.dictionaries.effects.recovered import LossRecovered, loss_recovered
    from isogloss.dictionaries.effects.repeats import RepeatFeature, repeat_features
    from isogloss.dictionaries.effects.shifts import check_features
    from isogloss.dictionaries.effects.token_lists import (
        MOST_TOKENS,
        TOKEN_EFFECTS_FILE,
        TokenEffect,
        TokenEffects,
        check_token_effects,
        read_token_effects,
        write_token_effects,
    )
    from isogloss.dictionaries.effects.tokens import token_effects
    from isogloss.dictionaries.evaluation import Evaluation, evaluate
    from isogloss.dictionaries.experiments.frontier import (
        Cell,
        CellKey,
        Reseeding,
        SweptDictionary,
        cells_of,
        reseeding_of,
        verdicts,
    )
    from isogloss.dictionaries.experiments.recovery import Recovery, score_recovery
    from isogloss.dictionaries.experiments.scaling import (
        Interval,
        ScalingLaw,
        fit_scaling,
    )
    from isogloss.dictionaries.experiments.superposition import PLANTED, PlantedBlock, Superposition
    from isogloss.dictionaries.experiments.trials import (
        Trial,
        record_superposition,
        run_trials,
        trial_kinds,
    )
    from isogloss.dictionaries.initialise import initial_decoder, tensor_hash
    from isogloss.dictionaries.kinds.kind import InitialWeights, Kind, Normalisation, StepBatch
    from isogloss.dictionaries.kinds.load import kind_schema, kind_summary
    from isogloss.dictionaries.kinds.table import DEFAULT_KIND, kind_names
    from isogloss.dictionaries.live.arriving import ArrivingWeights
    from isogloss.dictionaries.live.module import DictionaryModule
    from isogloss.dictionaries.live.shaped_codes import ShapedCodes
    from isogloss.dictionaries.maps import LinearMap, fit_map
    from isogloss.dictionaries.passport.checks import (
        check_begin,
        check_live_site,
        check_model,
        check_recording,
        check_rows,
        check_site,
        check_weights,
    )
    from isogloss.dictionaries.passport.making import make_passport
    from isogloss.dictionaries.passport.passport import Passport, read_passport, write_passport
    from isogloss.dictionaries.passport.result import PassportResult
    from isogloss.dictionaries.provenance import DictionaryProvenance, TrainedSite, TrainProgress
    from isogloss.dictionaries.rotate import rotated
    from isogloss.dictionaries.rows.batches import (
        HeldOutPair,
        held_out_batches,
        held_out_pairs,
        training_batches,
        training_rows,
    )
    from isogloss.dictionaries.rows.dataset import RowDataset, TensorBatch
    from isogloss.dictionaries.rows.joined import SourceRows, join_rows
    from isogloss.dictionaries.rows.source import Source
    from isogloss.dictionaries.saved_weights import SavedTensor, SavedWeights
    from isogloss.dictionaries.saving import load_dictionary, load_provenance, save_dictionary
    from isogloss.dictionaries.screened import ScreenedDictionary
    from isogloss.dictionaries.sparse_dictionary import SparseDictionary
    from isogloss.dictionaries.training.checkpoints import remove_checkpoints
    from isogloss.dictionaries.training.controls import CONTROLS, with_controls
    from isogloss.dictionaries.training.plan import complete_config, default_seed, least_bytes
    from isogloss.dictionaries.training.ranks import leave_ranks
    from isogloss.dictionaries.training.train import train, train_together
    from isogloss.dictionaries.wirings.crosscoder import feature_owners
    from isogloss.dictionaries.wirings.load import check_sites
    from isogloss.dictionaries.wirings.table import DEFAULT_WIRING, wiring_names
    from isogloss.dictionaries.wirings.wiring import WiredColumns, Wiring, site_columns

__all__ = [
    "CHANGES",
    "CONTROLS",
    "DEFAULT_KIND",
    "DEFAULT_WIRING",
    "MOST_TOKENS",
    "PLANTED",
    "TOKEN_EFFECTS_FILE",
    "ArrivingWeights",
    "Cell",
    "CellKey",
    "Dictionary",
    "DictionaryModule",
    "DictionaryProvenance",
    "Evaluation",
    "FeatureCircuit",
    "FeatureEffect",
    "Firings",
    "HeldOutPair",
    "Init",
    "InitialWeights",
    "Interval",
    "Kind",
    "LeaveOut",
    "LinearMap",
    "LossRecovered",
    "Normalisation",
    "Passport",
    "PassportResult",
    "PlantedBlock",
    "Recovery",
    "RepeatFeature",
    "Reseeding",
    "RowDataset",
    "SavedTensor",
    "SavedWeights",
    "ScalingLaw",
    "ScreenedDictionary",
    "ShapedCodes",
    "Source",
    "SourceRows",
    "SparseDictionary",
    "SteeredFeature",
    "StepBatch",
    "Superposition",
    "SweptDictionary",
    "TensorBatch",
    "TokenEffect",
    "TokenEffects",
    "TrainConfig",
    "TrainProgress",
    "TrainedSite",
    "Trial",
    "WiredColumns",
    "Wiring",
    "cells_of",
    "check_begin",
    "check_change",
    "check_features",
    "check_live_site",
    "check_model",
    "check_recording",
    "check_rows",
    "check_site",
    "check_sites",
    "check_token_effects",
    "check_weights",
    "complete_config",
    "default_seed",
    "evaluate",
    "feature_circuit",
    "feature_effect",
    "feature_owners",
    "find_firings",
    "fit_map",
    "fit_scaling",
    "held_out_batches",
    "held_out_pairs",
    "initial_decoder",
    "join_rows",
    "kind_names",
    "kind_of",
    "kind_schema",
    "kind_summary",
    "least_bytes",
    "leave_ranks",
    "load_dictionary",
    "load_provenance",
    "loss_recovered",
    "make_passport",
    "read_passport",
    "read_token_effects",
    "record_superposition",
    "remove_checkpoints",
    "repeat_features",
    "reseeding_of",
    "rotated",
    "run_trials",
    "save_dictionary",
    "score_recovery",
    "site_columns",
    "steered_followers",
    "tensor_hash",
    "token_effects",
    "train",
    "train_together",
    "training_batches",
    "training_rows",
    "trial_kinds",
    "verdicts",
    "wiring_names",
    "wiring_of",
    "with_controls",
    "write_passport",
    "write_token_effects",
]

_HOMES = {
    "repeat_features": "effects.repeats",
    "RepeatFeature": "effects.repeats",
    "FeatureCircuit": "effects.feature_circuit",
    "feature_circuit": "effects.feature_circuit",
    "SteeredFeature": "effects.after_firing",
    "steered_followers": "effects.after_firing",
    "Firings": "effects.firings",
    "find_firings": "effects.firings",
    "CHANGES": "effects.interventions",
    "check_change": "effects.interventions",
    "FeatureEffect": "effects.interventions",
    "feature_effect": "effects.interventions",
    "LossRecovered": "effects.recovered",
    "loss_recovered": "effects.recovered",
    "MOST_TOKENS": "effects.token_lists",
    "TOKEN_EFFECTS_FILE": "effects.token_lists",
    "TokenEffect": "effects.token_lists",
    "TokenEffects": "effects.token_lists",
    "read_token_effects": "effects.token_lists",
    "check_token_effects": "effects.token_lists",
    "check_features": "effects.shifts",
    "token_effects": "effects.tokens",
    "write_token_effects": "effects.token_lists",
    "SavedTensor": "saved_weights",
    "SavedWeights": "saved_weights",
    "kind_of": "chosen",
    "ArrivingWeights": "live.arriving",
    "Passport": "passport.passport",
    "PassportResult": "passport.result",
    "check_begin": "passport.checks",
    "check_live_site": "passport.checks",
    "check_model": "passport.checks",
    "check_recording": "passport.checks",
    "check_rows": "passport.checks",
    "check_site": "passport.checks",
    "check_weights": "passport.checks",
    "make_passport": "passport.making",
    "read_passport": "passport.passport",
    "write_passport": "passport.passport",
    "LinearMap": "maps",
    "fit_map": "maps",
    "Cell": "experiments.frontier",
    "CellKey": "experiments.frontier",
    "Interval": "experiments.scaling",
    "Reseeding": "experiments.frontier",
    "ScalingLaw": "experiments.scaling",
    "SweptDictionary": "experiments.frontier",
    "cells_of": "experiments.frontier",
    "fit_scaling": "experiments.scaling",
    "reseeding_of": "experiments.frontier",
    "verdicts": "experiments.frontier",
    "PLANTED": "experiments.superposition",
    "PlantedBlock": "experiments.superposition",
    "Recovery": "experiments.recovery",
    "Superposition": "experiments.superposition",
    "trial_kinds": "experiments.trials",
    "Trial": "experiments.trials",
    "record_superposition": "experiments.trials",
    "run_trials": "experiments.trials",
    "score_recovery": "experiments.recovery",
    "site_columns": "wirings.wiring",
    "wiring_of": "chosen",
    "join_rows": "rows.joined",
    "held_out_pairs": "rows.batches",
    "feature_owners": "wirings.crosscoder",
    "default_seed": "training.plan",
    "LeaveOut": "config",
    "Init": "config",
    "SourceRows": "rows.joined",
    "HeldOutPair": "rows.batches",
    "WiredColumns": "wirings.wiring",
    "DEFAULT_KIND": "kinds.table",
    "DEFAULT_WIRING": "wirings.table",
    "Dictionary": "dictionary",
    "DictionaryModule": "live.module",
    "ScreenedDictionary": "screened",
    "ShapedCodes": "live.shaped_codes",
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
    "leave_ranks": "training.ranks",
    "evaluate": "evaluation",
    "held_out_batches": "rows.batches",
    "initial_decoder": "initialise",
    "tensor_hash": "initialise",
    "kind_names": "kinds.table",
    "kind_schema": "kinds.load",
    "kind_summary": "kinds.load",
    "load_dictionary": "saving",
    "load_provenance": "saving",
    "remove_checkpoints": "training.checkpoints",
    "rotated": "rotate",
    "save_dictionary": "saving",
    "train": "training.train",
    "train_together": "training.train",
    "CONTROLS": "training.controls",
    "with_controls": "training.controls",
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
