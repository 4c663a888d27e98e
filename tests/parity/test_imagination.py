"""Every recorded imagined batch: rows, actions, rewards and the drawn frames."""

from __future__ import annotations

from typing import Any

import torch
from einops import rearrange, repeat
from torch import Tensor

from datasets.games import legal_mask_table
from datasets.segments import Batch
from tests.parity.recorded_tokenizers import tokenizer_of
from tests.parity.recordings import Recording, note_error
from world_model.imagination import ImaginationConfig, imagine
from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel


def _real_batch(inputs: dict[str, Tensor], tokenizer: Tokenizer) -> Batch:
    frames = inputs["observations_u8"]
    task_id = repeat(inputs["envs"], "B -> (B L)", L=frames.shape[1])
    tokens = tokenizer.encode(rearrange(frames, "B L H W -> (B L) H W"), task_id)
    return Batch(
        tokens=rearrange(tokens, "(B L) K -> B L K", L=frames.shape[1]),
        actions=inputs["actions"],
        rewards=inputs["rewards"],
        ends=inputs["ends"],
        returns=torch.zeros_like(inputs["rewards"]),
        value_returns=torch.zeros_like(inputs["rewards"]),
        mask=inputs["mask_padding"],
        task_id=inputs["envs"],
        legal_mask=torch.from_numpy(legal_mask_table())[inputs["envs"]],
    )


def _assert_drawn(tokenizer: Tokenizer, tokens: Tensor, task_id: Tensor, recorded: Tensor) -> None:
    """Imagined tokens are the recorded ones if the frames drawn from them are, to a gray level.

    The recording cuts intensities off where we round, so a level may differ by rounding of the last bit.
    """
    num_frames = tokens.shape[1]
    drawn = tokenizer.decode_intensity(
        rearrange(tokens, "R H K -> (R H) K"), repeat(task_id, "R -> (R H)", H=num_frames)
    )
    levels = (drawn * 255).to(torch.uint8).int()
    difference = (levels - rearrange(recorded, "R H 1 Y X -> (R H) Y X").int()).abs()
    assert difference.max() <= 1
    share = float((difference > 0).float().mean())
    assert share < 1e-3, f"{share:.1e} of the pixels differ"
    note_error("share of imagined pixels one level off", share)


def _assert_case(
    model: WorldActionModel,
    tokenizer: Tokenizer,
    inputs: dict[str, Tensor],
    case: dict[str, Any],
    gamma: float,
) -> None:
    horizon, recorded = case["horizon"], case["output"]
    imagined = imagine(
        model,
        _real_batch(inputs, tokenizer),
        ImaginationConfig(beam_width=case["beam_width"], horizon=horizon),
        discount=gamma,
        published_semantics=True,
    )
    # The recording fills up to the size of the real batch with rows of task -1; ours has no such rows.
    used = recorded["envs"] >= 0
    assert int(used.sum()) == case["synthetic_amount"]
    if imagined is None:
        assert not used.any()
        return
    assert imagined.task_id.tolist() == recorded["envs"][used].tolist()
    assert imagined.actions.tolist() == recorded["actions"][used].tolist()
    assert imagined.rewards.tolist() == recorded["rewards"][used].tolist()
    assert imagined.ends.tolist() == recorded["ends"][used].long().tolist()
    assert imagined.mask.all()
    assert recorded["mask_padding"][used].all()
    frames = recorded["observations"][used]
    num_real = frames.shape[1] - horizon
    source = inputs["mask_padding"][:, -num_real:].all(1)
    assert torch.equal(frames[:, :num_real, 0], inputs["observations_u8"][source][:, -num_real:])
    _assert_drawn(tokenizer, imagined.tokens[:, num_real:], imagined.task_id, frames[:, num_real:])


def test_every_recorded_imagination(model: WorldActionModel, model_recording: Recording) -> None:
    section = model_recording.section("imagine")
    tokenizer = tokenizer_of(model_recording)
    gamma = model_recording.content["config"]["action"]["gamma"]
    for case in section["cases"]:
        _assert_case(model, tokenizer, section["inputs"], case, gamma)


def test_by_default_real_steps_keep_their_own_actions(
    model: WorldActionModel, model_recording: Recording
) -> None:
    section = model_recording.section("imagine")
    inputs, tokenizer = section["inputs"], tokenizer_of(model_recording)
    batch = _real_batch(inputs, tokenizer)
    for case in section["cases"]:
        horizon = case["horizon"]
        imagined = imagine(
            model,
            batch,
            ImaginationConfig(beam_width=case["beam_width"], horizon=horizon),
            discount=0.99,
        )
        source = inputs["mask_padding"][:, horizon:].all(1)
        if imagined is None:
            assert not source.any()
            continue
        assert torch.equal(imagined.tokens[:, :-horizon], batch.tokens[source][:, horizon:])
        assert torch.equal(imagined.actions[:, : -horizon - 1], batch.actions[source][:, horizon:-1])
        assert torch.equal(imagined.rewards[:, : -horizon - 1], batch.rewards[source][:, horizon:-1])
