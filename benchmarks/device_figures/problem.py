"""Random rows and a random dictionary, the same ones each time."""

from dataclasses import dataclass

import torch
from torch import Tensor

from device_figures.records import Scene


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Arguments of an encoder."""

    x: Tensor
    """``[rows, width]``."""
    weight: Tensor
    """``[features, width]``, rows of norm about 1."""
    bias: Tensor
    """``[features]`` float32."""
    k: int
    """Entries a row."""

    @classmethod
    def draw(cls, scene: Scene, shape: tuple[int, int, int, int], dtype: torch.dtype) -> "Problem":
        """Draw rows, width, features and k of that shape."""
        rows, width, features, k = shape
        generator = torch.Generator(device=scene.device).manual_seed(5)

        def normal(*sizes: int) -> Tensor:
            return torch.randn(*sizes, generator=generator, device=scene.device)

        weight = (normal(features, width) / width**0.5).to(dtype)
        return cls(x=normal(rows, width).to(dtype), weight=weight, bias=0.1 * normal(features), k=k)

    @property
    def label(self) -> str:
        """Its shape."""
        (rows, width), features = self.x.shape, self.weight.shape[0]
        return f"{rows} x {width} -> {features}, k={self.k}"

    def exact(self, first: int, count: int) -> Tensor:
        """Pre-activations of some rows in float64."""
        rows = self.x[first : first + count].double()
        return rows @ self.weight.double().T + self.bias.double()
