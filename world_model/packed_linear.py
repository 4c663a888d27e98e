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

# With fewer rows than this, the packed kernels read the weights at a lower speed than with as many
# (float32, 40M model, one core: 3.9 ms for 2 rows and 2.7 ms for 4).
FEWEST_ROWS = 4


class PackedLinear:
    """A linear layer and the activation behind it, of weights that do not change any more.

    On a CPU where PyTorch has oneDNN the weights are reordered into blocks once, which reads them
    about twice as fast as the plain layer does when there are few rows; elsewhere this is the plain
    layer. The arithmetic is that of the plain layer up to the order of its sums.
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
        self._is_packed = weight.device.type == "cpu" and torch.backends.mkldnn.is_available()
        self._weight = weight.detach().clone()
        if self._is_packed:
            self._weight = torch.ops.mkldnn._reorder_linear_weight(self._weight, None)

    def __call__(self, x: Float[Tensor, "R inputs"]) -> Float[Tensor, "R outputs"]:
        """Apply to each row; `x` is converted to the type of the weights."""
        x = x.to(self._bias.dtype)
        if not self._is_packed:
            return _ACTIVATIONS[self._activation](F.linear(x, self._weight, self._bias))
        rows = len(x)
        if rows < FEWEST_ROWS:
            x = F.pad(x, (0, 0, 0, FEWEST_ROWS - rows))
        algorithm = "none" if self._activation == "gelu" else ""
        return torch.ops.mkldnn._linear_pointwise(
            x, self._weight, self._bias, self._activation, [], algorithm
        )[:rows]


_ACTIVATIONS = {"none": lambda x: x, "relu": F.relu, "gelu": F.gelu}
