"""Running modules so that hooks are seen."""

import subprocess
import sys
import textwrap
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from isogloss.models.execution import hooked_execution


def test_compiled_code_runs_eagerly_until_the_last_has_left():
    graphs: list[int] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        graphs.append(1)
        return graph.forward

    module = nn.Linear(3, 3)
    seen: list[int] = []
    compiled = torch.compile(module, backend=backend, fullgraph=True)
    ones = torch.ones(2, 3)
    compiled(ones)

    def sees(*args: object) -> None:
        seen.append(1)

    handle = module.register_forward_hook(sees)
    first, second = hooked_execution(module), hooked_execution(module)
    first.__enter__()
    second.__enter__()
    compiled(ones)
    first.__exit__(None, None, None)  # not in the order of a stack
    compiled(ones)
    second.__exit__(None, None, None)
    assert len(seen) == 2
    handle.remove()
    compiled(ones)
    assert (len(seen), len(graphs)) == (2, 1)  # the code compiled before is used again


def test_torchs_own_encoder_does_not_pack_texts_meanwhile():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2).eval()
    padding = torch.tensor([[False, False, True], [False, False, False]])
    shapes: list[bool] = []
    handle = encoder.layers[0].register_forward_hook(
        lambda module, args, output: shapes.append(cast("Tensor", output).is_nested)
    )
    was = torch.backends.mha.get_fastpath_enabled()
    with torch.no_grad(), hooked_execution(encoder):
        encoder(torch.ones(2, 3, 8), src_key_padding_mask=padding)
    handle.remove()
    assert shapes == [False]
    assert torch.backends.mha.get_fastpath_enabled() == was


def test_all_is_as_before_after_an_error():
    module = nn.MultiheadAttention(4, 1)
    was = torch.backends.mha.get_fastpath_enabled()
    seen: list[bool] = []

    def interrupted() -> None:
        with hooked_execution(module):
            seen.append(torch.backends.mha.get_fastpath_enabled())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert seen == [False]
    assert torch.backends.mha.get_fastpath_enabled() == was


def test_the_compiler_is_not_imported_where_nothing_is_compiled():
    code = """
        import sys, torch
        from torch import nn
        from isogloss.models import PassReader
        model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 3))
        with PassReader(model, ["1"], take=lambda rows: print(rows.rows), leave_out=print):
            model(torch.tensor([[1, 2, 3, 4, 5]]))
        print("torch._dynamo" in sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["5", "False"]
