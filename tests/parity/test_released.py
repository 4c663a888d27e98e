"""Every released file of weights, by the names, shapes and types of its tensors.

The weights themselves are not at hand; a cheap pattern stands for them. All sizes are converted in memory,
the smallest model also from file to file with the tokenizer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.errors import UserError
from tests.parity.conftest import recordings_folder
from world_model.checkpoint import load_checkpoint
from world_model.convert import FromPublishedConfig, ToPublishedConfig, from_published, to_published
from world_model.published import build_published, kept_positions, released_config, to_published_state_dict
from world_model.published_tokenizer import (
    build_published_tokenizer,
    published_tokenizer_state_dict,
    split_perceptual,
)
from world_model.sizes import SIZES
from world_model.tokenizer_config import TOKENIZERS

PREFIX = "_orig_mod.module."
"""What the released files are believed to carry."""
_PERIOD = 100_003


def stand_in(released: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors of the released names, shapes and types: small numbers that differ from tensor to tensor."""
    positions = kept_positions(SIZES["40M"])
    pattern = 0.05 * torch.randn(_PERIOD, generator=torch.Generator().manual_seed(0))
    tensors = {}
    for number, (name, (shape, dtype)) in enumerate(released["tensors"].items()):
        size = torch.Size(shape).numel()
        repeated = pattern.roll(number).repeat(size // _PERIOD + 1)[:size].view(shape).clone()
        tensors[name] = positions.get(name, repeated)
        assert tensors[name].dtype == getattr(torch, dtype)
    return tensors


def is_model(released: dict[str, Any]) -> bool:
    return "transformer.ln_f.weight" in released["tensors"]


def empty(released: dict[str, Any]) -> dict[str, Tensor]:
    """Tensors without contents."""
    return {
        name: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for name, (shape, dtype) in released["tensors"].items()
    }


def assert_equal(returned: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(returned) == list(expected)
    for name, tensor in expected.items():
        assert returned[name].dtype == tensor.dtype, name
        assert torch.equal(returned[name], tensor), name


@torch.inference_mode()
def test_released_tensors_convert_run_and_return(released_recording: dict[str, Any]) -> None:
    tensors = stand_in(released_recording)
    behind_a_prefix = {PREFIX + name: tensor for name, tensor in tensors.items()}
    task_id = torch.tensor([3])
    if is_model(released_recording):
        config = released_config(behind_a_prefix, "it")
        arch = released_recording["arch"]
        assert config.transformer.layers == arch["layers"]
        assert config.transformer.heads == arch["heads"]
        assert config.transformer.width == arch["embed"]
        assert (config.q_head.mlp_width, config.q_head.ensemble_size) == (arch["mlp"], arch["num_q"])
        model = build_published(config, behind_a_prefix, "it")
        output = model(torch.zeros(1, 37, dtype=torch.int64), task_id)
        assert output.logits_q.shape == (arch["num_q"], 1, 1, 18 * 51)
        assert torch.isfinite(output.logits_q).all()
        assert torch.isfinite(output.logits_observations).all()
        assert_equal(to_published_state_dict(model), tensors)
    else:
        tokenizer = build_published_tokenizer(behind_a_prefix, "it")
        assert tokenizer.config == TOKENIZERS["published"]
        frame = torch.arange(84 * 84).view(1, 84, 84).to(torch.uint8)
        tokens = tokenizer.encode(frame, task_id)
        assert tokenizer.decode(tokens, task_id).shape == (1, 84, 84)
        own, perceptual = split_perceptual(tensors, "it")
        assert len(perceptual) == 33
        assert_equal(published_tokenizer_state_dict(tokenizer), own)


def test_each_fault_is_named(released_recording: dict[str, Any]) -> None:
    """Some tensors of the file in turn missing, misshaped, or beside one that does not belong."""
    whole = empty(released_recording)

    def build(tensors: dict[str, Tensor]) -> None:
        if is_model(released_recording):
            released_config(tensors, "it")
        else:
            build_published_tokenizer(tensors, "it")

    for name in [name for name in whole if not name.startswith("lpips.")][::29]:
        with pytest.raises(UserError, match=f"'{name}' is missing"):
            build({key: tensor for key, tensor in whole.items() if key != name})
        odd = torch.empty(*whole[name].shape[:-1], whole[name].shape[-1] + 1, device="meta")
        with pytest.raises(UserError, match=f"'{name}' has shape"):
            build(whole | {name: odd})
        with pytest.raises(UserError, match=f"'{name}2' has no place"):
            build(whole | {f"{name}2": odd})


def test_released_files_convert_and_return(
    tmp_path: Path, pytestconfig: pytest.Config, released_recording: dict[str, Any]
) -> None:
    """The smallest model and the tokenizer, as files behind the released prefix."""
    if released_recording.get("arch") != {"layers": 4, "heads": 8, "embed": 512, "mlp": 768, "num_q": 1}:
        pytest.skip("from file to file with the smallest model alone")
    released = json.loads((recordings_folder(pytestconfig) / "released_manifest.json").read_text())["files"]
    model, tokenizer = (stand_in(released[name]) for name in ("JOWA_40M", "tokenizer"))
    for name, tensors in (("model.pt", model), ("tokenizer.pt", tokenizer)):
        torch.save({PREFIX + key: tensor for key, tensor in tensors.items()}, tmp_path / name)
    config = FromPublishedConfig(tmp_path / "model.pt", tmp_path / "tokenizer.pt", tmp_path / "out")
    assert "the released 40M model of 19.1M parameters" in from_published(config)
    checkpoint = load_checkpoint(config.out)
    assert checkpoint.model is not None
    assert checkpoint.model.config == SIZES["40M"]
    back = ToPublishedConfig(config.out, tmp_path / "m.pt", tmp_path / "t.pt", lpips_from=config.tokenizer)
    to_published(back)
    assert_equal(torch.load(back.model, weights_only=True), model)
    assert_equal(torch.load(back.tokenizer, weights_only=True), tokenizer)
