"""Tree searches against the recorded searches of mctx, every node of every tree.

The recordings are a folder with a `manifest.json` that lists `cases`, and one `.npz` for each group.
Each problem is a small table; the searches see it through a `TableModel`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from planning import SearchResult, SearchTree, TreeOptions, gumbel_muzero, muzero, stochastic_muzero
from planning.model import Evaluation
from planning.options import RootNoise
from planning.table_model import TableModel

DEFAULT_RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "parity" / "search"
TREE_INTS = ("parents", "action_from_parent", "node_visits", "children_visits")
TREE_FLOATS = ("node_values", "raw_values", "children_values")


@dataclass(frozen=True)
class Case:
    """One recorded batch of problems."""

    folder: Path
    settings: dict[str, Any]
    """Its entry in the manifest."""

    def arrays(self, direction: str) -> dict[str, np.ndarray]:
        """Inputs (`in`) or outputs (`out`) by name."""
        stored = _read(self.folder / self.settings["file"])
        prefix = f"{self.settings['id']}/{direction}/"
        return {name.removeprefix(prefix): array for name, array in stored.items() if name.startswith(prefix)}


@lru_cache(maxsize=2)
def _read(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file: the cases of one file follow each other."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise `recorded` with the cases of the folder that the command line names."""
    if "recorded" not in metafunc.fixturenames:
        return
    named = metafunc.config.getoption("--recordings")
    folder = Path(named) if named else DEFAULT_RECORDINGS
    manifest = folder / "manifest.json"
    listed = json.loads(manifest.read_text()).get("cases", []) if manifest.is_file() else []
    cases: list[Any] = [pytest.param(Case(folder, case), id=case["id"]) for case in listed]
    if not cases:
        reason = f"no recorded searches in {folder}; name their folder with --recordings"
        cases = [pytest.param(None, id="absent", marks=pytest.mark.skip(reason=reason))]
    metafunc.parametrize("recorded", cases)


@dataclass(frozen=True)
class RecordedWorld(TableModel):
    """A table whose roots have a mask of their own: mctx masks actions at the root only."""

    root_mask: np.ndarray | None = None

    def root(self, observation: np.ndarray) -> Evaluation:
        answer = super().root(observation)
        assert self.root_mask is not None
        answer.legal_mask[:] &= self.root_mask
        return answer


def world(recorded: Case, dtype: type) -> tuple[RecordedWorld, np.ndarray]:
    """The problems of a batch as one table, and the states of their roots."""
    given = recorded.arrays("in")
    tables = _stochastic_tables(given) if "chance_logits" in given else _plain_tables(given)
    floats = {name: tables[name].astype(dtype) for name in ("reward", "discount", "value", "prior_logits")}
    num_actions = tables["next_state"].shape[1]
    root_mask = np.zeros((len(given["root_state"]), num_actions), dtype=bool)
    root_mask[:, : given["invalid_actions"].shape[1]] = given["invalid_actions"] == 0
    model = RecordedWorld(
        next_state=tables["next_state"],
        q_value=np.zeros(tables["next_state"].shape, dtype=dtype),
        legal_mask=tables["legal_mask"],
        is_chance=tables["is_chance"] if tables["is_chance"].any() else None,
        root_mask=root_mask,
        reward=floats["reward"],
        discount=floats["discount"],
        value=floats["value"],
        prior_logits=floats["prior_logits"],
    )
    states = len(tables["next_state"]) // len(root_mask)
    return model, np.arange(len(root_mask)) * states + given["root_state"]


