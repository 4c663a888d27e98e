"""Published tokenizer weights by name."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from datasets.errors import UserError
from tests.conftest import SHARED
from tests.world_model.small_tokenizers import SMALL_RESIDUAL, noise, randomised
from world_model.published_tokenizer import (
    build_published_tokenizer,
    load_published_tokenizer_state_dict,
    published_tokenizer_state_dict,
    tokenizer_config_from_shapes,
)
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS, TokenizerConfig

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
        (missing, "'embedding.weight' is missing"),
        (saved | {"decoder.extra": torch.zeros(1)}, "'decoder.extra' has no place"),
        (saved | {"embedding.weight": torch.zeros(3, 6)}, r"'embedding.weight' has shape \(3, 6\)"),
        (saved | {"embedding.weight": saved["embedding.weight"].double()}, "is of torch.float64"),
    ]:
        with pytest.raises(UserError, match=sentence):
            load_published_tokenizer_state_dict(target, broken)
    assert target.content_hash() == before


@pytest.mark.parametrize(
    "config",
    [SMALL_RESIDUAL, replace(SMALL_RESIDUAL, attention_resolutions=(12,), num_residual_blocks=2)],
    ids=["attention at 6 and 12", "attention at 12"],
)
def test_sizes_are_read_from_the_tensors(config: TokenizerConfig):
    saved = published_tokenizer_state_dict(randomised(config))
    behind_a_prefix = {f"module.{name}": tensor for name, tensor in saved.items()}
    assert tokenizer_config_from_shapes(behind_a_prefix, "it") == config
    built = build_published_tokenizer(saved, "it")
    assert built.content_hash() == randomised(config).content_hash()
    assert not built.training


def test_what_sizes_are_read_from_is_named_when_missing():
    saved = published_tokenizer_state_dict(randomised(SMALL_RESIDUAL))
    for name in ("embedding.weight", "encoder.conv_in.weight", "encoder.down.1.block.0.conv2.weight"):
        with pytest.raises(UserError, match=f"it: tensor '{name}' is missing"):
            build_published_tokenizer({key: tensor for key, tensor in saved.items() if key != name}, "it")
    with pytest.raises(UserError, match=r"'embedding\.weight' has shape \(20,\), expected 2 dimensions"):
        build_published_tokenizer(saved | {"embedding.weight": torch.zeros(20)}, "it")


@pytest.mark.parametrize("name", ["tiny", "dictionary", "dictionary_2048"])
def test_a_tokenizer_without_a_published_form_is_refused(name: str):
    with pytest.raises(UserError, match=r"network .* has no published form"):
        published_tokenizer_state_dict(Tokenizer(TOKENIZERS[name]))


@pytest.mark.skipif(not MANIFEST.exists(), reason=f"{MANIFEST} is absent")
def test_the_published_preset_has_the_released_names_and_shapes():
    released = json.loads(MANIFEST.read_text())["files"]["tokenizer"]["tensors"]
    expected = {name: tuple(shape) for name, (shape, _) in released.items() if not name.startswith("lpips.")}
    with torch.device("meta"):
        ours = published_tokenizer_state_dict(Tokenizer(TOKENIZERS["published"]))
    assert {name: tuple(tensor.shape) for name, tensor in ours.items()} == expected
    assert list(ours) == list(expected)
