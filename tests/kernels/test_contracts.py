"""The contract of codes, on the codes of today."""

from torch import Tensor

from isogloss.kernels import Codes
from isogloss.kernels.testing.contracts import CodesContract


class TestCodes(CodesContract):
    def make(
        self, values: Tensor, indices: Tensor, features: int, offsets: Tensor | None = None
    ) -> Codes:
        return Codes(values=values, indices=indices, features=features, offsets=offsets)