def _plain_tables(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    batch, states, actions = given["next_state"].shape
    first = (np.arange(batch) * states)[:, None, None]
    return {
        "next_state": (given["next_state"] + first).reshape(-1, actions),
        "reward": given["reward"].reshape(-1, actions),
        "discount": given["discount"].reshape(-1, actions),
        "value": given["value"].reshape(-1),
        "prior_logits": given["prior_logits"].reshape(-1, actions),
        "legal_mask": np.ones((batch * states, actions), dtype=bool),
        "is_chance": np.zeros(batch * states, dtype=bool),
    }


def _stochastic_tables(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Afterstates become states of their own: S decisions, then S x A chances, for each problem."""
    batch, states, actions, outcomes = given["next_state"].shape
    width, count = max(actions, outcomes), states * (1 + actions)
    first = (np.arange(batch) * count)[:, None, None]

    def table(decision: Any, chance: np.ndarray) -> np.ndarray:
        out = np.zeros((batch, count, width), dtype=np.result_type(decision, chance))
        out[:, :states, :actions] = decision
        out[:, states:, :outcomes] = chance.reshape(batch, -1, outcomes)
        return out.reshape(-1, width)

    afterstates = states + np.arange(states * actions).reshape(1, states, actions)
    shape = given["next_state"].shape
    value = np.concatenate([given["value"], given["afterstate_value"].reshape(batch, -1)], axis=1)
    is_chance = np.broadcast_to(np.arange(count) >= states, (batch, count))
    return {
        "next_state": table(afterstates + first, given["next_state"] + first[..., None]),
        "reward": table(0.0, given["reward"]),
        "discount": table(1.0, given["discount"]),
        "value": value.reshape(-1),
        "prior_logits": table(given["prior_logits"], given["chance_logits"]),
        "legal_mask": table(True, np.ones(shape, dtype=bool)),
        "is_chance": is_chance.reshape(-1),
    }


def search(recorded: Case, options: TreeOptions, temperature: float = 0.0) -> SearchResult[SearchTree]:
    """Run the recorded search with the recorded noise."""
    model, root_state = world(recorded, options.dtype)
    given, settings = recorded.arrays("in"), recorded.settings
    common = {
        "num_simulations": settings["num_simulations"],
        "max_depth": settings["max_depth"],
        "options": options,
    }
    if settings["algo"] == "gumbel_muzero":
        return gumbel_muzero(
            model,
            root_state,
            max_num_considered_actions=settings["max_num_considered_actions"],
            noise=RootNoise(policy=given["root_gumbel"]),
            **settings["qtransform_kwargs"],
            **common,
        )
    width = model.num_actions
    padding = ((0, 0), (0, width - given["dirichlet_noise"].shape[1]))
    puct = stochastic_muzero if settings["algo"] == "stochastic_muzero" else muzero
    return puct(
        model,
        root_state,
        pb_c_init=settings["pb_c_init"],
        pb_c_base=settings["pb_c_base"],
        dirichlet_fraction=settings["dirichlet_fraction"],
        temperature=temperature,
        noise=RootNoise(
            policy=np.pad(given["dirichlet_noise"], padding), choice=np.pad(given["sample_gumbel"], padding)
        ),
        **common,
    )


def trees(recorded: Case, result: SearchResult[SearchTree]) -> dict[str, np.ndarray]:
    """Our trees under the recorded names and conventions."""
    tree, actions = result.tree, recorded.settings["num_actions"]
    visits = np.maximum(tree.edge_visits, 0)
    child = np.maximum(tree.children, 0)
    means = np.take_along_axis(tree.score[:, None, :].repeat(tree.score.shape[1], 1), child, axis=2)
    named = {
        "parents": tree.parent,
        "action_from_parent": tree.action,
        "node_visits": tree.visits,
        "children_visits": visits,
        "node_values": tree.score,
        "raw_values": tree.value,
        "children_values": np.where(visits > 0, means, 0),
    }
    if recorded.settings["algo"] == "stochastic_muzero":
        # The recording numbers outcomes behind the actions, and keeps only the decisions' edges.
        is_decision = tree.depth % 2 == 0
        named["action_from_parent"] = np.where(
            is_decision & (tree.depth > 0), tree.action + actions, tree.action
        )
        for name in ("children_visits", "children_values"):
            named[name] = np.where(is_decision[..., None], named[name], 0)[..., :actions]
    else:
        model, _ = world(recorded, np.float64)
        states = len(model.value) // len(tree.node)
        named["node_state"] = np.where(tree.node >= 0, tree.node % states, tree.node)
    return named


def assert_equal_results(
    recorded: Case, result: SearchResult[SearchTree], rows: np.ndarray, tolerance: float
) -> None:
    """Hold decisions and trees of some problems to the recording."""
    expected, ours, actions = (
        recorded.arrays("out"),
        trees(recorded, result),
        recorded.settings["num_actions"],
    )
    used = expected["node_visits"] > 0
    for name in TREE_INTS + TREE_FLOATS + (("node_state",) if "node_state" in ours else ()):
        mine, theirs = ours[name], expected[name]
        if name == "node_state":
            mine, theirs = np.where(used, mine, 0), np.where(used, theirs, 0)
        _assert_close(name, mine[rows], theirs[rows], 0 if name not in TREE_FLOATS else tolerance)
    visited = expected["visit_counts"] > 0
    q_value = np.where(visited, result.root_q_value[:, :actions], 0)
    pairs = {
        "visit_counts": (result.visit_counts[:, :actions], 0),
        "root_value": (result.root_value, tolerance),
        "qvalues": (q_value, tolerance),
        "action_weights": (result.action_weights[:, :actions], tolerance),
    }
    for name, (mine, allowed) in pairs.items():
        _assert_close(name, mine[rows], expected[name][rows], allowed)


def _assert_close(name: str, mine: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    assert mine.shape == theirs.shape, name
    if tolerance == 0:
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    else:
        np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.parametrize("compiled", [True, False], ids=["compiled", "plain"])
def test_every_tree_in_double_precision(recorded: Case, compiled: bool) -> None:
    options = TreeOptions(precision="float64", mctx_semantics=True, compiled=compiled)
    result = search(recorded, options)
    assert_equal_results(recorded, result, np.arange(recorded.settings["batch_size"]), 1e-9)
    expected = recorded.arrays("out")
    if "action" in expected:
        np.testing.assert_array_equal(result.action, expected["action"])
        return
    decided = expected["action_temperature0"] >= 0
    np.testing.assert_array_equal(result.action[decided], expected["action_temperature0"][decided])
    ties = result.visit_counts.max(axis=1)
    assert (result.visit_counts[np.arange(len(ties)), result.action] == ties).all()
    for temperature in (0.25, 1.0) if compiled else ():
        drawn = search(recorded, options, temperature)
        np.testing.assert_array_equal(drawn.action, expected[f"action_temperature{temperature}"])


def test_trees_in_single_precision(recorded: Case) -> None:
    result = search(recorded, TreeOptions(mctx_semantics=True))
    expected, ours = recorded.arrays("out"), trees(recorded, result)
    same = np.ones(len(result.action), dtype=bool)
    for name in TREE_INTS:
        same &= (ours[name] == expected[name]).reshape(len(same), -1).all(axis=1)
    excused = ~expected["f32_same_tree"] | (expected["min_margin"] < 1e-5)
    assert (same | excused).all(), f"other trees than recorded: {np.flatnonzero(~same & ~excused)}"
    values = expected["node_values"][same]
    extent = float(np.ptp(values)) if values.size else 0.0
    assert_equal_results(recorded, result, np.flatnonzero(same), 1e-4 * max(1.0, extent))
