"""Names of devices."""

import platform
import resource

import pytest
import torch

from datasets.errors import UserError
from world_model.devices import find_device, keep_freed_memory


def test_auto_is_a_gpu_exactly_if_there_is_one():
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["quantum", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named(name):
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here"):
        find_device(name)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_memory_that_is_freed_is_kept_for_the_next_time():
    keep_freed_memory()
    torch.ones(2**23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(2**23)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 1000  # of 32,768
