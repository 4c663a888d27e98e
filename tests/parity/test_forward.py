"""The whole network against the recorded forward passes: at once, cached, and on a part."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.parity.recordings import Recording, assert_close
from world_model.kv_cache import KVCache
from world_model.published import to_published_state_dict
from world_model.world_action_model import ModelOutput, WorldActionModel


def _inputs(recording: Recording) -> tuple[Tensor, Tensor]:
    inputs = recording.section("forward", "inputs")
    return inputs["tokens"], inputs["tasks"]


def _assert_outputs(
    label: str, model: WorldActionModel, output: ModelOutput, recorded: dict[str, Any]
) -> None:
    """Compare every array that is recorded."""
    actual = {
        "output_sequence": output.hidden,
        "logits_observations": output.logits_observations,
        "logits_rewards": output.logits_rewards,
        "logits_ends": output.logits_ends,
        "logits_q": output.logits_q,
        "logits_q_target": output.logits_q_target,
        "q_values": model.q_values(output.logits_q),
        "q_target_values": model.q_values(output.logits_q_target),
    }
    for name in recorded.keys() & actual.keys():
        assert_close(f"{label}.{name}", actual[name], recorded[name])


def _fed_in_chunks(
    model: WorldActionModel, tokens: Tensor, task_id: Tensor, chunks: list[int]
) -> tuple[ModelOutput, KVCache]:
    cache = model.new_cache(len(tokens))
    parts = [model(chunk, task_id, cache) for chunk in tokens.split(chunks, dim=1)]
    q_names = ("logits_q", "logits_q_target")
    joined = {
        name: torch.cat([getattr(part, name) for part in parts], dim=2 if name in q_names else 1)
        for name, found in vars(parts[0]).items()
        if found is not None
    }
    return ModelOutput(**joined), cache


@torch.inference_mode()
def test_full_forward(model: WorldActionModel, model_recording: Recording) -> None:
    recorded = model_recording.section("forward", "full")
    assert len(recorded) == 8
    _assert_outputs("full", model, model(*_inputs(model_recording)), recorded)


@torch.inference_mode()
@pytest.mark.parametrize("chunking", ["single", "mixed"])
def test_forward_through_a_cache(model: WorldActionModel, model_recording: Recording, chunking: str) -> None:
    tokens, task_id = _inputs(model_recording)
    chunks = model_recording.section("forward", "inputs", f"chunks_{chunking}")
    recorded = model_recording.section("forward", f"cached_{chunking}")
    assert {"logits_observations", "logits_rewards", "logits_ends", "q_values"} <= recorded.keys()
    output, cache = _fed_in_chunks(model, tokens[:, : sum(chunks)], task_id, chunks)
    _assert_outputs(f"cached_{chunking}", model, output, recorded)

    recorded_kv = model_recording.section("forward", "kv")
    positions = recorded_kv["token_positions"]
    assert_close("kv.keys", cache.keys[:, :, :, positions], recorded_kv["keys"])
    assert_close("kv.values", cache.values[:, :, :, positions], recorded_kv["values"])


@torch.inference_mode()
def test_forward_of_a_part_that_lacks_its_last_action(
    model: WorldActionModel, model_recording: Recording
) -> None:
    tokens, task_id = _inputs(model_recording)
    # The number in the section's name is not the number of tokens; that is stored beside the arrays.
    (name,) = (name for name in model_recording.section("forward") if name.startswith("partial"))
    recorded = model_recording.section("forward", name)
    assert {"logits_observations", "logits_q"} <= recorded.keys()
    output = model(tokens[:, : recorded["num_tokens"]], task_id)
    _assert_outputs("partial", model, output, recorded)


def test_weights_return_under_their_published_names(
    model: WorldActionModel, model_recording: Recording
) -> None:
    recorded = model_recording.content["state_dict"]
    returned = to_published_state_dict(model)
    assert list(returned) == list(recorded)
    assert all(torch.equal(returned[name], recorded[name]) for name in recorded)
