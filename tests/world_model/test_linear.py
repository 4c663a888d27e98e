"""Training by oneDNN's products against exact arithmetic, and what keeps torch's own."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from world_model.linear import SMALLEST_BY_ONEDNN, Linear

WIDTH = 384
X = torch.randn(2, 37, WIDTH, generator=torch.Generator().manual_seed(0))
TOWARDS = torch.randn(2, 37, WIDTH, generator=torch.Generator().manual_seed(1))


def make_layer(width: int = WIDTH) -> Linear:
    torch.manual_seed(2)
    return Linear(WIDTH, width)


def results(layer: torch.nn.Linear, x: Tensor, towards: Tensor) -> list[Tensor]:
    """Output, and gradients of the input and of both parameters."""
    x = x.detach().clone().requires_grad_()
    output = layer(x)
    parameters = [x, *layer.parameters()]
    return [output, *torch.autograd.grad((output * towards).sum(), parameters)]


@pytest.fixture
def mkldnn_calls(monkeypatch) -> list[int]:
    calls = []
    real = Tensor.to_mkldnn
    monkeypatch.setattr(Tensor, "to_mkldnn", lambda self: calls.append(self.numel()) or real(self))
    return calls


def test_training_gives_exact_results_up_to_rounding(mkldnn_calls):
    layer = make_layer()
    assert layer.weight.numel() >= SMALLEST_BY_ONEDNN
    found = results(layer, X, TOWARDS)
    assert len(mkldnn_calls) == torch.backends.mkldnn.is_available()
    expected = results(make_layer().double(), X.double(), TOWARDS.double())
    for ours, exact in zip(found, expected, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - exact).norm() < 1e-6 * exact.norm()


def test_inference_small_weights_and_bfloat16_are_torchs_to_the_last_bit(mkldnn_calls):
    for layer in (make_layer().eval(), make_layer(WIDTH // 2)):
        assert torch.equal(layer(X), F.linear(X, layer.weight, layer.bias))
    with torch.autocast("cpu", torch.bfloat16):
        layer = make_layer()
        assert torch.equal(layer(X), F.linear(X, layer.weight, layer.bias))
    assert not mkldnn_calls
