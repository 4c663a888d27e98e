"""The plain search of the benchmarks and the planner decide, score and imagine alike."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.published_search import plain_beam_search
from planning.beam import beam_search
from tests.world_model.small_models import random_model, random_tokens, small_config
from world_model.planning_model import TokenContext, WorldActionPlanningModel

CONFIG = small_config(tokens_per_frame=6)
MODEL = random_model(CONFIG, seed=5)


class Drawer:
    """Stands for a tokenizer, and counts the frames it is asked to draw."""

    def __init__(self) -> None:
        self.frames = 0

    def decode(self, tokens: torch.Tensor, task_id: torch.Tensor) -> None:
        self.frames += len(tokens)


@pytest.mark.parametrize(("beam_width", "horizon"), [(1, 2), (2, 2), (3, 1), (4, 3)])
def test_both_ways_agree(beam_width: int, horizon: int) -> None:
    planning_model = WorldActionPlanningModel(MODEL, published_semantics=True)
    for seed in range(4):
        legal_mask = torch.arange(CONFIG.num_actions)[None] % (seed + 2) == 0
        length = 2 * CONFIG.block_tokens - 1
        tokens = random_tokens(CONFIG, 1, length, seed)
        context = TokenContext(tokens, torch.tensor([length]), torch.tensor([seed]), legal_mask)
        drawer = Drawer()
        plain = plain_beam_search(MODEL, drawer, context, beam_width=beam_width, horizon=horizon)
        ours = beam_search(planning_model, context, beam_width=beam_width, horizon=horizon)
        assert plain.action == ours.action[0]
        np.testing.assert_allclose(plain.scores, ours.tree.score[0, 1:], atol=1e-4)
        imagined = planning_model.observation_tokens(ours.tree.node[0, 1:])
        assert plain.frames.tolist() == imagined.tolist()
        assert drawer.frames == len(imagined)
        assert planning_model.bytes_per_node < plain.cache_bytes
