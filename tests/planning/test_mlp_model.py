"""The small network: the same numbers for any batch, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from planning import PlanningError, gumbel_muzero, mlp_model, muzero
from planning.mlp_model import MLPModel, MLPWeights

WIDTHS = (12, 20, 12)


def random_weights(seed: int, actions: int = 5, widths: tuple[int, ...] = WIDTHS) -> MLPWeights:
    rng = np.random.default_rng(seed)

    def normal(*shape: int) -> np.ndarray:
        return (rng.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    layers = tuple(normal(*pair) for pair in pairwise(widths))
    return MLPWeights(
        action=normal(actions, widths[1]),
        layers=layers,
        biases=tuple(normal(width) for width in widths[1:]),
        head=normal(widths[0], actions + 2),
        head_bias=normal(actions + 2),
    )


def in_pytorch(weights: MLPWeights, states: np.ndarray, action: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Next states and what the head says of them, as the formula reads."""
    x, embedded = torch.from_numpy(states), torch.from_numpy(weights.action)[torch.from_numpy(action)]
    for layer, bias in zip(weights.layers, weights.biases, strict=True):
        x = torch.relu(x @ torch.from_numpy(layer) + torch.from_numpy(bias) + embedded)
        embedded = torch.zeros(1)
    return x.numpy(), (x @ torch.from_numpy(weights.head) + torch.from_numpy(weights.head_bias)).numpy()


@pytest.mark.parametrize("widths", [WIDTHS, (6, 6), (4, 30, 3, 4)])
@pytest.mark.parametrize("rows", [1, 2, 7, 9, 16, 17, 40])
def test_every_batch_is_the_formula(rows, widths):
    weights = random_weights(0, widths=widths)
    rng = np.random.default_rng(rows)
    observation = rng.normal(size=(3, widths[0])).astype(np.float32)
    model = MLPModel(weights, discount=0.9)
    root = model.root(observation)
    expected = observation @ weights.head + weights.head_bias
    np.testing.assert_allclose(root.prior_logits, expected[:, :-2], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(root.value, expected[:, -2], rtol=1e-4, atol=1e-5)
    assert (root.reward == 0).all()
    assert (root.discount == 1).all()
    states, handles = observation, root.node.copy()
    for _ in range(3):
        parent, action = rng.integers(len(states), size=rows), rng.integers(5, size=rows)
        answer = model.step(handles[parent], action)
        states, expected = in_pytorch(weights, states[parent], action)
        handles = answer.node.copy()
        np.testing.assert_allclose(answer.prior_logits, expected[:, :-2], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(answer.value, expected[:, -2], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(answer.reward, expected[:, -1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(answer.discount, 0.9, rtol=1e-6)


@pytest.mark.parametrize("rows", [1, 3, 4, 7, 32, 33])
def test_a_product_is_the_same_in_pieces(rows, monkeypatch):
    monkeypatch.setattr(mlp_model, "SMALL_PRODUCT", 4 * 5 * 6)
    rng = np.random.default_rng(rows)
    inputs, weight = rng.normal(size=(rows, 5)), rng.normal(size=(5, 6))
    out = np.full((rows, 6), np.nan)
    mlp_model.multiply(inputs, weight, out)
    np.testing.assert_allclose(out, inputs @ weight, rtol=1e-12)


def test_states_stay_valid_while_the_store_grows():
    model = MLPModel(random_weights(1))
    first = model.root(np.ones((1, 12), dtype=np.float32)).node.copy()
    once = model.step(first, np.array([2])).prior_logits.copy()
    for _ in range(200):
        model.step(first, np.array([1]))
    np.testing.assert_array_equal(model.step(first, np.array([2])).prior_logits, once)


def test_searches_find_the_same_without_numba(monkeypatch):
    observation = np.random.default_rng(2).normal(size=(5, 12)).astype(np.float32)
    model = MLPModel(random_weights(2))
    for search in (muzero, gumbel_muzero):
        compiled = search(model, observation, num_simulations=30)
        with monkeypatch.context() as patch:
            patch.setattr(mlp_model, "HAS_NUMBA", False)
            patch.setattr(mlp_model, "rectify", mlp_model.rectify_plainly)
            patch.setattr(mlp_model, "split_head", mlp_model.split_head_plainly)
            plain = search(model, observation, num_simulations=30)
        np.testing.assert_array_equal(compiled.visit_counts, plain.visit_counts)
        np.testing.assert_allclose(compiled.root_value, plain.root_value, rtol=1e-4)


@pytest.mark.parametrize("rows", [1, 9])
def test_a_nan_in_the_network_is_named_by_the_search(rows):
    weights = random_weights(3)
    layer = weights.layers[1].copy()
    layer[3] = np.nan
    model = MLPModel(replace(weights, layers=(weights.layers[0], layer)))
    observation = np.abs(np.random.default_rng(3).normal(size=(rows, 12))).astype(np.float32)
    with pytest.raises(PlanningError, match=r"is nan at root \d, action \d of node \d, depth \d"):
        muzero(model, observation, num_simulations=20)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"biases": ()}, "there are 2 layers and 0 biases"),
        ({"layers": ()}, "there are 0 layers"),
        (
            {"action": np.zeros((5, 3), np.float32)},
            r"action has shape \(5, 3\); it must have shape \(5, 20\)",
        ),
        (
            {"biases": (np.zeros(20, np.float32), np.zeros(3, np.float32))},
            r"biases\[1\] has shape \(3,\); it must have shape \(12,\)",
        ),
        ({"head": np.zeros((12, 5), np.float32)}, r"head has shape \(12, 5\); it must have shape \(12, 7\)"),
        ({"head_bias": np.zeros(5, np.float32)}, r"head_bias has shape \(5,\); it must have shape \(7,\)"),
    ],
)
def test_layers_that_do_not_fit_are_named(change, sentence):
    with pytest.raises(PlanningError, match=sentence):
        replace(random_weights(4), **change)


def test_an_observation_of_another_width_is_named():
    model = MLPModel(random_weights(5))
    with pytest.raises(PlanningError, match=r"observation has shape \(2, 7\); it must have shape \(B, 12\)"):
        model.root(np.zeros((2, 7), dtype=np.float32))
