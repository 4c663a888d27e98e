"""The whole loss against loops over single steps, and what padding must never change."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from datasets.errors import UserError
from tests.world_model.loss_loops import (
    FRAME,
    ROWS,
    LoopLoss,
    forward,
    mean,
    padding,
    rows_of,
    small_batch,
    small_model,
    with_garbage,
)
from world_model import losses
from world_model.losses import LossConfig, LossOutput, compute_loss
from world_model.q_losses import ensemble_weights
from world_model.train_config import TrainConfig
from world_model.world_action_model import WorldActionModel


def check(actual: Tensor | None, expected: float) -> None:
    assert actual is not None
    assert actual.item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


CONFIGS = (
    LossConfig(),
    LossConfig(td_target="n_step", n_step=3, discount=0.7, penalty="none"),
    LossConfig(td_target="n_step", n_step=9, discount=0.7, double_q=True, cql_weight=0.7),
    LossConfig(td_target="monte_carlo", supervised_weight=0.6),
    LossConfig(double_q=True, penalty="combo"),
    LossConfig(use_rem=True, cql_weight=0.4),
    LossConfig(published_semantics=True, cql_weight=0.4),
    LossConfig(published_semantics=True, penalty="combo"),
)


@pytest.mark.parametrize("distribution", ["c51", "mse"])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_loss_equals_loops_over_steps(config, distribution):
    model, batch, imagined = small_model(distribution), small_batch(), small_batch(ROWS[:1] * 3, seed=5)
    weights = ensemble_weights(3, use_rem=config.use_rem, generator=torch.Generator().manual_seed(4)).tolist()
    world = LoopLoss(model, batch, config, weights).world()
    everything = LoopLoss(model, losses._joined(batch, imagined), config, weights)
    output = compute_loss(
        model,
        batch,
        config,
        train_q=True,
        imagined=imagined,
        generator=torch.Generator().manual_seed(4),
    )
    for name in ("observation", "reward", "end"):
        check(getattr(output.terms, name), mean([loss for loss, _ in world[name]]))
    for name, kind in (
        ("next_token", "observation"),
        ("changed_token", "changed"),
        ("reward",) * 2,
        ("end",) * 2,
    ):
        check(getattr(output.statistics, f"{name}_accuracy"), mean([right for _, right in world[kind]]))
    check(output.terms.td, mean(everything.td()))
    total = config.supervised_weight * sum(
        mean([loss for loss, _ in world[name]]) for name in ("observation", "reward", "end")
    )
    total += mean(everything.td())
    if config.penalty == "none":
        assert output.terms.penalty is None
    else:
        negative, positive = everything.penalty(num_real=len(ROWS))
        check(output.statistics.q_negative, negative)
        check(output.statistics.q_positive, positive)
        check(output.terms.penalty, negative - positive)
        total += config.cql_weight * (negative - positive)
    check(output.total, total)


@pytest.mark.parametrize("distribution", ["c51", "mse"])
def test_a_value_head_learns_the_returns_of_real_play_beside_the_rest(distribution):
    model, batch, imagined = small_model(distribution, value_head=True), small_batch(), small_batch(seed=5)
    config = LossConfig(cql_weight=0.4, supervised_weight=0.6)
    output = compute_loss(model, batch, config, train_q=True, imagined=imagined)
    expected = mean(LoopLoss(model, batch, config, [1 / 3] * 3).state_values())
    check(output.terms.value, expected)
    model.head_value = None
    rest = compute_loss(model, batch, config, train_q=True, imagined=imagined)
    assert rest.terms.value is None
    check(output.total, rest.total.item() + expected)


@pytest.mark.parametrize("distribution", ["c51", "mse"])
@pytest.mark.parametrize("penalty", ["cql", "combo"])
def test_what_turned_out_better_than_expected_is_imitated_more(distribution, penalty):
    model, batch, imagined = small_model(distribution, value_head=True), small_batch(), small_batch(seed=5)
    config = LossConfig(cql_weight=0.4, penalty=penalty, advantage_temperature=0.3)
    loops = LoopLoss(model, losses._joined(batch, imagined), config, [1 / 3] * 3)
    weights = loops.importance(len(ROWS))
    assert min(weights) < 0.1
    assert max(weights) == 20
    negative, positive = loops.penalty(len(ROWS))
    output = compute_loss(model, batch, config, train_q=True, imagined=imagined)
    check(output.terms.penalty, negative - positive)
    check(output.terms.action, output.terms.td.item() + 0.4 * (negative - positive))


def test_values_and_advantages_leave_the_trunk_to_other_losses():
    model, batch = small_model(value_head=True), small_batch()
    output = compute_loss(model, batch, LossConfig(advantage_temperature=0.3), train_q=True)
    for number, alone in ((output.terms.value, model.head_value), (output.terms.penalty, model.head_q)):
        model.zero_grad()
        number.backward(retain_graph=True)
        reached = {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        heads = {name for name in reached if name.startswith("head_")}
        assert heads == {"head_value" if alone is model.head_value else "head_q"}
        assert ("transformer" in reached) == (alone is model.head_q)


def test_the_value_head_learns_what_the_batch_says_it_is_to_learn():
    model, batch = small_model(value_head=True), small_batch()
    other = replace(batch, value_returns=batch.returns.neg())
    first, second = (compute_loss(model, b, LossConfig(), train_q=True).terms for b in (batch, other))
    assert first.value != second.value
    assert first.td == second.td


def test_what_a_value_head_learns_needs_one():
    with pytest.raises(UserError, match=r"value_of is failures, .* give --value-head"):
        TrainConfig(run=Path("runs/x"), value_of="failures")


def test_advantages_need_a_value_head():
    with pytest.raises(ValueError, match="value head"):
        compute_loss(small_model(), small_batch(), LossConfig(advantage_temperature=1.0), train_q=True)
    with pytest.raises(UserError, match=r"advantage_temperature is 0\.5, .* give --value-head"):
        TrainConfig(run=Path("runs/x"), loss=LossConfig(advantage_temperature=0.5))


def test_the_first_stage_is_the_world_part_at_weight_one():
    model, batch = small_model(), small_batch()
    output = compute_loss(model, batch, LossConfig(supervised_weight=0.1), train_q=False)
    terms = output.terms
    assert output.total.item() == pytest.approx((terms.observation + terms.reward + terms.end).item())
    assert terms.td is None
    assert terms.penalty is None
    output.total.backward()
    assert all(parameter.grad is None for parameter in model.head_q.parameters())


def gradients(model: WorldActionModel, output: LossOutput) -> list[Tensor]:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(output.total, parameters, allow_unused=True, materialize_grads=True)
    assert all(gradient.isfinite().all() for gradient in found)
    return list(found)


@pytest.mark.parametrize("td_target", ["one_step", "n_step", "monte_carlo"])
@pytest.mark.parametrize("published_semantics", [False, True])
def test_right_padding_changes_nothing(td_target, published_semantics):
    model, batch = small_model(), small_batch()
    config = LossConfig(td_target=td_target, published_semantics=published_semantics)
    spoiled = with_garbage(batch, padding(batch, "right"))
    clean = compute_loss(model, batch, config, train_q=True)
    dirty = compute_loss(model, spoiled, config, train_q=True)
    assert clean.scalars() == pytest.approx(dirty.scalars(), rel=1e-6)
    for one, other in zip(gradients(model, clean), gradients(model, dirty), strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("td_target", ["one_step", "n_step", "monte_carlo"])
def test_left_padding_changes_nothing_but_through_attention(td_target):
    model, batch = small_model(), small_batch()
    where = padding(batch, "left")
    assert where.any()
    garbage = with_garbage(batch, where)
    # Tokens and actions are seen by the transformer; rewards, ends and returns are not.
    spoiled = replace(garbage, tokens=batch.tokens, actions=batch.actions)
    clean = compute_loss(model, batch, LossConfig(td_target=td_target), train_q=True)
    dirty = compute_loss(model, spoiled, LossConfig(td_target=td_target), train_q=True)
    assert clean.scalars() == dirty.scalars()
    seen = compute_loss(model, garbage, LossConfig(td_target=td_target), train_q=True)
    assert seen.total.item() != clean.total.item()


def test_no_first_token_is_asked_of_padding_unless_published():
    model = small_model()
    # One left-padded row: the only predictions of its first frame are those within the frame.
    batch = small_batch(((4, 1, False),))
    output = forward(model, batch)
    logits = output.logits_observations[0, 4 * FRAME - 1 :]
    each = torch.nn.functional.cross_entropy(logits[:FRAME], batch.tokens[0, 4], reduction="none")
    own = compute_loss(model, batch, LossConfig(), train_q=False)
    published = compute_loss(model, batch, LossConfig(published_semantics=True), train_q=False)
    check(own.terms.observation, each[1:].mean().item())
    check(published.terms.observation, each.mean().item())


def test_a_row_of_one_open_step_does_not_enter_the_td_loss():
    model = small_model()
    config = LossConfig(penalty="none")
    batch = small_batch((*ROWS, (2, 1, False)))
    with_row = compute_loss(model, batch, config, train_q=True)
    without = compute_loss(model, rows_of(batch, slice(len(ROWS))), config, train_q=True)
    assert with_row.terms.td is not None
    assert without.terms.td is not None
    assert with_row.terms.td.item() == pytest.approx(without.terms.td.item(), rel=1e-6)


@pytest.mark.parametrize("distribution", ["c51", "mse"])
def test_a_batch_of_open_single_steps_has_no_td_loss_and_finite_gradients(distribution):
    model = small_model(distribution)
    batch = small_batch(((0, 1, False), (2, 1, False), (4, 1, False)))
    output = compute_loss(model, batch, LossConfig(), train_q=True)
    assert output.terms.td is not None
    assert output.terms.td.item() == 0
    assert math.isnan(output.statistics.changed_token_accuracy.item())
    assert "statistics/changed_token_accuracy" not in output.scalars()
    gradients(model, output)
    returns = compute_loss(model, batch, LossConfig(td_target="monte_carlo"), train_q=True)
    assert returns.terms.td is not None
    assert returns.terms.td.item() > 0


def test_a_batch_of_padding_is_refused():
    model, batch = small_model(), small_batch()
    empty = replace(batch, mask=torch.zeros_like(batch.mask))
    with pytest.raises(UserError, match="the batch is all padding"):
        compute_loss(model, empty, LossConfig(), train_q=False)
    with pytest.raises(UserError, match="the imagined batch is all padding"):
        compute_loss(model, batch, LossConfig(), train_q=True, imagined=empty)


def test_imagined_segments_leave_the_world_part_alone():
    model, batch = small_model(), small_batch()
    alone = compute_loss(model, batch, LossConfig(), train_q=True)
    joined = compute_loss(model, batch, LossConfig(), train_q=True, imagined=small_batch(seed=7))
    for name in ("observation", "reward", "end"):
        check(getattr(joined.terms, name), getattr(alone.terms, name).item())
    assert joined.total.item() != alone.total.item()
    with pytest.raises(ValueError, match="train_q"):
        compute_loss(model, batch, LossConfig(), train_q=False, imagined=batch)


@pytest.mark.parametrize("reaches", [False, True])
def test_the_q_gradient_reaches_the_trunk_only_as_configured(reaches):
    model = small_model(q_gradient_to_trunk=reaches)
    compute_loss(model, small_batch(), LossConfig(supervised_weight=0.0), train_q=True).total.backward()
    assert all(parameter.grad is None for parameter in model.head_q_target.parameters())
    trained = [parameter.grad for parameter in model.head_q.parameters()]
    assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in trained)
    trunk = [parameter.grad for parameter in model.transformer.parameters()]
    assert any(gradient is not None and gradient.abs().sum() > 0 for gradient in trunk) == reaches


def test_chunks_of_logits_change_neither_loss_nor_gradient(monkeypatch):
    model, batch = small_model(), small_batch()
    whole = compute_loss(model, batch, LossConfig(), train_q=True)
    expected = gradients(model, whole)
    monkeypatch.setattr(losses, "OBSERVATION_CHUNK", 7)
    chunked = compute_loss(model, batch, LossConfig(), train_q=True)
    assert chunked.scalars() == pytest.approx(whole.scalars(), rel=1e-6)
    for one, other in zip(gradients(model, chunked), expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("distribution", ["c51", "mse"])
def test_losses_are_computed_in_float32_under_autocast(distribution):
    model, batch = small_model(distribution), small_batch()
    exact = compute_loss(model, batch, LossConfig(), train_q=True)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = compute_loss(model, batch, LossConfig(), train_q=True)
    assert rounded.total.dtype == torch.float32
    assert rounded.total.item() == pytest.approx(exact.total.item(), rel=0.05)
    gradients(model, rounded)


def test_scalars_name_what_was_computed():
    model, batch = small_model(), small_batch()
    first = compute_loss(model, batch, LossConfig(), train_q=False).scalars()
    assert {"loss/total", "loss/observation", "loss/reward", "loss/end"} == {
        name for name in first if name.startswith("loss/")
    }
    second = compute_loss(model, batch, LossConfig(), train_q=True).scalars()
    assert {"loss/td", "loss/penalty", "statistics/q_taken", "statistics/q_negative"} <= second.keys()
    with torch.no_grad():
        next(model.head_ends.parameters()).fill_(torch.nan)
    assert math.isnan(compute_loss(model, batch, LossConfig(), train_q=False).scalars()["loss/end"])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_step", 0),
        ("discount", 1.1),
        ("cql_weight", -1.0),
        ("supervised_weight", -0.1),
        ("advantage_temperature", 0.0),
    ],
)
def test_impossible_settings_are_named(setting, value):
    with pytest.raises(UserError, match=setting):
        LossConfig(**{setting: value})
