"""Targets against loops over plain numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from world_model.targets import (
    categorical_projection,
    distribution_target,
    greedy_action,
    monte_carlo_backup,
    n_step_backup,
    scalar_target,
)

ATOMS = torch.linspace(-10, 30, 51)


def segment_rows(seed: int, rows: int, length: int = 8):
    """Random rewards, contiguous masks of every kind of padding, and ends on some last valid steps."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randint(0, length, (rows,), generator=generator)
    last = torch.tensor([int(torch.randint(int(f), length, (1,), generator=generator)) for f in first])
    steps = torch.arange(length)
    mask = (steps >= first[:, None]) & (steps <= last[:, None])
    ends = torch.zeros(rows, length, dtype=torch.int64)
    has_end = torch.rand(rows, generator=generator) < 0.5
    ends[torch.arange(rows), last] = has_end.long()
    rewards = torch.randn(rows, length, generator=generator)
    return rewards, ends, mask


def loop_target(rewards, ends, mask, values, discount, num_steps, t):
    """The target of one step of one row, or None: rewards one by one until an end, the last state or n."""
    if not mask[t]:
        return None
    total, factor, step = 0.0, 1.0, t
    for _ in range(num_steps):
        state_follows = step + 1 < len(mask) and bool(mask[step + 1])
        if not ends[step] and not state_follows:
            break
        total += factor * float(rewards[step])
        factor *= discount
        if ends[step]:
            return total
        step += 1
    return None if step == t else total + factor * float(values[step])


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000), num_steps=st.integers(1, 10), discount=st.sampled_from([0.0, 0.5, 0.99, 1.0])
)
def test_n_step_targets_equal_a_loop(seed, num_steps, discount):
    rewards, ends, mask = segment_rows(seed, rows=6)
    values = torch.randn(6, 8, generator=torch.Generator().manual_seed(seed + 1))
    backup = n_step_backup(rewards, ends, mask, discount=discount, num_steps=num_steps)
    target = scalar_target(backup, values)
    for row in range(6):
        for t in range(8):
            expected = loop_target(rewards[row], ends[row], mask[row], values[row], discount, num_steps, t)
            assert bool(backup.mask[row, t]) == (expected is not None)
            if expected is not None:
                assert float(target[row, t]) == pytest.approx(expected, abs=1e-5)
            else:
                assert float(target[row, t]) == 0


def test_an_end_before_the_last_valid_step_cuts_the_future():
    rewards = torch.tensor([[1.0, 2.0, 4.0]])
    ends = torch.tensor([[0, 1, 0]])
    backup = n_step_backup(rewards, ends, torch.ones(1, 3, dtype=torch.bool), discount=0.5, num_steps=3)
    assert scalar_target(backup, torch.full((1, 3), 100.0)).tolist() == [[2.0, 2.0, 0.0]]
    assert backup.mask.tolist() == [[True, True, False]]


def test_a_row_with_one_open_step_has_no_target_but_one_closed_step_has():
    mask = torch.tensor([[False, True, False], [False, True, False]])
    ends = torch.tensor([[0, 0, 0], [0, 1, 0]])
    backup = n_step_backup(torch.full((2, 3), 3.0), ends, mask, discount=0.9, num_steps=2)
    assert backup.mask.tolist() == [[False, False, False], [False, True, False]]
    assert backup.reward[1, 1] == 3.0
    assert backup.discount[1, 1] == 0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_padding_never_reaches_an_n_step_target(seed):
    rewards, ends, mask = segment_rows(seed, rows=6)
    values = torch.randn(6, 8)
    clean = n_step_backup(rewards, ends, mask, discount=0.9, num_steps=4)
    rewards = torch.where(mask, rewards, 1e6)
    ends = torch.where(mask, ends, 1)
    dirty = n_step_backup(rewards, ends, mask, discount=0.9, num_steps=4)
    spoiled = torch.where(mask, values, torch.nan)
    assert torch.equal(clean.mask, dirty.mask)
    assert torch.equal(scalar_target(clean, values)[clean.mask], scalar_target(dirty, spoiled)[clean.mask])


def test_monte_carlo_gives_every_real_step_its_return():
    returns = torch.tensor([[5.0, 4.0, 3.0], [7.0, 0.0, 0.0]])
    mask = torch.tensor([[True, True, True], [True, False, False]])
    backup = monte_carlo_backup(returns, mask)
    assert torch.equal(backup.mask, mask)
    assert torch.equal(scalar_target(backup, torch.full((2, 3), 100.0)), returns)


def test_the_greedy_action_is_legal():
    q_values = torch.tensor([[[9.0, 1.0, 2.0], [9.0, 3.0, 3.0]]])
    assert greedy_action(q_values, torch.tensor([[False, True, True]])).tolist() == [[2, 1]]


def loop_projection(probabilities, support, atoms):
    """Algorithm 1 of the C51 paper, written out for one distribution."""
    low, high = float(atoms[0]), float(atoms[-1])
    spacing = (high - low) / (len(atoms) - 1)
    projected = [0.0] * len(atoms)
    for probability, place in zip(probabilities.tolist(), support.tolist(), strict=True):
        b = (min(max(place, low), high) - low) / spacing
        lower = min(int(b), len(atoms) - 2)
        projected[lower] += probability * (lower + 1 - b)
        projected[lower + 1] += probability * (b - lower)
    return torch.tensor(projected)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    reward=st.sampled_from([-45.0, -1.0, 0.0, 0.4, 1.0, 45.0]),
    discount=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    num_atoms=st.sampled_from([2, 5, 51]),
)
def test_projection_equals_the_papers_loop(seed, reward, discount, num_atoms):
    atoms = torch.linspace(-10, 30, num_atoms)
    probabilities = torch.randn(num_atoms, generator=torch.Generator().manual_seed(seed)).softmax(0)
    support = reward + discount * atoms
    projected = categorical_projection(probabilities, support, atoms)
    torch.testing.assert_close(projected, loop_projection(probabilities, support, atoms), atol=1e-5, rtol=0)
    assert float(projected.sum()) == pytest.approx(1, abs=1e-5)
    assert float(projected.min()) >= 0
    if float(support.min()) >= -10 and float(support.max()) <= 30:
        mean = float((probabilities * support).sum())
        assert float((projected * atoms).sum()) == pytest.approx(mean, abs=1e-4)


def test_projecting_onto_the_same_atoms_changes_nothing():
    probabilities = torch.randn(3, 4, 51, generator=torch.Generator().manual_seed(0)).softmax(-1)
    projected = categorical_projection(probabilities, ATOMS.expand(3, 4, 51), ATOMS)
    torch.testing.assert_close(projected, probabilities, atol=1e-5, rtol=0)


def test_distribution_targets_take_the_bootstrap_step_and_their_mean_is_the_scalar_target():
    rewards, ends, mask = segment_rows(3, rows=6)
    # Narrow distributions around 5 keep the support inside the atoms, where the mean is kept.
    logits = -((ATOMS - 5) ** 2) + torch.randn(6, 8, 51, generator=torch.Generator().manual_seed(1))
    probabilities = logits.softmax(-1)
    values = (probabilities * ATOMS).sum(-1)
    backup = n_step_backup(rewards, ends, mask, discount=0.9, num_steps=3)
    means = (distribution_target(backup, probabilities, ATOMS) * ATOMS).sum(-1)
    torch.testing.assert_close(
        means[backup.mask], scalar_target(backup, values)[backup.mask], atol=1e-4, rtol=0
    )
