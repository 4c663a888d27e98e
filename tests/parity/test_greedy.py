"""Greedy roll-outs against the recordings: the context that slides, its Q-values and the action."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from datasets.games import find_game
from planning.beam import beam_search
from tests.parity.recordings import Recording, assert_close
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.world_action_model import WorldActionModel


def test_greedy_rollouts(model: WorldActionModel, model_recording: Recording) -> None:
    for rollout in model_recording.section("planning", "greedy_rollout"):
        _check_rollout(model, rollout)


def _check_rollout(model: WorldActionModel, rollout: dict[str, Any]) -> None:
    planning_model = WorldActionPlanningModel(model, published_semantics=True)
    game = find_game(rollout["game"])
    assert game.task_id == rollout["task"]
    kept_tokens = (rollout["buffer_size"] - 1) * model.config.block_tokens
    buffer = torch.zeros(0, dtype=torch.int64)
    for step in rollout["steps"]:
        # A full buffer loses its oldest block to the new frame.
        buffer = buffer[max(0, len(buffer) - kept_tokens) :]
        frame = step["used_tokens"][-model.config.tokens_per_frame :]
        buffer = torch.cat([buffer, frame])
        assert buffer.tolist() == step["used_tokens"].tolist()
        context = TokenContext(
            tokens=buffer[None],
            length=torch.tensor([len(buffer)]),
            task_id=torch.tensor([game.task_id]),
            legal_mask=torch.from_numpy(game.legal_mask[None]),
        )
        result = beam_search(planning_model, context, beam_width=1, horizon=0)
        recorded = np.where(game.legal_mask, step["q_values"], -np.inf)
        assert_close("greedy.q_values", result.root_q_value[0], recorded)
        assert int(result.action[0]) == step["action"]
        buffer = torch.cat([buffer, torch.tensor([step["action"]])])
