"""A dictionary whose rows are rotated: it has all that geometry gives, and no features of a model.

Reading rows ``b + Q (x - b)`` for a random orthogonal Q and the decoder bias b is reading x with
encoder ``W Q``. The rotated rows have the same norms and angles about b, so what the rotated
dictionary shares with another model's is a floor (Gurnee et al., arXiv 2401.12181, rotate neurons
for the same end).
"""

from dataclasses import replace

import torch
from torch import Tensor

from isogloss.dictionaries.sparse_dictionary import SparseDictionary
from isogloss.errors import InvalidInput


def rotated(dictionary: SparseDictionary, seed: int) -> SparseDictionary:
    """Return the dictionary that reads and writes rows turned by a random rotation.

    Args:
        dictionary: an autoencoder of one site, of any kind.
        seed: the rotation is a pure function of it and of the width.

    Returns:
        The same biases, thresholds and settings; encoder and decoder rows turned.

    Raises:
        InvalidInput: the dictionary reconstructs other rows than it reads.
    """
    if dictionary.wiring != "sae":
        raise InvalidInput(
            f"the dictionary is a {dictionary.wiring}; only an autoencoder of one site (wiring "
            "sae) reads and writes in one space that can be rotated"
        )
    rotation = random_rotation(dictionary.width, seed)
    turned = {
        name
        for name, sizes in dictionary.settings.saved.items()
        if len(sizes) == 2 and sizes[1] in ("width", "target_width")
    }
    tensors = {
        name: (tensor.double() @ rotation).float() if name in turned else tensor
        for name, tensor in dictionary.tensors.items()
    }
    return replace(dictionary, tensors=tensors)


def random_rotation(width: int, seed: int) -> Tensor:
    """Return an orthogonal matrix drawn uniformly, float64 ``[width, width]`` (Mezzadri 2007)."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(width, width, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(drawn)
    return q * torch.sign(torch.diagonal(r))
