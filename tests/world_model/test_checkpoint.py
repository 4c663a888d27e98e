import errno
import json
import os
import shutil
from dataclasses import replace

import pytest
import torch

from datasets.errors import UserError
from tests.world_model.small_models import random_model, small_config
from world_model import checkpoint as checkpoints
from world_model.checkpoint import (
    best_checkpoint,
    checkpoint_name,
    list_checkpoints,
    load_checkpoint,
    prune_checkpoints,
    save_checkpoint,
)
from world_model.optimizer_state import optimizer_tensors, restore_optimizer
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS

SMALL_TOKENIZER = replace(TOKENIZERS["tiny"], channels=8, latent_channels=4)


def save(path, step=7, model=None, optimizer=None):
    torch.manual_seed(step)
    tokenizer = Tokenizer(SMALL_TOKENIZER)
    save_checkpoint(
        path, step=step, tokenizer=tokenizer, model=model, optimizer=optimizer or {}, training={"seed": 3}
    )
    return tokenizer


def test_round_trip_keeps_every_tensor_and_configuration(tmp_path):
    model = random_model(small_config())
    tokenizer = save(tmp_path / "c", model=model)
    loaded = load_checkpoint(tmp_path / "c")
    assert (loaded.step, loaded.training) == (7, {"seed": 3})
    assert loaded.tokenizer.content_hash() == tokenizer.content_hash()
    assert loaded.model is not None
    assert loaded.model.config == model.config
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], tensor), name
    assert not loaded.model.training


def test_tokenizer_only(tmp_path):
    save(tmp_path / "c")
    assert load_checkpoint(tmp_path / "c").model is None


def test_run_means_its_newest_complete_checkpoint(tmp_path):
    for step in (5, 20, 100):
        save(tmp_path / "checkpoints" / checkpoint_name(step), step=step)
    (tmp_path / "checkpoints" / checkpoint_name(300)).mkdir()  # half written: no manifest
    assert [path.name for path in list_checkpoints(tmp_path)] == [checkpoint_name(s) for s in (5, 20, 100)]
    assert load_checkpoint(tmp_path).step == 100


def test_optimiser_goes_on_exactly(tmp_path):
    def make():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model, optimizer, seed):
        torch.manual_seed(seed)
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().mean().backward()
        optimizer.step()

    straight, straight_optimizer = make()
    for seed in range(6):
        step(straight, straight_optimizer, seed)
    first, first_optimizer = make()
    for seed in range(3):
        step(first, first_optimizer, seed)
    second, second_optimizer = make()
    second.load_state_dict(first.state_dict())
    restore_optimizer(second_optimizer, second, optimizer_tensors(first_optimizer, first))
    for seed in range(3, 6):
        step(second, second_optimizer, seed)
    for expected, found in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(expected, found)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.safetensors", "model.safetensors"])
def test_truncated_file_is_named(tmp_path, name):
    save(tmp_path / "c", model=random_model(small_config()))
    file = tmp_path / "c" / name
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(UserError, match=rf"{name} is truncated or altered; delete"):
        load_checkpoint(tmp_path / "c")


def test_missing_file_is_named(tmp_path):
    save(tmp_path / "c", model=random_model(small_config()))
    (tmp_path / "c" / "model.safetensors").unlink()
    with pytest.raises(UserError, match=r"model.safetensors is missing"):
        load_checkpoint(tmp_path / "c")


def test_another_size_is_named(tmp_path):
    save(tmp_path / "small", model=random_model(small_config()))
    save(tmp_path / "other", model=random_model(small_config(tokens_per_frame=6)))
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "small" / "model.safetensors")
    manifest = json.loads((tmp_path / "small" / "manifest.json").read_text())
    other = json.loads((tmp_path / "other" / "manifest.json").read_text())
    manifest["model.safetensors"] = other["model.safetensors"]
    (tmp_path / "small" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"has shape .* the configuration needs .* another size"):
        load_checkpoint(tmp_path / "small")


def test_unknown_configuration_field_is_named(tmp_path):
    save(tmp_path / "c")
    file = tmp_path / "c" / "config.json"
    config = json.loads(file.read_text())
    config["tokenizer"]["colour"] = 1
    file.write_text(json.dumps(config))
    manifest = json.loads((tmp_path / "c" / "manifest.json").read_text())
    manifest["config.json"] = checkpoints._fingerprint(file)
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=r"config.json: TokenizerConfig: .*colour"):
        load_checkpoint(tmp_path / "c")


def test_nothing_there(tmp_path):
    with pytest.raises(UserError, match="no such run or checkpoint"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no complete checkpoint"):
        load_checkpoint(tmp_path)


def test_the_newest_and_the_best_of_the_phase_are_kept(tmp_path):
    measured = [("world", 0.1), ("joint", 3.0), ("joint", 1.0), ("joint", None), ("joint", 2.0)]
    for step, (phase, loss) in enumerate(measured):
        torch.manual_seed(0)
        save_checkpoint(
            tmp_path / "checkpoints" / checkpoint_name(step),
            step=step,
            tokenizer=Tokenizer(SMALL_TOKENIZER),
            model=None,
            optimizer={},
            training={},
            phase=phase,
            held_out_loss=loss,
        )
    best = tmp_path / "checkpoints" / checkpoint_name(2)
    assert best_checkpoint(tmp_path) == best
    prune_checkpoints(tmp_path, keep=1)
    assert list_checkpoints(tmp_path) == [best, tmp_path / "checkpoints" / checkpoint_name(4)]


def test_a_run_without_held_out_losses_has_no_best(tmp_path):
    save(tmp_path / "checkpoints" / checkpoint_name(7))
    assert best_checkpoint(tmp_path) is None


def test_full_disk_leaves_the_earlier_checkpoint(tmp_path, monkeypatch):
    tokenizer = save(tmp_path / "c")

    def no_space(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match="disk is full"):
        save(tmp_path / "c", step=8)
    monkeypatch.undo()
    loaded = load_checkpoint(tmp_path / "c")
    assert loaded.step == 7
    assert loaded.tokenizer.content_hash() == tokenizer.content_hash()
    assert [entry.name for entry in tmp_path.iterdir()] == ["c"]
