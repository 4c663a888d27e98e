"""Linear layers for inference: weights laid out once as the processor's matrix kernels want them.

Letters: R rows.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

Activation = Literal["none", "relu", "gelu"]

# Weights smaller than this stay in the processor's caches, where the plain layer is as fast.
SMALLEST_PACKED = 2**17


def padded_rows(rows: int) -> int:
    """The next number of rows that packed layers are used with.

    oneDNN compiles a kernel for every number of rows it meets, which takes about 0.7 ms, so there
    should be few of them; and below 4 rows its kernels read the weights more slowly than at 4.
    """
    step = 4 if rows <= 16 else 8 if rows <= 64 else 16 if rows <= 256 else 64
    return -(-rows // step) * step


class PackedLinear:
    """A linear layer and the activation behind it, of weights that do not change any more.

    On a CPU where PyTorch has oneDNN for their type, large weights are reordered into blocks once, which
    reads them about twice as fast as the plain layer does when there are few rows; elsewhere this is the
    plain layer. The arithmetic is that of the plain layer up to the order of its sums.
    """

    def __init__(
        self,
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"],
        activation: Activation = "none",
    ) -> None:
        """Pack copies of `weight` and `bias`, in whose type the layer computes."""
        self._activation: Activation = activation
        self._bias = bias.detach().clone()
        self._weight = weight.detach().clone()
        self._is_packed = (
            weight.device.type == "cpu" and torch.backends.mkldnn.is_available() and _is_worth_packing(weight)
        )
        if self._is_packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    def __call__(self, x: Float[Tensor, "R inputs"]) -> Float[Tensor, "R outputs"]:
        """Apply to each row; `x` is converted to the type of the weights."""
        x = x.to(self._bias.dtype)
        if not self._is_packed:
            return _ACTIVATIONS[self._activation](F.linear(x, self._weight, self._bias))
        rows = len(x)
        if padded_rows(rows) > rows:
            x = F.pad(x, (0, 0, 0, padded_rows(rows) - rows))
        algorithm = "none" if self._activation == "gelu" else ""
        y = torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, self._activation, [], algorithm)
        return y[:rows]


def _is_worth_packing(weight: Float[Tensor, "outputs inputs"]) -> bool:
    if weight.dtype == torch.bfloat16:
        # oneDNN refuses it on processors that have AVX2 alone.
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.numel() >= SMALLEST_PACKED


_ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}
