"""A BERT encoder's weights out of an ONNX export, whose matrices have lost their names."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from isogloss.errors import CorruptData, MissingExtra

if TYPE_CHECKING:
    from onnx import GraphProto

_PREFIX = "model.0.auto_model."
_NODE_PREFIX = "/model/model.0/auto_model/"
_MATRICES_PER_LAYER = 6  # query, key, value, attention output, intermediate, output


def write_bert_from_onnx(source: Path, folder: Path, *, heads: int) -> None:
    """Write ``config.json`` and ``model.safetensors`` of a BERT that was exported to ONNX.

    Biases, norms and embeddings keep their names in a sentence-transformers export; the constants
    of matrix products do not. Each product's node is named after its submodule, and its constant is
    the transposed weight.

    Args:
        source: the ONNX file.
        folder: where the two files go.
        heads: attention heads, which the weights do not tell.

    Raises:
        MissingExtra: onnx is not installed.
        CorruptData: the graph is not such an export.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtra("onnx is missing: pip install onnx (or 'isogloss[demo]')") from error
    weights = _weights(onnx.load(str(source)).graph)
    layers = len({name.split(".")[2] for name in weights if name.startswith("encoder.layer.")})
    matrices = [name for name in weights if name.startswith("encoder.") and weights[name].ndim == 2]
    if not layers or len(matrices) != layers * _MATRICES_PER_LAYER:
        raise CorruptData(
            f"{source} holds {layers} layers and {len(matrices)} matrices, wanted "
            f"{_MATRICES_PER_LAYER} a layer: it is no BERT export of sentence-transformers"
        )
    vocabulary, width = weights["embeddings.word_embeddings.weight"].shape
    config = {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": width,
        "intermediate_size": weights["encoder.layer.0.intermediate.dense.weight"].shape[0],
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": weights["embeddings.position_embeddings.weight"].shape[0],
        "type_vocab_size": weights["embeddings.token_type_embeddings.weight"].shape[0],
        "vocab_size": vocabulary,
        "layer_norm_eps": 1e-12,
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _weights(graph: "GraphProto") -> dict[str, NDArray[np.float32]]:
    from onnx import numpy_helper

    constants = {
        tensor.name: np.asarray(numpy_helper.to_array(tensor), dtype=np.float32)
        for tensor in graph.initializer
    }
    weights = {
        name.removeprefix(_PREFIX): array
        for name, array in constants.items()
        if name.startswith(_PREFIX)
    }
    for node in graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants:
            path = node.name.removeprefix(_NODE_PREFIX).removesuffix("/MatMul")
            weights[path.replace("/", ".") + ".weight"] = constants[node.input[1]].T.copy()
    return weights
