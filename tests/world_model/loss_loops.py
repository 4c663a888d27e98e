"""A tiny model, tiny batches, and the whole loss of one batch as loops over single numbers."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from typing import Literal

import torch
from torch import Tensor

from datasets.segments import Batch
from world_model.heads import QHeadConfig
from world_model.losses import LossConfig
from world_model.transformer import TransformerConfig
from world_model.world_action_model import ModelOutput, WorldActionConfig, WorldActionModel

LENGTH, FRAME, VOCABULARY, ACTIONS = 5, 4, 11, 6


def small_model(
    distribution: Literal["c51", "mse"] = "c51",
    ensemble_size: int = 3,
    q_gradient_to_trunk: bool = True,
    value_head: bool = False,
) -> WorldActionModel:
    torch.manual_seed(0)
    config = WorldActionConfig(
        transformer=TransformerConfig(layers=1, heads=2, width=16),
        q_head=QHeadConfig(
            ensemble_size=ensemble_size,
            mlp_width=8,
            distribution=distribution,
            num_atoms=7,
            value_min=-3.0,
            value_max=5.0,
        ),
        tokens_per_frame=FRAME,
        vocab_size=VOCABULARY,
        max_blocks=LENGTH,
        num_actions=ACTIONS,
        num_tasks=3,
        q_gradient_to_trunk=q_gradient_to_trunk,
        value_head=value_head,
    )
    model = WorldActionModel(config).eval()
    with torch.no_grad():  # everything away from its symmetric start, the target head unlike the online one
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return model


ROWS = (
    # (first valid step, steps, ends)
    (0, 5, False),
    (0, 5, True),
    (0, 3, True),
    (0, 2, False),
    (2, 3, True),
    (3, 2, False),
    (0, 1, False),
    (4, 1, True),
)


def small_batch(rows: tuple = ROWS, seed: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(seed)

    def integers(high: int, *shape: int) -> Tensor:
        return torch.randint(0, high, shape, generator=generator)

    size = len(rows)
    mask = torch.zeros(size, LENGTH, dtype=torch.bool)
    ends = torch.zeros(size, LENGTH, dtype=torch.int64)
    for row, (first, steps, is_end) in enumerate(rows):
        mask[row, first : first + steps] = True
        ends[row, first + steps - 1] = int(is_end)
    # Few distinct tokens, so that some stay the same from frame to frame.
    tokens = integers(3, size, LENGTH, FRAME) * mask[..., None]
    legal_mask = torch.rand(size, ACTIONS, generator=generator) < 0.5
    legal_mask[:, 2] = True
    returns = torch.randn(size, LENGTH, generator=generator) * mask
    return Batch(
        tokens=tokens,
        actions=torch.where(mask, legal_mask.long().argmax(-1)[:, None], 0),
        rewards=(integers(3, size, LENGTH).float() - 1) * mask,
        ends=ends,
        returns=returns,
        value_returns=returns,
        mask=mask,
        task_id=integers(3, size),
        legal_mask=legal_mask,
    )


def rows_of(batch: Batch, index: Tensor | slice) -> Batch:
    return Batch(*(getattr(batch, field.name)[index] for field in fields(Batch)))


def with_garbage(batch: Batch, where: Tensor) -> Batch:
    """Anything at all in the steps where `where` is True."""
    generator = torch.Generator().manual_seed(9)
    tokens = torch.randint(0, VOCABULARY, batch.tokens.shape, generator=generator)
    actions = torch.randint(0, ACTIONS, batch.actions.shape, generator=generator)
    return replace(
        batch,
        tokens=torch.where(where[..., None], tokens, batch.tokens),
        actions=torch.where(where, actions, batch.actions),
        rewards=torch.where(where, 50.0, batch.rewards),
        ends=torch.where(where, 1, batch.ends),
        returns=torch.where(where, -70.0, batch.returns),
        value_returns=torch.where(where, -70.0, batch.value_returns),
    )


def padding(batch: Batch, side: str) -> Tensor:
    """Steps of padding before (left) or behind (right) the real ones."""
    real = batch.mask.cumsum(1) > 0
    return ~batch.mask & (real if side == "right" else ~real)


@torch.no_grad()
def forward(model: WorldActionModel, batch: Batch) -> ModelOutput:
    sequence = torch.cat([batch.tokens, batch.actions[..., None]], dim=-1).flatten(1)
    return model(sequence, batch.task_id)


class LoopLoss:
    """The loss of one batch, one number at a time, from the model's ordinary forward pass."""

    def __init__(self, model: WorldActionModel, batch: Batch, config: LossConfig, weights: list[float]):
        self.model, self.batch, self.config, self.weights = model, batch, config, weights
        self.output = forward(model, batch)
        self.atoms = model.atoms.tolist()

    def distribution(self, logits_q: Tensor, row: int, t: int, action: int) -> list[float]:
        size = len(self.atoms)
        members = [logits[row, t, action * size : (action + 1) * size].softmax(0) for logits in logits_q]
        return [
            sum(w * float(member[z]) for w, member in zip(self.weights, members, strict=True))
            for z in range(size)
        ]

    def value(self, logits_q: Tensor, row: int, t: int, action: int) -> float:
        if self.model.config.q_head.distribution == "mse":
            pairs = zip(self.weights, logits_q, strict=True)
            return sum(w * float(logits[row, t, action]) for w, logits in pairs)
        probabilities = self.distribution(logits_q, row, t, action)
        return sum(p * z for p, z in zip(probabilities, self.atoms, strict=True))

    def legal(self, row: int) -> list[int]:
        return [a for a in range(ACTIONS) if self.batch.legal_mask[row, a]]

    def world(self) -> dict[str, list[tuple[float, bool]]]:
        """(cross-entropy, right) of every prediction, by kind."""
        batch, found = self.batch, {"observation": [], "changed": [], "reward": [], "end": []}
        for row, t in batch.mask.nonzero().tolist():
            previous = t > 0 and bool(batch.mask[row, t - 1])
            for k in range(FRAME):
                if k == 0 and (t == 0 or not (previous or self.config.published_semantics)):
                    continue
                # K of a block's K + 1 positions predict an observation token: all but the frame's last.
                position = t * FRAME + k - 1
                token = int(batch.tokens[row, t, k])
                result = self.judge(self.output.logits_observations[row, position], token)
                found["observation"].append(result)
                if previous and token != int(batch.tokens[row, t - 1, k]):
                    found["changed"].append(result)
            sign = int(batch.rewards[row, t].sign()) + 1
            found["reward"].append(self.judge(self.output.logits_rewards[row, t], sign))
            found["end"].append(self.judge(self.output.logits_ends[row, t], int(batch.ends[row, t])))
        return found

    @staticmethod
    def judge(logits: Tensor, label: int) -> tuple[float, bool]:
        return -float(logits.log_softmax(0)[label]), int(logits.argmax()) == label

    def target_parts(self, row: int, t: int) -> tuple[float, float, int] | None:
        """Summed reward, factor on the bootstrap, step of the bootstrap."""
        batch, config = self.batch, self.config
        if config.td_target == "monte_carlo":
            return float(batch.returns[row, t]), 0.0, t
        total, factor, step = 0.0, 1.0, t
        for _ in range(config.n_step if config.td_target == "n_step" else 1):
            is_end = bool(batch.ends[row, step])
            if not is_end and (step + 1 == LENGTH or not batch.mask[row, step + 1]):
                break
            total += factor * float(batch.rewards[row, step])
            factor *= config.discount
            if is_end:
                return total, 0.0, step
            step += 1
        return None if step == t else (total, factor, step)

    def td(self) -> list[float]:
        errors = []
        for row, t in self.batch.mask.nonzero().tolist():
            parts = self.target_parts(row, t)
            if parts is not None:
                errors.append(self.td_of_step(row, t, *parts))
        return errors

    def td_of_step(self, row: int, t: int, reward: float, factor: float, step: int) -> float:
        online, target = self.output.logits_q, self.output.logits_q_target
        chooser = online if self.config.double_q else target
        best = max(self.legal(row), key=lambda a: self.value(chooser, row, step, a))
        action = int(self.batch.actions[row, t])
        if self.model.config.q_head.distribution == "mse":
            goal = reward + factor * self.value(target, row, step, best)
            return 0.5 * (self.value(online, row, t, action) - goal) ** 2
        projected = [0.0] * len(self.atoms)
        spacing = self.atoms[1] - self.atoms[0]
        for p, z in zip(self.distribution(target, row, step, best), self.atoms, strict=True):
            place = min(max(reward + factor * z, self.atoms[0]), self.atoms[-1])
            for i, atom in enumerate(self.atoms):
                projected[i] += p * max(0.0, 1 - abs(place - atom) / spacing)
        return self.cross_entropy(projected, self.distribution(online, row, t, action))

    @staticmethod
    def cross_entropy(goal: list[float], predicted: list[float]) -> float:
        return -sum(m * math.log(p + 1e-8) for m, p in zip(goal, predicted, strict=True))

    def state_values(self) -> list[float]:
        """How far the value head is from the return of each step."""
        said, errors = self.output.logits_value, []
        assert said is not None
        for row, t in self.batch.mask.nonzero().tolist():
            earned = float(self.batch.returns[row, t])
            if self.model.config.q_head.distribution == "mse":
                errors.append(0.5 * (self.value(said, row, t, 0) - earned) ** 2)
                continue
            place = min(max(earned, self.atoms[0]), self.atoms[-1])
            spacing = self.atoms[1] - self.atoms[0]
            goal = [max(0.0, 1 - abs(place - atom) / spacing) for atom in self.atoms]
            errors.append(self.cross_entropy(goal, self.distribution(said, row, t, 0)))
        return errors

    def penalty(self, num_real: int) -> tuple[float, float]:
        """What is pushed down and what is pushed up."""
        negative, positive, weights = [], [], self.importance(num_real)
        logits_q = self.output.logits_q
        for (row, t), weight in zip(self.batch.mask.nonzero().tolist(), weights, strict=True):
            actions = list(range(ACTIONS)) if self.config.published_semantics else self.legal(row)
            values = [self.value(logits_q, row, t, a) for a in actions]
            if self.config.published_semantics and self.model.config.q_head.distribution == "mse":
                values = [self.config.cql_weight * float(logits_q[:, row, t, a].sum()) for a in actions]
            negative.append(weight * math.log(sum(math.exp(v) for v in values)))
            if self.config.penalty == "cql" or row < num_real:
                positive.append(weight * self.value(logits_q, row, t, int(self.batch.actions[row, t])))
        return mean(negative), mean(positive)

    def importance(self, num_real: int) -> list[float]:
        """Weight of each step's penalty."""
        temperature, said, weights = self.config.advantage_temperature, self.output.logits_value, []
        for row, t in self.batch.mask.nonzero().tolist():
            if temperature is None or row >= num_real:
                weights.append(1.0)
                continue
            assert said is not None
            advantage = float(self.batch.returns[row, t]) - self.value(said, row, t, 0)
            weights.append(min(20.0, math.exp(advantage / temperature)))
        return weights


def mean(values: list) -> float:
    return sum(values) / len(values)
