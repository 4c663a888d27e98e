from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.errors import UserError
from tests.world_model.small_models import random_model, random_tokens, small_config
from world_model.published import (
    load_published_state_dict,
    model_from_published,
    to_published_state_dict,
)
from world_model.published_config import config_from_published
from world_model.published_tensors import PREFIXES
from world_model.world_action_model import WorldActionModel

CONFIG = small_config()


def _settings() -> dict[str, Any]:
    """The published program's way to say `CONFIG`."""
    return {
        "transformer": {
            "tokens_per_block": 5,
            "max_blocks": 5,
            "max_tasks": 6,
            "attention": "causal",
            "num_layers": 2,
            "num_heads": 2,
            "embed_dim": 16,
            "embed_pdrop": 0.0,
            "resid_pdrop": 0.0,
            "attn_pdrop": 0.0,
        },
        "critic_head": {"mlp_dim": 8, "num_q": 2, "dropout": 0.0},
        "obs_vocab_size": 11,
        "act_vocab_size": 18,
        "action": {
            "vmin": -10,
            "vmax": 30,
            "num_atoms": 5,
            "td_loss": "c51",
            "use_task_embed": True,
            "q_loss_backwards_wm": True,
        },
    }


def _published(prefix: str = "") -> dict[str, Tensor]:
    """A small model as the published program would store it, attention masks included."""
    tensors = to_published_state_dict(random_model(CONFIG, seed=3))
    for layer in range(2):
        tensors[f"transformer.blocks.{layer}.attn.mask"] = torch.ones(25, 25).tril()
    return {prefix + name: tensor for name, tensor in tensors.items()}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_model_survives_the_way_there_and_back(prefix: str) -> None:
    loaded = random_model(CONFIG, seed=4)
    load_published_state_dict(loaded, _published(prefix))
    original = random_model(CONFIG, seed=3).state_dict()
    assert loaded.state_dict().keys() == original.keys()
    assert all(torch.equal(tensor, original[name]) for name, tensor in loaded.state_dict().items())


def test_every_tensor_has_its_own_published_name() -> None:
    model = random_model(CONFIG)
    published = to_published_state_dict(model)
    weights = {name: tensor for name, tensor in published.items() if not name.endswith(".indices")}
    assert len(weights) == len(model.state_dict())
    pointers = {tensor.data_ptr() for tensor in weights.values()}
    assert pointers == {tensor.data_ptr() for tensor in model.state_dict().values()}


def test_each_head_names_the_positions_it_is_evaluated_at() -> None:
    published = to_published_state_dict(random_model(CONFIG))
    # Five blocks of four observation tokens and an action.
    assert published["head_q.indices"].tolist() == [3, 8, 13, 18, 23]
    assert published["head_q_target.indices"].tolist() == [3, 8, 13, 18, 23]
    assert published["head_rewards.indices"].tolist() == [4, 9, 14, 19, 24]
    assert published["head_ends.indices"].tolist() == [4, 9, 14, 19, 24]
    assert published["head_observations.indices"].tolist() == [p for p in range(25) if p % 5 != 3]


def test_settings_and_tensors_build_the_model() -> None:
    assert config_from_published(_settings()) == CONFIG
    model = model_from_published(_settings(), _published("module."))
    assert not model.training
    assert not model.head_q_target.linear1.weight.requires_grad
    tokens, task_id = random_tokens(CONFIG, 2, 25), torch.tensor([0, 3])
    expected = random_model(CONFIG, seed=3)(tokens, task_id)
    assert torch.equal(model(tokens, task_id).logits_observations, expected.logits_observations)


def _assert_refused(state_dict: dict[str, Tensor], message: str) -> None:
    """The error names the tensor, and the model is left as it was."""
    model: WorldActionModel = random_model(CONFIG, seed=4)
    with pytest.raises(UserError, match=message):
        load_published_state_dict(model, state_dict)
    untouched = random_model(CONFIG, seed=4).state_dict()
    assert all(torch.equal(tensor, untouched[name]) for name, tensor in model.state_dict().items())


def test_a_missing_tensor_is_named() -> None:
    state_dict = _published("_orig_mod.module.")
    del state_dict["_orig_mod.module.transformer.blocks.1.mlp.2.bias"]
    _assert_refused(state_dict, r"'transformer\.blocks\.1\.mlp\.2\.bias' is missing")


def test_an_unknown_tensor_is_named() -> None:
    state_dict = _published()
    state_dict["transformer.blocks.2.ln1.weight"] = torch.ones(16)
    _assert_refused(state_dict, r"'transformer\.blocks\.2\.ln1\.weight' has no place")


def test_a_tensor_of_another_shape_is_named() -> None:
    state_dict = _published()
    state_dict["pos_emb.weight"] = torch.ones(20, 16)
    _assert_refused(state_dict, r"'pos_emb\.weight' .* shape \(20, 16\), expected \(25, 16\)")


def test_a_tensor_of_another_type_is_named() -> None:
    state_dict = _published()
    state_dict["pos_emb.weight"] = state_dict["pos_emb.weight"].half()
    _assert_refused(state_dict, r"'pos_emb\.weight' is of torch.float16, expected torch.float32")


def test_every_fault_is_counted() -> None:
    state_dict = _published()
    del state_dict["pos_emb.weight"], state_dict["transformer.ln_f.bias"]
    _assert_refused(state_dict, r"'transformer\.ln_f\.bias' is missing \(and 1 more differ\)")


def test_a_head_at_other_positions_is_named() -> None:
    state_dict = _published()
    state_dict["head_q.indices"] = state_dict["head_q.indices"] + 1
    _assert_refused(state_dict, r"'head_q\.indices' does not hold the positions")


def test_a_name_without_the_prefix_of_the_others_is_named() -> None:
    _assert_refused(_published("module.") | {"stray": torch.ones(1)}, "'stray' has no place")
    twice = _published("module.") | {"pos_emb.weight": torch.ones(1)}
    _assert_refused(twice, r"'pos_emb\.weight' is there twice")


def test_settings_of_another_kind_are_named() -> None:
    settings = _settings()
    settings["transformer"]["attention"] = "block_causal"
    with pytest.raises(UserError, match="attention is 'block_causal'"):
        config_from_published(settings)
    settings = _settings()
    del settings["critic_head"]["num_q"]
    with pytest.raises(UserError, match="lack 'num_q'"):
        config_from_published(settings)
