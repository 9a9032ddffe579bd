"""The one place that calls transformers: no pickles, no remote code, no warnings."""

import inspect
import re
import struct
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, cast

import torch
from safetensors import SafetensorError
from torch import nn

from isogloss.errors import CorruptData, InvalidInput, IsoglossError, MissingExtra, NotFound
from isogloss.models.tokens import Tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def read_model(source: str, *, causal: bool = False) -> tuple[nn.Module, str]:
    """Load the base model of a hub id or directory; return it with the hub's commit, else ``""``.

    Args:
        source: hub id or directory.
        causal: whether to load the whole causal language model, which gives logits.

    Raises:
        MissingExtra, NotFound, InvalidInput, CorruptData: see :func:`isogloss.models.load_model`.
    """
    with _quiet_transformers() as transformers, _our_errors(source):
        commit = "" if Path(source).is_dir() else _commit(transformers, source)
        at = {"revision": commit} if commit else {}
        config = transformers.AutoConfig.from_pretrained(source, trust_remote_code=False, **at)
        table = transformers.MODEL_FOR_CAUSAL_LM_MAPPING if causal else transformers.MODEL_MAPPING
        kind = cast("object", table.get(type(config), None))
        if causal:
            _check_causal(source, config, kind, transformers)
        loader = transformers.AutoModelForCausalLM if causal else transformers.AutoModel
        options = {"add_pooling_layer": False} if _has_pooler(kind) else {}
        module, report = loader.from_pretrained(
            source,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **at,
            **options,
        )
        _check_complete(source, report)
        model = cast("PreTrainedModel", module)
        whole = cast("nn.Module", model)
        if getattr(config, "is_encoder_decoder", False) and not causal:
            whole = cast("nn.Module", model.get_encoder())
        return whole.eval(), commit


def _commit(transformers: ModuleType, source: str) -> str:
    """Return the commit of a hub id as the path of its cached files tells it; else ``""``."""
    where = Path(transformers.utils.cached_file(source, "config.json")).as_posix()
    found = re.search(r"/snapshots/([0-9a-f]{40})/", where)
    return "" if found is None else found[1]


def read_tokenizer(source: str) -> Tokenizer:
    """Load the tokenizer of a hub id or directory, fast where there is one.

    Raises:
        MissingExtra, NotFound, InvalidInput, CorruptData: see :func:`isogloss.models.load_model`.
    """
    with _quiet_transformers() as transformers, _our_errors(source):
        found = transformers.AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        return cast("Tokenizer", found)


def write_gguf_as_safetensors(source: Path, folder: Path) -> None:
    """Write a GGUF file as a directory that :func:`read_model` takes: config, weights, tokenizer.

    Quantised weights become the float32 numbers that they stand for. Nothing in the directory says
    that they were quantised: transformers would ask for the GGUF file again.

    Args:
        source: a ``.gguf`` file of a causal model.
        folder: an empty directory.

    Raises:
        MissingExtra, NotFound, InvalidInput, CorruptData: see :func:`isogloss.models.load_model`.
    """
    with _quiet_transformers() as transformers, _our_errors(str(source)):
        _check_gguf(source)
        where = {"gguf_file": source.name, "trust_remote_code": False}
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(source.parent), **where)
        module, report = transformers.AutoModelForCausalLM.from_pretrained(
            str(source.parent), dtype=torch.float32, output_loading_info=True, **where
        )
        _check_complete(str(source), report)
        model = cast("PreTrainedModel", module)
        for owner, name in ((model, "hf_quantizer"), (model.config, "quantization_config")):
            if hasattr(owner, name):
                delattr(owner, name)
        model.save_pretrained(str(folder))
        tokenizer.save_pretrained(str(folder))


def _check_gguf(source: Path) -> None:
    lacking = [name for name in ("accelerate", "gguf") if find_spec(name) is None]
    if lacking:
        raise MissingExtra(
            f"{source} is a GGUF file, which needs {' and '.join(lacking)}: "
            "pip install 'isogloss[gguf]'"
        )
    with source.open("rb") as file:
        magic = file.read(4)
    if magic != b"GGUF":
        raise CorruptData(f"{source} begins with {magic!r}, wanted b'GGUF': get the file again")


def _has_pooler(kind: object) -> bool:
    """Say whether a base model has a pooler that can be left out.

    It gives one row per document, no site; and checkpoints without it would have it initialised.
    """
    return isinstance(kind, type) and "add_pooling_layer" in inspect.signature(kind).parameters


def _check_causal(source: str, config: object, kind: object, transformers: ModuleType) -> None:
    """Refuse what gives no next token: an encoder, though its family can be made a decoder.

    Raises:
        InvalidInput: the checkpoint is of no causal language model.
    """
    named: Sequence[str] = getattr(config, "architectures", None) or ()
    family = type(config) in transformers.MODEL_FOR_MASKED_LM_MAPPING
    is_decoder = bool(getattr(config, "is_decoder", False))
    if kind is None or (family and not is_decoder and getattr(kind, "__name__", "") not in named):
        raise InvalidInput(
            f"{source} holds {', '.join(named) or type(config).__name__}, which is no causal "
            "language model and has no next token: name one that is, such as packaged:smollm2-135m"
        )


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
    except (struct.error, IndexError, EOFError, OverflowError) as error:  # of a GGUF file
        raise CorruptData(f"{source} is damaged ({error}): get the file again") from error
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
def _quiet_transformers() -> Generator[ModuleType]:
    """Give transformers, without load reports and progress bars: what matters becomes an error."""
    try:
        transformers = import_module("transformers")
        logging = transformers.logging
    except ImportError as error:
        raise MissingExtra("transformers is missing: pip install 'isogloss[models]'") from error
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield transformers
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
