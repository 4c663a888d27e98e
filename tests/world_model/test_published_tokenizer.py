"""Published tokenizer weights by name."""

from __future__ import annotations

import json

import pytest
import torch

from datasets.errors import UserError
from tests.conftest import SHARED
from tests.world_model.small_tokenizers import SMALL_RESIDUAL, noise, randomised
from world_model.published_tokenizer import (
    load_published_tokenizer_state_dict,
    published_tokenizer_state_dict,
)
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS

MANIFEST = SHARED / "parity" / "jowa" / "released_manifest.json"


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_weights_come_back_from_their_published_names(prefix: str):
    source = randomised(SMALL_RESIDUAL)
    saved = {prefix + name: tensor for name, tensor in published_tokenizer_state_dict(source).items()}
    saved[prefix + "lpips.lin0.model.1.weight"] = torch.ones(1, 64, 1, 1)
    target = Tokenizer(SMALL_RESIDUAL).eval()
    frames, task_id = noise(3, 84, 84), torch.zeros(3, dtype=torch.int64)
    load_published_tokenizer_state_dict(target, saved)
    assert torch.equal(target.encode(frames, task_id), source.encode(frames, task_id))
    assert target.content_hash() == source.content_hash()


def test_another_configuration_is_refused_and_nothing_copied():
    saved = published_tokenizer_state_dict(randomised(SMALL_RESIDUAL))
    target = Tokenizer(SMALL_RESIDUAL)
    before = target.content_hash()
    missing = {name: tensor for name, tensor in saved.items() if name != "embedding.weight"}
    for broken, sentence in [
        (missing, "lacks tensor quantizer.codebook.weight"),
        (saved | {"decoder.extra": torch.zeros(1)}, "unknown tensor decoder.extra"),
        (saved | {"embedding.weight": torch.zeros(3, 6)}, r"shape \(3, 6\)"),
    ]:
        with pytest.raises(UserError, match=sentence):
            load_published_tokenizer_state_dict(target, broken)
    assert target.content_hash() == before


@pytest.mark.skipif(not MANIFEST.exists(), reason=f"{MANIFEST} is absent")
def test_the_published_preset_has_the_released_names_and_shapes():
    released = json.loads(MANIFEST.read_text())["files"]["tokenizer"]["tensors"]
    expected = {name: tuple(shape) for name, (shape, _) in released.items() if not name.startswith("lpips.")}
    with torch.device("meta"):
        ours = published_tokenizer_state_dict(Tokenizer(TOKENIZERS["published"]))
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == expected
