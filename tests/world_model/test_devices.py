"""Names of devices."""

import pytest
import torch

from datasets.errors import UserError
from world_model.devices import find_device


def test_auto_is_a_gpu_exactly_if_there_is_one():
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["quantum", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named(name):
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here"):
        find_device(name)
