"""The published tree search in the recorded models against the recorded searches.

The published program keeps the root's key-value cache in every node, so that all its deeper
simulations are "root, then last action"; `RootStepModel` brings that about. Each case was also
recorded with that fault repaired.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from planning import Evaluation, PlanningModel, SearchResult, SearchTree, TreeOptions, mcts
from planning.layout import NO_ROW
from tests.parity.recordings import LOGIT_TOLERANCE, Recording, assert_close
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.world_action_model import WorldActionModel

OPTIONS = TreeOptions(precision="float64")


class RootStepModel:
    """Takes every step from the root of its tree, wherever the search believes to be."""

    def __init__(self, model: PlanningModel) -> None:
        self.model = model
        self.num_actions = model.num_actions
        self.root_of: dict[int, int] = {}

    def root(self, observation: Any) -> Evaluation:
        evaluation = self.model.root(observation)
        self.root_of = {int(node): int(node) for node in evaluation.node}
        return evaluation

    def step(self, parent: np.ndarray, action: np.ndarray) -> Evaluation:
        root = np.array([self.root_of[int(node)] for node in parent])
        evaluation = self.model.step(root, action)
        self.root_of |= {int(node): int(first) for node, first in zip(evaluation.node, root, strict=True)}
        return evaluation


def _context(model: WorldActionModel, case: dict[str, Any]) -> TokenContext:
    buffer, block = case["buffer_tokens"][0], model.config.block_tokens
    blocks = min(model.config.max_blocks - case["horizon"], (len(buffer) + 1) // block)
    fed = buffer[-(blocks * block - 1) :]
    return TokenContext(
        tokens=fed[None],
        length=torch.tensor([len(fed)]),
        task_id=torch.tensor([case["task"]]),
        legal_mask=case["legal"][None],
    )


def _search(
    planning_model: PlanningModel, context: TokenContext, case: dict[str, Any]
) -> SearchResult[SearchTree]:
    return mcts(
        planning_model,
        context,
        num_simulations=case["num_simulations"],
        horizon=case["horizon"],
        temperature=case["temperature"],
        use_mean=case["use_mean"],
        use_count=case["use_count"],
        published_semantics=True,
        options=OPTIONS,
    )


def test_recorded_searches(model: WorldActionModel, model_recording: Recording) -> None:
    planning_model = WorldActionPlanningModel(model, published_semantics=True)
    for case in model_recording.section("planning", "mcts"):
        searched = planning_model if case["kv_cache_fixed"] else RootStepModel(planning_model)
        result = _search(searched, _context(model, case), case)
        tree, root = result.tree, case["root"]
        assert result.visit_counts[0].tolist() == root["visit_count"].tolist()
        assert int(result.action[0]) == case["action"]
        child = tree.children[0, 0]
        for name, column in (("value", tree.score), ("reward", tree.reward)):
            ours = np.where(child == NO_ROW, 0, column[0, child])
            assert_close(f"mcts.{name}", ours, root[name])
        assert_close("mcts.prior", tree.prior[0, 0], root["prior"])
        _assert_simulations(result, case)


def _assert_simulations(result: SearchResult[SearchTree], case: dict[str, Any]) -> None:
    """Each simulation made the recorded walk, and found there what was recorded."""
    tree, made = result.tree, {}
    for row in range(1, int(tree.num_nodes[0])):
        walk, node = [], row
        while node > 0:
            walk.insert(0, int(tree.action[0, node]))
            node = int(tree.parent[0, node])
        if tree.visits[0, row] > 0:
            made[tuple(walk)] = row
    walks = [tuple(a for a in walk if a >= 0) for walk in case["simulated_paths"].tolist()]
    assert set(walks) == set(made)
    rows = [made[walk] for walk in walks]
    # A walk to the depth limit may be made again, and then leaves its row empty.
    assert rows == [walks.index(walk) + 1 for walk in walks]
    assert_close("mcts.leaf_values", tree.value[0, rows], case["leaf_values"])
    assert np.abs(tree.reward[0, rows] - case["leaf_rewards"].numpy()).max() <= LOGIT_TOLERANCE
