"""Every recorded loss: its terms, its statistics and the gradient of every parameter."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.games import legal_mask_table
from datasets.segments import Batch
from tests.parity.recorded_tokenizers import tokenizer_of
from tests.parity.recordings import Recording, assert_close, note_error
from world_model.losses import LossConfig, LossOutput, compute_loss
from world_model.published import model_from_published, published_names
from world_model.world_action_model import WorldActionModel

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-4
"""Relative to the gradient's norm, both for the norm and for the sum of the entries."""
ROUNDING = 1e-6
"""Share of the whole gradient's norm that rounding may leave where the true gradient is zero, as it is in key
biases, which the softmax cancels."""


def recorded_batch(recorded: dict[str, Tensor]) -> Batch:
    """A recorded batch in our form. Its rewards are raw, and it holds no returns."""
    tokens = recorded["observations"] if "observations" in recorded else recorded["observation_tokens"]
    return Batch(
        tokens=tokens,
        actions=recorded["actions"],
        rewards=recorded["rewards"],
        ends=recorded["ends"],
        returns=torch.zeros_like(recorded["rewards"]),
        value_returns=torch.zeros_like(recorded["rewards"]),
        mask=recorded["mask_padding"],
        task_id=recorded["envs"],
        legal_mask=torch.from_numpy(legal_mask_table())[recorded["envs"]],
    )


def _model(recording: Recording, q_gradient_to_trunk: bool) -> WorldActionModel:
    """A fresh model, so that gradients start from nothing."""
    content = recording.content
    action = content["config"]["action"] | {"q_loss_backwards_wm": q_gradient_to_trunk}
    return model_from_published(content["config"] | {"action": action}, content["state_dict"])


def _run(recording: Recording, settings: dict[str, Any]) -> tuple[WorldActionModel, LossOutput]:
    inputs = recording.section("loss", "inputs")
    config = LossConfig(
        discount=recording.content["config"]["action"]["gamma"],
        penalty=settings["q_penalty"],
        cql_weight=settings["cql_weight"],
        supervised_weight=settings["supervised_weight"],
        published_semantics=True,
    )
    model = _model(recording, settings["q_loss_backwards_wm"])
    output = compute_loss(
        model,
        recorded_batch(inputs[settings["batch"]]),
        config,
        train_q=settings["train_critic"],
        imagined=recorded_batch(inputs["imagine_batch"]) if settings["imagine"] else None,
    )
    return model, output


def _assert_relative(name: str, actual: float, recorded: float, tolerance: float, scale: float) -> None:
    error = abs(actual - recorded) / scale
    assert error <= tolerance, f"{name}: {actual} for {recorded}, relative error {error:.1e}"
    note_error(name, error)


def _assert_losses(output: LossOutput, case: dict[str, Any]) -> None:
    settings, recorded = case["settings"], dict(case["losses"])
    weight = settings["supervised_weight"] if settings["train_critic"] else 1.0
    terms = output.terms
    actual = {
        "loss_obs": weight * terms.observation,
        "loss_rewards": weight * terms.reward,
        "loss_ends": weight * terms.end,
    }
    if terms.td is not None:
        actual["loss_td_error"] = terms.td
    if terms.penalty is not None:
        actual["loss_cql_penalty"] = settings["cql_weight"] * terms.penalty
    assert actual.keys() == recorded.keys()
    for name, value in actual.items():
        _assert_relative(
            f"relative {name}", value.item(), recorded[name], LOSS_TOLERANCE, abs(recorded[name])
        )
    total = case["loss_total"]
    _assert_relative("relative loss_total", output.total.item(), total, LOSS_TOLERANCE, abs(total))

    statistics = {
        "q_value_of_negative_samples": output.statistics.q_negative,
        "q_value_of_positive_samples": output.statistics.q_positive,
    }
    for name, value in statistics.items():
        assert (value is not None) == (name in case["info"])
        if value is not None:
            # A mean of values of either sign may come close to 0: it is held to the tolerance of logits.
            assert_close(name, value.item(), case["info"][name])


def _assert_gradients(model: WorldActionModel, recorded: dict[str, list[float]]) -> None:
    names = published_names(model.config.transformer.layers)
    parameters = dict(model.named_parameters())
    whole = sum(norm**2 for norm, _ in recorded.values()) ** 0.5
    for theirs, ours in names.items():
        gradient = parameters[ours].grad
        assert (gradient is not None) == (theirs in recorded), theirs
        if gradient is None:
            continue
        norm, total = recorded[theirs]
        actual_norm = float(gradient.norm())
        if max(actual_norm, norm) <= ROUNDING * whole:
            continue
        _assert_relative("relative gradient norm", actual_norm, norm, GRADIENT_TOLERANCE, norm)
        _assert_relative("relative gradient sum", float(gradient.sum()), total, GRADIENT_TOLERANCE, norm)


def test_every_recorded_loss(model_recording: Recording) -> None:
    for case in model_recording.section("loss", "cases").values():
        model, output = _run(model_recording, case["settings"])
        _assert_losses(output, case)
        output.total.backward()
        _assert_gradients(model, case["grad_norm_and_sum"])


def test_recorded_frames_have_the_recorded_tokens(model_recording: Recording) -> None:
    """So the recorded loss from frames is the one from tokens checked above."""
    recorded = model_recording.section("loss", "inputs", "batch_frames")
    frames = recorded["observations_u8"]
    task_id = recorded["envs"].repeat_interleave(frames.shape[1])
    tokens = tokenizer_of(model_recording).encode(frames.flatten(0, 1), task_id)
    assert torch.equal(tokens.view_as(recorded["observation_tokens"]), recorded["observation_tokens"])


def test_the_intended_mse_penalty(model_recording: Recording) -> None:
    """By the recording's own account of what it should be: the ensemble's mean, over all actions."""
    cases = model_recording.section("loss", "cases").values()
    intended = [case for case in cases if "loss_cql_penalty_intended" in case]
    if not intended:
        pytest.skip(f"{model_recording.path.name} has c51 heads, whose penalty is as intended")
    for case in intended:
        settings = case["settings"]
        inputs = model_recording.section("loss", "inputs")
        batch = recorded_batch(inputs[settings["batch"]])
        batch = replace(batch, legal_mask=torch.ones_like(batch.legal_mask))
        imagined = recorded_batch(inputs["imagine_batch"]) if settings["imagine"] else None
        if imagined is not None:
            imagined = replace(imagined, legal_mask=torch.ones_like(imagined.legal_mask))
        config = LossConfig(penalty=settings["q_penalty"], cql_weight=settings["cql_weight"])
        model = _model(model_recording, settings["q_loss_backwards_wm"])
        output = compute_loss(model, batch, config, train_q=True, imagined=imagined)
        assert output.terms.penalty is not None
        recorded = case["loss_cql_penalty_intended"]
        _assert_relative(
            "relative loss_cql_penalty_intended",
            settings["cql_weight"] * output.terms.penalty.item(),
            recorded,
            LOSS_TOLERANCE,
            abs(recorded),
        )
