"""What `benchmarks.search` measures: searches on a random table and on a small network, timed in rounds.

Letters: B roots, N simulations, A actions, D width of the network's states.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch

from planning import Evaluation, SearchResult, SearchTree, TreeOptions, gumbel_muzero, muzero
from planning.mlp_model import MLPModel, MLPWeights
from planning.table_model import TableModel, random_table

NUM_ACTIONS, NUM_STATES, WIDTH, DISCOUNT = 18, 1000, 256, 0.97
LARGEST_AT_ONCE = 51_200
"""Simulations times roots; more are searched in groups of this size: 30 MB of trees."""
SHORTEST_ROUND = 0.02
"""Seconds; a search that takes less is repeated within a round."""


@dataclass(frozen=True)
class Case:
    """One search to time."""

    search: str
    """`puct` or `gumbel`."""
    model: str
    """`table`, `mlp`, or `eager`: the network as PyTorch runs it call by call."""
    simulations: int
    batch: int

    @property
    def group(self) -> int | None:
        """Roots to search at a time: as many as leave the trees in the cache, where the model is cheap."""
        whole = self.model != "table" or self.simulations * self.batch <= LARGEST_AT_ONCE
        return None if whole else max(1, LARGEST_AT_ONCE // self.simulations)


@lru_cache(maxsize=1)
def table() -> TableModel:
    """Rewards, values and logits from the unit normal distribution; any state may follow any action."""
    rng = np.random.default_rng(0)
    return random_table(rng, NUM_STATES, NUM_ACTIONS, discount=DISCOUNT, dtype=np.float32)


@lru_cache(maxsize=1)
def network() -> MLPWeights:
    """Two hidden layers of 256 on states of 256."""
    rng = np.random.default_rng(1)

    def layer(inputs: int, outputs: int, gain: float) -> np.ndarray:
        return (rng.normal(size=(inputs, outputs)) * gain / np.sqrt(inputs)).astype(np.float32)

    return MLPWeights(
        action=layer(NUM_ACTIONS, WIDTH, 1.0),
        layers=(layer(WIDTH, WIDTH, 2**0.5), layer(WIDTH, WIDTH, 2**0.5)),
        biases=(np.zeros(WIDTH, np.float32), np.zeros(WIDTH, np.float32)),
        head=layer(WIDTH, NUM_ACTIONS + 2, 1.0),
        head_bias=np.zeros(NUM_ACTIONS + 2, np.float32),
    )


def observation(case: Case) -> np.ndarray:
    """What the B searches start from."""
    if case.model == "table":
        return np.arange(case.batch) % NUM_STATES
    states = np.random.default_rng(2).normal(size=(case.batch, WIDTH))
    return np.maximum(states, 0).astype(np.float32)


def our_search(case: Case, threads: int) -> Callable[[], SearchResult[SearchTree]]:
    """The search as a call without arguments."""
    model = {
        "table": table,
        "mlp": lambda: MLPModel(network(), discount=DISCOUNT),
        "eager": lambda: EagerNetwork(network()),
    }[case.model]()
    # A network's library works in threads of its own, which those of the trees would wait for.
    options = TreeOptions(num_threads=threads if case.model == "table" else 1, max_batch=case.group)
    seen = observation(case)
    if case.search == "puct":
        return lambda: muzero(model, seen, num_simulations=case.simulations, options=options)
    # Without noise, so that other programs grow the same trees.
    return lambda: gumbel_muzero(
        model, seen, num_simulations=case.simulations, gumbel_scale=0.0, options=options
    )


class EagerNetwork:
    """The network as PyTorch code is usually written: one call after another, a new tensor from each."""

    def __init__(self, weights: MLPWeights) -> None:
        self.num_actions = weights.num_actions
        self.action, self.head, self.head_bias = (
            torch.from_numpy(array) for array in (weights.action, weights.head, weights.head_bias)
        )
        self.layers = [torch.from_numpy(layer) for layer in weights.layers]
        self.biases = [torch.from_numpy(bias) for bias in weights.biases]
        self.states = torch.empty(0, WIDTH)

    def root(self, observation: np.ndarray) -> Evaluation:
        self.states, self.used = torch.empty(64 * len(observation), WIDTH), 0
        return self._answer(torch.from_numpy(observation), discount=1.0)

    @torch.inference_mode()
    def step(self, parent: np.ndarray, action: np.ndarray) -> Evaluation:
        x = self.states[torch.from_numpy(parent)]
        embedded = self.action[torch.from_numpy(action)]
        x = torch.relu(torch.addmm(self.biases[0], x, self.layers[0]) + embedded)
        x = torch.relu(torch.addmm(self.biases[1], x, self.layers[1]))
        return self._answer(x, DISCOUNT)

    def _answer(self, states: torch.Tensor, discount: float) -> Evaluation:
        rows = len(states)
        node = np.arange(self.used, self.used + rows)
        if self.used + rows > len(self.states):
            self.states = torch.cat([self.states, torch.empty_like(self.states)])
        self.states[self.used : self.used + rows] = states
        self.used += rows
        out = torch.addmm(self.head_bias, states, self.head).numpy()
        return Evaluation(
            node=node,
            reward=out[:, -1] if discount != 1.0 else np.zeros(rows, dtype=np.float32),
            discount=np.full(rows, discount, dtype=np.float32),
            value=out[:, -2],
            q_value=np.zeros((rows, self.num_actions), dtype=np.float32),
            prior_logits=out[:, :-2],
            legal_mask=np.ones((rows, self.num_actions), dtype=bool),
        )


def time_rounds(calls: Sequence[Callable[[], object]], rounds: int) -> np.ndarray:
    """Seconds of each call, [calls, rounds], taken in turn; each was called before."""
    repeats = []
    for call in calls:
        started = time.perf_counter()
        call()
        repeats.append(max(1, round(SHORTEST_ROUND / (time.perf_counter() - started))))
    seconds = np.zeros((len(calls), rounds))
    for turn in range(rounds):
        for place, (call, repeat) in enumerate(zip(calls, repeats, strict=True)):
            started = time.perf_counter()
            for _ in range(repeat):
                call()
            seconds[place, turn] = (time.perf_counter() - started) / repeat
    return seconds


def bytes_per_node(result: SearchResult[SearchTree], case: Case) -> float:
    """Memory of our trees, the model's states left out."""
    buffers = result.searched.buffers  # pyright: ignore[reportAttributeAccessIssue]
    arrays = (buffers.floats, buffers.handles, buffers.path, buffers.state, buffers.work)
    return sum(array.nbytes for array in arrays) / (case.batch * (case.simulations + 1))


def path_length(case: Case) -> float:
    """Mean number of steps from the root to the states that the simulations added; at most 64 roots."""
    tree = our_search(replace(case, batch=min(case.batch, 64)), 1)().tree
    return float(tree.depth[:, 1:][tree.visits[:, 1:] > 0].mean())
