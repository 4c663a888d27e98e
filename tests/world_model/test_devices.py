"""Names of devices."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from datasets.errors import UserError
from world_model.devices import find_device

ROOT = Path(__file__).resolve().parents[2]


def test_auto_is_a_gpu_exactly_if_there_is_one():
    assert find_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert find_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["quantum", "cuda:99"])
def test_a_device_that_cannot_be_used_is_named(name):
    with pytest.raises(UserError, match=f"device '{name}' cannot be used here"):
        find_device(name)


FAULTS = """
import resource, torch
from world_model.devices import keep_freed_memory
keep_freed_memory()
for _ in range(8):  # the heap grows for the first few
    torch.ones(2**23)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    torch.ones(2**23)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_memory_that_is_freed_is_kept_for_the_next_time():
    # A process of its own: how many pages are asked for anew depends on what was freed before.
    command = [sys.executable, "-c", FAULTS]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=True)
    assert int(told.stdout) < 1000  # of 32,768
