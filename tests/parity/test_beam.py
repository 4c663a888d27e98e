"""Beam search in the recorded models against the recorded searches, node by node."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets.games import find_game
from planning.base import SearchResult, best_path
from planning.beam import beam_search
from tests.parity.recordings import Recording, assert_close
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.world_action_model import WorldActionConfig, WorldActionModel


def _context(model: WorldActionModel, cases: list[dict[str, Any]]) -> TokenContext:
    rows = [_fed_tokens(model.config, case) for case in cases]
    return TokenContext(
        tokens=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        length=torch.tensor([len(row) for row in rows]),
        task_id=torch.tensor([case["task"] for case in cases]),
        legal_mask=torch.stack([case["legal"] for case in cases]),
    )


def _fed_tokens(config: WorldActionConfig, case: dict[str, Any]) -> Tensor:
    """The last blocks of the buffer that leave room for the horizon; never the trailing action."""
    buffer = case["buffer_tokens"][0]
    blocks = min(config.max_blocks - case["horizon"], (len(buffer) + 1) // config.block_tokens)
    fed = buffer[-(blocks * config.block_tokens - 1) :]
    assert fed.tolist() == case["context_tokens"][0].tolist()
    return fed


def _assert_search(
    label: str,
    planning_model: WorldActionPlanningModel,
    result: SearchResult,
    row: int,
    case: dict[str, Any],
) -> None:
    """Compare one row's decision and whole table of nodes."""
    recorded, tree = case["nodes"], result.tree
    count = len(recorded["depth"])
    assert tree.num_nodes[row] == count
    for name in ("depth", "parent", "action"):
        assert getattr(tree, name)[row, :count].tolist() == recorded[name].tolist(), name
    assert tree.reward[row, :count].tolist() == recorded["reward"].tolist()
    assert_close(f"{label}.v_star", tree.value[row, :count], recorded["v_star"])
    assert_close(f"{label}.score", tree.score[row, :count], recorded["score"])
    assert_close(f"{label}.critic", tree.q_value[row, :count], recorded["critic"])
    if count > 1:
        imagined = planning_model.observation_tokens(tree.node[row, 1:count])
        assert imagined.tolist() == recorded["obs_tokens"][-len(imagined) :].tolist()

    assert int(result.action[row]) == case["action"]
    assert best_path(result, row)[0].tolist() == list(case["best_path_actions"])
    best = int(result.best_node[row])
    assert_close(f"{label}.best_score", tree.score[row, best], case["best_score"])


def test_beam_searches_alone(model: WorldActionModel, model_recording: Recording) -> None:
    planning_model = WorldActionPlanningModel(model, published_semantics=True)
    for case in model_recording.section("planning", "beam_search"):
        assert find_game(case["game"]).task_id == case["task"]
        assert find_game(case["game"]).legal_mask.tolist() == case["legal"].tolist()
        result = beam_search(
            planning_model,
            _context(model, [case]),
            beam_width=case["beam_width"],
            horizon=case["horizon"],
        )
        _assert_search("beam", planning_model, result, 0, case)


def test_beam_searches_of_all_games_in_one_batch(model: WorldActionModel, model_recording: Recording) -> None:
    def settings(case: dict[str, Any]) -> tuple[int, int]:
        return case["beam_width"], case["horizon"]

    planning_model = WorldActionPlanningModel(model, published_semantics=True)
    cases = sorted(model_recording.section("planning", "beam_search"), key=settings)
    for (beam_width, horizon), group in groupby(cases, key=settings):
        batch = list(group)
        result = beam_search(planning_model, _context(model, batch), beam_width=beam_width, horizon=horizon)
        for row, case in enumerate(batch):
            _assert_search("beam_batched", planning_model, result, row, case)


def test_predicted_ends(model: WorldActionModel, model_recording: Recording) -> None:
    """Every recorded node, stepped again with predicted ends read."""
    planning_model = WorldActionPlanningModel(model, discount=0.5)
    for case in model_recording.section("planning", "beam_search"):
        nodes = case["nodes"]
        parent, action, depth = (nodes[name].numpy() for name in ("parent", "action", "depth"))
        planning_model.root(_context(model, [case]))
        for level in range(1, int(depth.max()) + 1):
            # Nodes are created depth by depth, so their rows are also their handles.
            made = np.flatnonzero(depth == level)
            evaluation = planning_model.step(parent[made], action[made])
            assert evaluation.node.tolist() == made.tolist()
            done = nodes["done_predicted"].numpy()[made]
            assert evaluation.discount.tolist() == np.where(done, 0.0, 0.5).tolist()
