"""The one place that calls transformers: safetensors only, no remote code, no warnings."""

import inspect
from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from torch import nn

from isogloss.errors import CorruptData, InvalidInput, IsoglossError, MissingExtra, NotFound
from isogloss.models.tokens import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def read_model(source: str) -> tuple[nn.Module, str]:
    """Load the base model of a hub id or directory; return it with the hub's commit, else ``""``.

    Raises:
        MissingExtra, NotFound, InvalidInput, CorruptData: see :func:`isogloss.models.load_model`.
    """
    with _quiet_transformers(), _our_errors(source):
        from transformers import AutoConfig, AutoModel

        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        options = {"add_pooling_layer": False} if _has_pooler(config) else {}
        module, report = AutoModel.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
        _check_complete(source, report)
        model = cast("PreTrainedModel", module)
        commit = getattr(config, "_commit_hash", None) or ""
        whole = cast("nn.Module", model)
        if getattr(config, "is_encoder_decoder", False):
            whole = cast("nn.Module", model.get_encoder())
        return whole.eval(), commit


def read_tokenizer(source: str) -> Tokenizer:
    """Load the tokenizer of a hub id or directory, fast where there is one.

    Raises:
        MissingExtra, NotFound, InvalidInput, CorruptData: see :func:`isogloss.models.load_model`.
    """
    with _quiet_transformers(), _our_errors(source):
        from transformers import AutoTokenizer

        return cast("Tokenizer", AutoTokenizer.from_pretrained(source, trust_remote_code=False))


def _has_pooler(config: "PreTrainedConfig") -> bool:
    """Say whether the base model has a pooler that can be left out.

    It gives one row per document, no site; and checkpoints without it would have it initialised.
    """
    from transformers import MODEL_MAPPING

    kind = cast("object", MODEL_MAPPING.get(type(config), None))
    return isinstance(kind, type) and "add_pooling_layer" in inspect.signature(kind).parameters


def _check_complete(source: str, report: dict[str, Collection[str]]) -> None:
    missing = sorted(report["missing_keys"])
    if missing:
        raise CorruptData(
            f"{source} lacks {len(missing)} weights that the model needs "
            f"({', '.join(missing[:3])}, "
            "...); they would be random: get the complete files"
        )


@contextmanager
def _our_errors(source: str) -> Generator[None]:
    try:
        yield
    except IsoglossError:
        raise
    except ImportError as error:
        raise MissingExtra(
            f"{source} needs a package that is not installed: {error}; pip install it"
        ) from error
    except SafetensorError as error:
        raise CorruptData(f"the weights of {source} are damaged: {error}") from error
    except OSError as error:
        raise NotFound(
            f"no model {source!r} could be read (directory, hub id, connection?): {error}"
        ) from error
    except (ValueError, RuntimeError, KeyError) as error:
        wants_code = "trust_remote_code" in str(error)
        remedy = (
            "it wants to run code of its own, which is never done; load it yourself and pass the "
            "module"
            if wants_code
            else "check its config.json and files"
        )
        raise InvalidInput(f"{source} cannot be loaded ({remedy}): {error}") from error


@contextmanager
def _quiet_transformers() -> Generator[None]:
    """Hold back transformers' load reports and progress bars; what matters becomes an error."""
    try:
        from transformers.utils import logging
    except ImportError as error:
        raise MissingExtra("transformers is missing: pip install 'isogloss[models]'") from error
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
