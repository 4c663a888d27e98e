"""The published tree search in the recorded models against the recorded searches.

The published program keeps the root's key-value cache in every node, so that all its deeper
simulations are "root, then last action" (`published_cache`). Each case was also recorded with that
fault repaired.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import pytest
import torch

from planning import SearchResult, SearchTree, TreeOptions, mcts
from planning.base import NO_NODE
from tests.parity.recordings import Recording, assert_close
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.world_action_model import WorldActionModel


def _context(model: WorldActionModel, cases: list[dict[str, Any]]) -> TokenContext:
    rows, block = [], model.config.block_tokens
    for case in cases:
        buffer = case["buffer_tokens"][0]
        blocks = min(model.config.max_blocks - case["horizon"], (len(buffer) + 1) // block)
        rows.append(buffer[-(blocks * block - 1) :])
    return TokenContext(
        tokens=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True),
        length=torch.tensor([len(row) for row in rows]),
        task_id=torch.tensor([case["task"] for case in cases]),
        legal_mask=torch.stack([case["legal"] for case in cases]),
    )


SETTINGS = ("num_simulations", "horizon", "temperature", "use_mean", "use_count")
FAULT_REPAIRED = "kv_cache_fixed"


def _settings(case: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(case[name] for name in (*SETTINGS, FAULT_REPAIRED))


@pytest.mark.slow
def test_recorded_searches(model: WorldActionModel, model_recording: Recording) -> None:
    """All games of the same settings are searched in one batch."""
    planning_model = WorldActionPlanningModel(model, published_semantics=True)
    cases = sorted(model_recording.section("planning", "mcts"), key=_settings)
    for (*settings, is_repaired), group in groupby(cases, key=_settings):
        batch = list(group)
        result = mcts(
            planning_model,
            _context(model, batch),
            published_semantics=True,
            published_cache=not is_repaired,
            options=TreeOptions(precision="float64"),
            **dict(zip(SETTINGS, settings, strict=True)),
        )
        for row, case in enumerate(batch):
            _assert_decision(result, row, case)
            _assert_simulations(result, row, case)


def _assert_decision(result: SearchResult[SearchTree], row: int, case: dict[str, Any]) -> None:
    tree, root = result.tree, case["root"]
    assert result.visit_counts[row].tolist() == root["visit_count"].tolist()
    assert int(result.action[row]) == case["action"]
    child = tree.children[row, 0]
    for name, column in (("value", tree.score), ("reward", tree.reward)):
        ours = np.where(child == NO_NODE, 0, column[row, child])
        assert_close(f"mcts.{name}", ours, root[name])
    assert_close("mcts.prior", tree.prior[row, 0], root["prior"])


def _assert_simulations(result: SearchResult[SearchTree], row: int, case: dict[str, Any]) -> None:
    """Each simulation made the recorded walk, and found there what was recorded."""
    tree, made = result.tree, {}
    for node in range(1, int(tree.num_nodes[row])):
        walk, above = [], node
        while above > 0:
            walk.insert(0, int(tree.action[row, above]))
            above = int(tree.parent[row, above])
        if tree.visits[row, node] > 0:
            made[tuple(walk)] = node
    walks = [tuple(a for a in walk if a >= 0) for walk in case["simulated_paths"].tolist()]
    assert set(walks) == set(made)
    nodes = [made[walk] for walk in walks]
    # A walk to the depth limit may be made again, and then leaves its row empty.
    assert nodes == [walks.index(walk) + 1 for walk in walks]
    assert_close("mcts.leaf_values", tree.value[row, nodes], case["leaf_values"])
    assert tree.reward[row, nodes].tolist() == case["leaf_rewards"].tolist()
