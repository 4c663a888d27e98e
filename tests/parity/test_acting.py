"""Greedy roll-outs from frames on: tokenizer, memory, model and decision in one, against the recordings."""

from __future__ import annotations

import numpy as np

from agents.acting import ActingConfig, Agent
from datasets.games import find_game
from tests.parity.recorded_tokenizers import tokenizer_of
from tests.parity.recordings import Recording, assert_close
from world_model.world_action_model import WorldActionModel


def test_greedy_agents_act_as_recorded(model: WorldActionModel, model_recording: Recording) -> None:
    rollouts = model_recording.section("planning", "greedy_rollout")
    tokenizer = tokenizer_of(model_recording)
    for rollout in rollouts:
        game = find_game(rollout["game"])
        config = ActingConfig(planner="greedy", context_frames=rollout["buffer_size"], epsilon=0.0)
        agent = Agent(tokenizer, model, game, config, environments=1, seed=0)
        agent.begin(0, episode=0)
        for frame, step in zip(rollout["frames_u8"].numpy(), rollout["steps"], strict=True):
            decision = agent.act(frame[None], [0])
            recorded = np.where(game.legal_mask, step["q_values"], -np.inf)
            assert_close("acting.q_values", decision.q_values[0], recorded)
            assert int(decision.actions[0]) == step["action"]
