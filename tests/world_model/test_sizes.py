import json

import pytest
import torch

from tests.conftest import SHARED
from world_model.published import published_names
from world_model.sizes import SIZES
from world_model.world_action_model import WorldActionModel

MANIFEST = SHARED / "parity" / "jowa" / "released_manifest.json"


def _unallocated(size: str) -> WorldActionModel:
    with torch.device("meta"):
        return WorldActionModel(SIZES[size])


@pytest.mark.skipif(not MANIFEST.exists(), reason="needs ../shared/parity/jowa/released_manifest.json")
@pytest.mark.parametrize("size", ["40M", "70M", "150M"])
def test_tensors_are_those_of_the_released_model(size: str) -> None:
    released = json.loads(MANIFEST.read_text())["files"][f"JOWA_{size}"]
    model = _unallocated(size)
    assert sum(parameter.numel() for parameter in model.parameters()) == released["num_params"]
    own = model.state_dict()
    ours = {
        theirs: list(own[name].shape)
        for theirs, name in published_names(model.config.transformer.layers).items()
    }
    assert len(ours) == len(own)
    kept = {name: entry for name, entry in released["tensors"].items() if not name.endswith(".indices")}
    assert ours == {name: shape for name, (shape, _) in kept.items()}


def test_tiny_has_about_0_6_million_parameters_to_learn() -> None:
    model = _unallocated("tiny")
    learned = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert 500_000 < learned < 700_000
