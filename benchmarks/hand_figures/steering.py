"""[steer_exact]: a splice beside a hook by hand, on four libraries, generation included.

Each library runs in a process of its own, three of them in environments of their own: those of
``make test-peers``, or in the directory that ``ISOGLOSS_PEERS`` names. The hook is set as people
set one there: a forward hook, ``hooks`` of TransformerLens, an assignment in a trace of nnsight. It
encodes with the same dictionary and does the rest by itself.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

import torch
from house_figures.figure import Figure
from torch import Tensor, nn

from hand_figures.planted import random_dictionary
from isogloss.dictionaries import DictionaryModule

WIDTH, KINDS = 32, ("topk", "batch_topk", "jumprelu", "relu_l1")
IDS = torch.tensor([[1, 7, 9, 30], [1, 4, 2, 8]])
EDITS: Mapping[int, float] = {3: 4.0, 5: 0.0, 17: -2.0}
"""What features are set to, in the order in which a splice adds them up; 0: ablated."""
NEW_TOKENS = 6
LIBRARIES = ("huggingface", "transformer-lens-3", "transformer-lens-4", "nnsight")

Runs = Iterator[tuple[str, bool]]
"""What was compared, and whether it was equal to the bit."""


def edited(module: DictionaryModule, x: Tensor) -> Tensor:
    """Return activations whose features are set, as a hook by hand computes them."""
    features = torch.tensor(list(EDITS))
    wanted = torch.tensor(list(EDITS.values()))
    delta = (wanted - module.dense(x.float())[..., features]) @ module.get_parameter("decoder")[
        features
    ]
    return (x.float() + delta).to(x.dtype)


def _compare(
    module: DictionaryModule,
    model: object,
    site: str,
    by_hand: Mapping[str, Callable[[], Tensor]],
    plain: Mapping[str, Callable[[], Tensor]],
) -> Runs:
    ablate = [feature for feature, value in EDITS.items() if value == 0]
    steer = {feature: value for feature, value in EDITS.items() if value != 0}
    for what, run in plain.items():
        before, wanted = run(), by_hand[what]()
        with module.spliced(model, site, steer=steer, ablate=ablate):
            found = run()
        yield f"{what} equal", torch.equal(found, wanted)
        yield f"{what} as before afterwards", torch.equal(run(), before)
        if found.is_floating_point():
            yield f"{what} changed", not torch.equal(found, before)


def _gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=64, n_embd=WIDTH, n_layer=2, n_head=4, n_positions=32,
        bos_token_id=1, eos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def _huggingface(module: DictionaryModule) -> Runs:
    model, site = _gpt2(), "transformer.h.0"

    def hook(layer: nn.Module, args: object, output: object) -> object:
        del layer, args
        if isinstance(output, Tensor):
            return edited(module, output)
        first, *rest = cast("tuple[Tensor, ...]", output)
        return (edited(module, first), *rest)

    def hooked(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def ran() -> Tensor:
            handle = model.get_submodule(site).register_forward_hook(hook)
            try:
                return run()
            finally:
                handle.remove()

        return ran

    generate = cast("Callable[..., Tensor]", getattr(model, "generate"))  # noqa: B009
    plain: dict[str, Callable[[], Tensor]] = {
        "logits": lambda: model(IDS).logits,
        "tokens": lambda: generate(IDS, max_new_tokens=NEW_TOKENS, do_sample=False),
    }
    return _compare(module, model, site, {w: hooked(run) for w, run in plain.items()}, plain)


def _lens(module: DictionaryModule, model: nn.Module, site: str) -> Runs:
    lens = cast("object", model)
    hooks = cast("Callable[..., object]", getattr(lens, "hooks"))  # noqa: B009
    generate = cast("Callable[..., Tensor]", getattr(lens, "generate"))  # noqa: B009

    def hook(x: Tensor, hook: object) -> Tensor:
        del hook
        return edited(module, x)

    def hooked(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def ran() -> Tensor:
            from contextlib import AbstractContextManager

            block = hooks(fwd_hooks=[(site, hook)])
            with cast("AbstractContextManager[object]", block):
                return run()

        return ran

    plain: dict[str, Callable[[], Tensor]] = {
        "logits": lambda: model(IDS),
        "tokens": lambda: generate(
            IDS, max_new_tokens=NEW_TOKENS, do_sample=False, verbose=False, stop_at_eos=False
        ),
    }
    return _compare(module, model, site, {w: hooked(run) for w, run in plain.items()}, plain)


def _transformer_lens_3(module: DictionaryModule) -> Runs:
    from transformer_lens import (  # pyright: ignore[reportMissingImports] - make test-peers
        HookedTransformer,
        HookedTransformerConfig,
    )

    config = HookedTransformerConfig(
        n_layers=2, d_model=WIDTH, n_ctx=64, d_head=8, n_heads=4, d_mlp=64, d_vocab=64,
        act_fn="gelu", seed=0,
    )  # fmt: skip
    return _lens(module, HookedTransformer(config).eval(), "blocks.0.hook_resid_post")


def _transformer_lens_4(module: DictionaryModule) -> Runs:
    from transformer_lens.config import (  # pyright: ignore[reportMissingImports] - make test-peers
        TransformerBridgeConfig,
    )
    from transformer_lens.model_bridge import (  # pyright: ignore[reportMissingImports] - the same
        TransformerBridge,
    )

    config = TransformerBridgeConfig(
        n_layers=2, d_model=WIDTH, n_ctx=64, d_head=8, n_heads=4, d_mlp=64, d_vocab=64,
        act_fn="gelu", seed=0,
    )  # fmt: skip
    return _lens(module, TransformerBridge.boot_native(config).eval(), "blocks.0.hook_out")


def _nnsight(module: DictionaryModule) -> Runs:
    from nnsight import NNsight  # pyright: ignore[reportMissingImports] - make test-peers

    model = _gpt2()
    wrapped = NNsight(model)

    def plain() -> Tensor:
        with wrapped.trace(IDS):
            logits = wrapped.lm_head.output.save()
        return cast("Tensor", logits)

    def by_hand() -> Tensor:
        with wrapped.trace(IDS):
            found = wrapped.transformer.h[0].output
            if isinstance(found, tuple):
                wrapped.transformer.h[0].output = (edited(module, found[0]), *found[1:])
            else:
                wrapped.transformer.h[0].output = edited(module, found)
            logits = wrapped.lm_head.output.save()
        return cast("Tensor", logits)

    yield from _compare(module, wrapped, "transformer.h.0", {"logits": by_hand}, {"logits": plain})
    yield from _huggingface(module)  # its generation is that of the module inside


WAYS: Mapping[str, Callable[[DictionaryModule], Runs]] = {
    "huggingface": _huggingface,
    "transformer-lens-3": _transformer_lens_3,
    "transformer-lens-4": _transformer_lens_4,
    "nnsight": _nnsight,
}


def main(library: str) -> None:
    """Compare on one library, and say so as JSON."""
    found: dict[str, bool] = {}
    with torch.no_grad():
        for kind in KINDS:
            module = DictionaryModule(random_dictionary(kind, 2 * WIDTH, WIDTH, 1))
            found |= {f"{kind}: {what}": is_so for what, is_so in WAYS[library](module)}
    print(json.dumps(found))


def steer_exact(libraries: Sequence[str] = LIBRARIES) -> Figure:
    """Count the comparisons of all libraries that are not equal."""
    wrong: dict[str, object] = {}
    compared: dict[str, int] = {}
    for library in libraries:
        python = _python(library)
        if python is None:
            wrong[library] = "not installed: make test-peers, or ISOGLOSS_PEERS"
            continue
        done = subprocess.run(
            [str(python), "-m", "hand_figures.steering", library],
            capture_output=True, text=True, check=False, env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )  # fmt: skip
        if done.returncode:
            wrong[library] = done.stderr[-500:]
            continue
        said = cast("dict[str, bool]", json.loads(done.stdout.splitlines()[-1]))
        compared[library] = len(said)
        if unequal := [what for what, is_so in said.items() if not is_so]:
            wrong[library] = unequal
    missing = [one for one in libraries if one not in compared]
    unequal_count = sum(len(found) for found in wrong.values() if isinstance(found, list))
    return Figure(
        figure="steer_exact",
        value=None if missing else unequal_count,
        bar=0,
        unit="comparisons that are not equal to the bit",
        peers={"compared": compared, "wrong": wrong},
        runs=sum(compared.values()) or 1,
    )


def _python(library: str) -> Path | None:
    """Return the Python that has a library; None where there is none."""
    if library == "huggingface":
        return Path(sys.executable)
    root = Path(__file__).resolve().parents[2]
    peers = Path(os.environ.get("ISOGLOSS_PEERS", root / ".venv" / "peers"))
    found = peers / library / "bin" / "python"
    return found if found.exists() else None


if __name__ == "__main__":
    main(sys.argv[1])
