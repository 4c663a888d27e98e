"""Imagined segments against the model's ordinary forward pass, step by step and without a cache."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch import Tensor

from datasets.errors import UserError
from datasets.segments import Batch
from tests.world_model.loss_loops import ACTIONS, FRAME, LENGTH, small_batch, small_model
from world_model.imagination import ImaginationConfig, imagine
from world_model.losses import LossConfig, compute_loss
from world_model.world_action_model import WorldActionModel

ROWS = ((0, 5, True), (0, 5, False), (0, 3, True), (1, 4, False), (2, 3, True), (3, 2, False))
USABLE = [0, 1, 3, 4]  # rows whose last three steps are real
HORIZON = 2
NUM_REAL = LENGTH - HORIZON
DISCOUNT = 0.9


def always_ending(model: WorldActionModel, ends: bool) -> WorldActionModel:
    """The same model, sure that every step ends the episode, or that none does."""
    with torch.no_grad():
        list(model.head_ends.parameters())[-1].copy_(
            torch.tensor([-100.0, 100.0] if ends else [100.0, -100.0])
        )
    return model


def imagined_from(model: WorldActionModel, batch: Batch, beam_width: int = 3, **settings) -> Batch:
    config = ImaginationConfig(beam_width=beam_width, horizon=HORIZON)
    imagined = imagine(model, batch, config, discount=DISCOUNT, **settings)
    assert imagined is not None
    return imagined


@torch.no_grad()
def one_step(model: WorldActionModel, sequence: list[int], task_id: Tensor) -> tuple[int, bool, list[int]]:
    """Reward, end and next frame after a sequence that closes with an action."""
    sequence = list(sequence)
    output = model(torch.tensor([sequence]), task_id)
    reward, is_end = int(output.logits_rewards[0, -1].argmax()) - 1, bool(output.logits_ends[0, -1].argmax())
    frame = []
    for _ in range(FRAME):
        frame.append(
            int(model(torch.tensor([sequence + frame]), task_id).logits_observations[0, -1].argmax())
        )
    return reward, is_end, frame


@torch.no_grad()
def legal_values(model: WorldActionModel, sequence: list[int], batch: Batch, row: int) -> Tensor:
    """Values after a sequence that closes with a frame; -inf at illegal actions."""
    output = model(torch.tensor([sequence]), batch.task_id[row : row + 1])
    values = model.q_values(output.logits_q)[0, -1]
    return values.masked_fill(~batch.legal_mask[row], -torch.inf)


def sequence_up_to(batch: Batch, row: int, step: int) -> list[int]:
    """Tokens of a segment up to the frame of a step."""
    blocks = torch.cat([batch.tokens[row], batch.actions[row, :, None]], dim=-1)
    return blocks.flatten()[: (step + 1) * (FRAME + 1) - 1].tolist()


def test_real_steps_are_kept_and_imagined_ones_are_what_the_model_predicts():
    model, batch = always_ending(small_model(), False), small_batch(ROWS)
    imagined = imagined_from(model, batch)
    assert imagined.mask.all()
    assert not imagined.ends.any()
    assert torch.equal(imagined.task_id, batch.task_id[USABLE])
    assert torch.equal(imagined.legal_mask, batch.legal_mask[USABLE])
    assert torch.equal(imagined.tokens[:, :NUM_REAL], batch.tokens[USABLE][:, HORIZON:])
    assert torch.equal(imagined.actions[:, : NUM_REAL - 1], batch.actions[USABLE][:, HORIZON:-1])
    assert torch.equal(imagined.rewards[:, : NUM_REAL - 1], batch.rewards[USABLE][:, HORIZON:-1])
    for row in range(len(USABLE)):
        for step in range(NUM_REAL - 1, LENGTH - 1):
            action = int(imagined.actions[row, step])
            assert imagined.legal_mask[row, action]
            sequence = [*sequence_up_to(imagined, row, step), action]
            reward, _, frame = one_step(model, sequence, imagined.task_id[row : row + 1])
            assert reward == int(imagined.rewards[row, step])
            assert frame == imagined.tokens[row, step + 1].tolist()
        values = legal_values(model, sequence_up_to(imagined, row, LENGTH - 1), imagined, row)
        assert int(imagined.actions[row, -1]) == int(values.argmax())
        assert imagined.rewards[row, -1] == 0
        total = float(values.max())
        for step in range(LENGTH - 1, -1, -1):
            total = total if step == LENGTH - 1 else float(imagined.rewards[row, step]) + DISCOUNT * total
            assert float(imagined.returns[row, step]) == pytest.approx(total, abs=1e-4)


def test_a_wide_beam_imagines_the_best_of_all_futures():
    model, batch = always_ending(small_model(), False), small_batch(ROWS[:2])
    imagined = imagined_from(model, batch, beam_width=ACTIONS**HORIZON)
    for row in range(2):
        start = sequence_up_to(imagined, row, NUM_REAL - 1)
        legal = [a for a in range(ACTIONS) if batch.legal_mask[row, a]]
        scores = {}
        for path in product(legal, repeat=HORIZON):
            sequence, score = list(start), 0.0
            for i, action in enumerate(path):
                reward, _, frame = one_step(model, [*sequence, action], batch.task_id[row : row + 1])
                sequence += [action, *frame]
                score += DISCOUNT**i * reward
            scores[path] = score + DISCOUNT**HORIZON * float(legal_values(model, sequence, batch, row).max())
        chosen = tuple(imagined.actions[row, NUM_REAL - 1 : -1].tolist())
        assert scores[chosen] == pytest.approx(max(scores.values()), abs=1e-4)


def test_a_predicted_end_closes_the_segment():
    model, batch = always_ending(small_model(), True), small_batch(ROWS)
    imagined = imagined_from(model, batch)
    assert imagined.mask.tolist() == [[True] * NUM_REAL + [False] * HORIZON] * len(USABLE)
    assert imagined.ends.tolist() == [[0] * (NUM_REAL - 1) + [1] + [0] * HORIZON] * len(USABLE)
    for padded in (imagined.tokens, imagined.actions, imagined.rewards, imagined.returns):
        assert not padded[:, NUM_REAL:].any()
    torch.testing.assert_close(imagined.returns[:, NUM_REAL - 1], imagined.rewards[:, NUM_REAL - 1])


@pytest.mark.parametrize("ends", [False, True])
def test_the_published_alignment(ends):
    model, batch = always_ending(small_model(), ends), small_batch(ROWS)
    imagined = imagined_from(model, batch, published_semantics=True)
    own = imagined_from(always_ending(small_model(), False), batch)
    assert imagined.mask.all()
    assert not imagined.ends.any()
    assert torch.equal(imagined.tokens, own.tokens)
    for name in ("actions", "rewards"):
        values, real = getattr(imagined, name), getattr(batch, name)[USABLE]
        planned = getattr(own, name)[:, NUM_REAL - 1 : -1]
        assert torch.equal(values, torch.cat([real[:, HORIZON + 1 :], planned, planned[:, -1:]], dim=1))


def test_rows_without_enough_real_steps_are_passed_over():
    model = small_model()
    assert (
        imagine(model, small_batch(((0, 3, True), (0, 2, False))), ImaginationConfig(), discount=0.9) is None
    )
    mixed = imagined_from(model, small_batch(ROWS))
    assert len(mixed.mask) == len(USABLE)


def test_imagining_in_training_mode_uses_no_dropout_and_returns_to_it():
    model, batch = small_model().train(), small_batch(ROWS)
    imagined = imagined_from(model, batch)
    assert model.training
    assert torch.equal(imagined.returns, imagined_from(model.eval(), batch).returns)
    assert not model.training


def test_imagining_amid_training_in_bfloat16_is_exact():
    model, batch = small_model(), small_batch(ROWS)
    with torch.autocast("cpu", torch.bfloat16):
        imagined = imagined_from(model, batch)
    exact = imagined_from(model, batch)
    assert torch.equal(imagined.tokens, exact.tokens)
    assert torch.equal(imagined.returns, exact.returns)


@pytest.mark.parametrize("ends", [False, True])
def test_imagined_segments_train_the_q_head(ends):
    model, batch = always_ending(small_model(), ends), small_batch(ROWS)
    imagined = imagined_from(model, batch)
    for td_target in ("one_step", "n_step", "monte_carlo"):
        output = compute_loss(
            model, batch, LossConfig(penalty="combo", td_target=td_target), train_q=True, imagined=imagined
        )
        output.total.backward()
        assert output.total.isfinite()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_what_cannot_be_imagined_is_named():
    model, batch = small_model(), small_batch(ROWS)
    with pytest.raises(UserError, match="horizon is 5; it must be below the segment length 5"):
        imagine(model, batch, ImaginationConfig(horizon=LENGTH), discount=0.9)
    with pytest.raises(UserError, match="discount"):
        imagine(model, batch, ImaginationConfig(), discount=0.0)
    with pytest.raises(UserError, match="beam_width"):
        replace(ImaginationConfig(), beam_width=0)
