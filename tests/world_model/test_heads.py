import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.errors import UserError
from world_model.heads import QHead, QHeadConfig, StackedLinear

CONFIG = QHeadConfig(ensemble_size=3, mlp_width=7, dropout=0.0, num_atoms=5)
HIDDEN = torch.randn(2, 4, 6, generator=torch.Generator().manual_seed(0))


def _one_member(head: QHead, member: int, hidden: Tensor) -> Tensor:
    """One member of the ensemble, layer by layer."""
    x = hidden
    for linear, norm in ((head.linear1, head.norm1), (head.linear2, head.norm2)):
        x = F.linear(x, linear.weight[member], linear.bias[member])
        x = F.layer_norm(x, x.shape[-1:], norm.weight[member], norm.bias[member])
        x = F.mish(x)
    return F.linear(x, head.linear3.weight[member], head.linear3.bias[member])


def test_the_ensemble_equals_its_members_one_by_one() -> None:
    torch.manual_seed(0)
    head = QHead(CONFIG, inputs=6, num_actions=18)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.normal_()
        logits = head(HIDDEN)
        expected = torch.stack([_one_member(head, member, HIDDEN) for member in range(3)])
    assert logits.shape == (3, 2, 4, 18 * 5)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1])


def test_no_rows_make_no_logits() -> None:
    assert QHead(CONFIG, inputs=6, num_actions=18)(HIDDEN[:, :0]).shape == (3, 2, 0, 90)


def test_a_member_starts_as_a_linear_layer_of_torch_does() -> None:
    torch.manual_seed(0)
    stacked, linear = StackedLinear(5, 64, 100), torch.nn.Linear(64, 100)
    for name in ("weight", "bias"):
        ours, theirs = getattr(stacked, name), getattr(linear, name)
        assert ours.abs().max() <= 1 / math.sqrt(64)
        assert ours.std().item() == pytest.approx(theirs.std().item(), rel=0.15)


def test_dropout_acts_while_training_only() -> None:
    torch.manual_seed(0)
    head = QHead(QHeadConfig(mlp_width=32, dropout=0.5), inputs=6, num_actions=18)
    assert not torch.equal(head(HIDDEN), head(HIDDEN))
    head.eval()
    assert torch.equal(head(HIDDEN), head(HIDDEN))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ensemble_size": 0}, "ensemble_size is 0"),
        ({"num_atoms": 1}, "at least 2 atoms"),
        ({"value_min": 3.0, "value_max": 3.0}, "value_min below value_max"),
    ],
)
def test_senseless_settings_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        QHeadConfig(**changes)
