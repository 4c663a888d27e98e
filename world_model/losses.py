"""The losses of the world-action model: its world part and its action-value part.

Letters: B segments, L steps of a segment, K tokens a frame, P = K + 1 tokens of a block, D width,
V observation vocabulary, A actions, Q ensemble members, Z atoms, N chosen positions, I inputs of a Q head.

Method: Cheng et al. 2024, "Scaling Offline Model-Based RL via Jointly-Optimized World-Action Model
Pretraining" (arXiv 2410.00564).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from datasets.errors import UserError
from datasets.segments import Batch
from world_model.loss_counts import LossCounts, next_in_sequence, predicted_tokens
from world_model.q_losses import (
    QEstimate,
    advantage_weights,
    at_action,
    ensemble_weights,
    estimate_q,
    masked_mean,
    soft_maximum,
    td_error,
)
from world_model.targets import Backup, monte_carlo_backup, n_step_backup
from world_model.world_action_model import WorldActionModel

OBSERVATION_CHUNK = 16384
"""Positions whose observation logits exist at once: 128 MiB in float32 with 2048 tokens."""


@dataclass(frozen=True)
class LossConfig:
    """What the model is trained towards."""

    td_target: Literal["one_step", "n_step", "monte_carlo"] = "one_step"
    """Target of Q: a reward and a bootstrap, several rewards and a bootstrap, or the episode's return."""
    n_step: int = 3
    """Rewards summed before the bootstrap, with n_step targets."""
    discount: float = 0.99
    """Factor on the future at each step; the returns in a batch must be made with the same."""
    penalty: Literal["none", "cql", "combo"] = "cql"
    """Push Q down everywhere and up at the data's actions; with combo, imagined data is not pushed up."""
    cql_weight: float = 0.1
    """Weight of that penalty."""
    cql_temperature: float = 1.0
    """The penalty pushes until the data's actions lead by a few of these: low ones leave values truer. With
    weight 1 / temperature its gradient is that of cloning by Q / temperature."""
    advantage_temperature: float | None = None
    """Weigh each real step's penalty by exp((return - value) / this), at most 20: what turned out better than
    the value head expected is imitated more (advantage-weighted regression: Peng et al., 2019). None weighs
    all steps alike."""
    supervised_weight: float = 0.1
    """Weight of the world part beside the Q loss; it is 1 while the Q head is not trained."""
    use_rem: bool = False
    """Average the Q ensemble with random weights, drawn anew at each step (random ensemble mixture)."""
    double_q: bool = False
    """Let the online head choose the action whose target value is bootstrapped from (double Q-learning)."""
    published_semantics: bool = False
    """Reproduce the published losses with their flaws; `compute_loss` lists them."""

    def __post_init__(self) -> None:
        if self.n_step < 1:
            raise UserError(f"n_step is {self.n_step}; it must be at least 1")
        if not 0.0 <= self.discount <= 1.0:
            raise UserError(f"discount is {self.discount}; it must lie between 0 and 1")
        for name in ("cql_weight", "supervised_weight"):
            if getattr(self, name) < 0:
                raise UserError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if not self.cql_temperature > 0:
            raise UserError(f"cql_temperature is {self.cql_temperature}; it must be above 0")
        if self.advantage_temperature is not None and not self.advantage_temperature > 0:
            raise UserError(
                f"advantage_temperature is {self.advantage_temperature}; it must be above 0, or not given"
            )
        if self.published_semantics and self.cql_temperature != 1:
            raise UserError(
                f"cql_temperature is {self.cql_temperature}, but published_semantics knows none; set it to 1"
            )


@dataclass(frozen=True)
class LossTerms:
    """The parts of a loss before they are weighted; None where a part is not computed."""

    observation: Float[Tensor, ""]
    """Cross-entropy of the next observation token, in nats."""
    reward: Float[Tensor, ""]
    """Cross-entropy of the reward's sign, in nats."""
    end: Float[Tensor, ""]
    """Cross-entropy of the end of the episode, in nats."""
    td: Float[Tensor, ""] | None = None
    """Distance of the Q head from its target: cross-entropy (c51) or half the squared error (mse)."""
    penalty: Float[Tensor, ""] | None = None
    """Conservative penalty, `q_negative - q_positive`."""
    value: Float[Tensor, ""] | None = None
    """Distance of the value head from what it learns of real play, as that of the Q head."""
    action: Float[Tensor, ""] | None = None
    """What the Q head is trained towards: the first of the two and the weighted second."""


@dataclass(frozen=True)
class LossStatistics:
    """Figures to watch, without gradient; None where not computed, NaN where there was nothing to count."""

    next_token_accuracy: Float[Tensor, ""]
    """Share of observation tokens whose likeliest prediction is right."""
    changed_token_accuracy: Float[Tensor, ""]
    """The same among tokens that differ from the one at the same place of the frame before."""
    reward_accuracy: Float[Tensor, ""]
    """Share of steps whose reward's sign is predicted."""
    end_accuracy: Float[Tensor, ""]
    """Share of steps of which it is predicted whether they end the episode."""
    q_taken: Float[Tensor, ""] | None = None
    """Mean value of the actions taken."""
    q_negative: Float[Tensor, ""] | None = None
    """What the penalty pushes down: the mean soft maximum of the values, weighted as the penalty is."""
    q_positive: Float[Tensor, ""] | None = None
    """What the penalty pushes up: the mean value of the data's actions, weighted likewise."""


@dataclass(frozen=True)
class LossOutput:
    """The number to minimise and what it is made of."""

    total: Float[Tensor, ""]
    """The weighted sum, differentiable."""
    terms: LossTerms
    """Its parts."""
    statistics: LossStatistics
    """What else the same pass shows."""

    def named(self) -> dict[str, Tensor]:
        """Everything computed, by its name in a log."""
        named: dict[str, Tensor | None] = {"loss/total": self.total}
        for group, part in (("loss", self.terms), ("statistics", self.statistics)):
            named |= {f"{group}/{field.name}": getattr(part, field.name) for field in fields(part)}
        return {name: value.detach().float() for name, value in named.items() if value is not None}

    def scalars(self) -> dict[str, float]:
        """Everything for a log, in one copy from the device; what was not computed or counted is left out."""
        computed = self.named()
        return counted(dict(zip(computed, torch.stack(list(computed.values())).tolist(), strict=True)))


def counted(scalars: Mapping[str, float]) -> dict[str, float]:
    """Scalars without the shares of nothing; a loss that is not a number must be seen."""
    return {name: value for name, value in scalars.items() if "loss" in name or value == value}


def compute_loss(
    model: WorldActionModel,
    batch: Batch,
    config: LossConfig,
    *,
    train_q: bool,
    imagined: Batch | None = None,
    generator: Generator | None = None,
    counts: LossCounts | None = None,
) -> LossOutput:
    """The loss of one optimisation step.

    Stage 1 (`train_q` false) is `observation + reward + end`. Stage 2 is
    `supervised_weight (observation + reward + end) + td + cql_weight penalty`, and `+ value` where the model
    has a value head; with `advantage_temperature` the penalty is a weighted mean.

    With `config.published_semantics` three flaws of the published program are reproduced: the penalty
    counts illegal actions; with mse heads its soft maximum is that of the ensemble's sum times
    `cql_weight`; and the first token after padding counts as a prediction made from padding.

    Args:
        model: in the mode wanted; its `q_gradient_to_trunk` says how far the Q loss reaches.
        batch: real segments.
        config: which targets and which penalty.
        train_q: join the Q head.
        imagined: segments of the same length, for the Q head alone.
        generator: on the CPU; where `use_rem` draws from.
        counts: what to divide by, if the batch is a part of a larger one; by default its own counts.

    Raises:
        UserError: a batch has no real step.
        ValueError: imagined segments without `train_q`, `use_rem` without a generator, or
            `advantage_temperature` without a value head.
    """
    if imagined is not None and not train_q:
        raise ValueError("imagined segments train the Q head alone; they need train_q")
    if config.advantage_temperature is not None and model.head_value is None:
        raise ValueError("advantage_temperature needs a model with a value head")
    for name, part in (("batch", batch), ("imagined batch", imagined)):
        if part is not None and not part.mask.any():
            raise UserError(f"the {name} is all padding; check that the store's episodes have steps")
    counts = counts or count_losses(batch, imagined, config)
    everything = batch if imagined is None else _joined(batch, imagined)
    hidden = _hidden(model, everything)
    num_real = len(batch.mask)
    terms, statistics = _world_part(model, hidden[:num_real], batch, config, counts)
    total = terms.observation + terms.reward + terms.end
    if not train_q:
        return LossOutput(total, terms, statistics)

    seen = _seen_by_q(model, hidden)
    logits = model.head_q(seen)
    with torch.no_grad():
        target_logits = model.head_q_target(seen)
    atoms = model.atoms if model.config.q_head.distribution == "c51" else None
    weights = ensemble_weights(len(logits), use_rem=config.use_rem, generator=generator).to(logits.device)
    online = estimate_q(logits, weights, model.config.num_actions, atoms)
    target = estimate_q(target_logits, weights, model.config.num_actions, atoms)
    backup = make_backup(everything, config)
    errors = td_error(
        online, target, everything.actions, everything.legal_mask, backup, atoms, double_q=config.double_q
    )
    td = masked_mean(errors, backup.mask, counts.backups)
    total = config.supervised_weight * total + td
    taken = at_action(online.values, everything.actions)
    statistics = replace(statistics, q_taken=masked_mean(taken, everything.mask, counts.all_steps).detach())
    importance = torch.ones_like(taken)
    if model.head_value is not None:
        # Few returns come beside many frames: a trunk that learned from them would learn them by heart.
        said = estimate_q(model.head_value(seen[:num_real].detach()), weights, 1, atoms)
        value = _value_loss(said, batch, atoms, counts)
        total, terms = total + value, replace(terms, value=value)
        if config.advantage_temperature is not None:
            advantage = batch.value_returns - said.values.squeeze(-1).detach()
            importance[:num_real] = advantage_weights(advantage, config.advantage_temperature)
    if config.penalty == "none":
        return LossOutput(total, replace(terms, td=td, action=td), statistics)

    pushed_down = importance * _pushed_down(online, logits, everything, config)
    pushed_up = importance * taken
    negative = masked_mean(pushed_down, everything.mask, counts.all_steps)
    positive = masked_mean(pushed_up, everything.mask, counts.all_steps)
    if config.penalty == "combo":
        positive = masked_mean(pushed_up[:num_real], batch.mask, counts.steps)
    penalty = negative - positive
    return LossOutput(
        total + config.cql_weight * penalty,
        replace(terms, td=td, penalty=penalty, action=td + config.cql_weight * penalty),
        replace(statistics, q_negative=negative.detach(), q_positive=positive.detach()),
    )


def make_backup(batch: Batch, config: LossConfig) -> Backup:
    """The targets that a configuration asks for."""
    if config.td_target == "monte_carlo":
        return monte_carlo_backup(batch.returns, batch.mask)
    num_steps = config.n_step if config.td_target == "n_step" else 1
    return n_step_backup(batch.rewards, batch.ends, batch.mask, discount=config.discount, num_steps=num_steps)


def count_losses(batch: Batch, imagined: Batch | None, config: LossConfig) -> LossCounts:
    """What the means of `compute_loss` are taken over."""
    labels, changed = predicted_tokens(batch, published_semantics=config.published_semantics)
    everything = batch if imagined is None else _joined(batch, imagined)
    return LossCounts(
        labels=labels.sum(),
        changed=changed.sum(),
        steps=batch.mask.sum(),
        all_steps=everything.mask.sum(),
        backups=make_backup(everything, config).mask.sum(),
    )


def next_token_losses(
    head: nn.Module, hidden: Float[Tensor, "N D"], tokens: Int[Tensor, "N"]
) -> tuple[Float[Tensor, "N"], Bool[Tensor, "N"]]:
    """Cross-entropy of each next token, and whether it is the likeliest one.

    Logits are made `OBSERVATION_CHUNK` positions at a time, and made again for the gradient when there
    is more than one chunk, so that memory does not grow with N times V.
    """

    def chunk_losses(hidden: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        logits = head(hidden).float()
        return functional.cross_entropy(logits, tokens, reduction="none"), logits.argmax(-1) == tokens

    if len(tokens) <= OBSERVATION_CHUNK:
        return chunk_losses(hidden, tokens)
    pairs = zip(hidden.split(OBSERVATION_CHUNK), tokens.split(OBSERVATION_CHUNK), strict=True)
    parts = [checkpoint(chunk_losses, *pair, use_reentrant=False) for pair in pairs]
    return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])


def _world_part(
    model: WorldActionModel,
    hidden: Float[Tensor, "B L P D"],
    batch: Batch,
    config: LossConfig,
    counts: LossCounts,
) -> tuple[LossTerms, LossStatistics]:
    """Losses of the next frame, the reward and the end, over real steps."""
    wanted, changed = predicted_tokens(batch, published_semantics=config.published_semantics)
    losses, right = next_token_losses(
        model.head_observations,
        rearrange(hidden, "B L P D -> B (L P) D")[:, :-1][wanted],
        next_in_sequence(batch.tokens)[wanted],
    )
    reward_logits = model.head_rewards(hidden[:, :, -1]).float()
    end_logits = model.head_ends(hidden[:, :, -1]).float()
    reward_class = batch.rewards.sign().long() + 1
    terms = LossTerms(
        observation=masked_mean(losses, torch.ones_like(right), counts.labels),
        reward=masked_mean(_cross_entropy(reward_logits, reward_class), batch.mask, counts.steps),
        end=masked_mean(_cross_entropy(end_logits, batch.ends), batch.mask, counts.steps),
    )
    statistics = LossStatistics(
        next_token_accuracy=right.sum() / counts.labels,
        changed_token_accuracy=right[changed[wanted]].sum() / counts.changed,
        reward_accuracy=(reward_logits.argmax(-1) == reward_class)[batch.mask].sum() / counts.steps,
        end_accuracy=(end_logits.argmax(-1) == batch.ends)[batch.mask].sum() / counts.steps,
    )
    return terms, statistics


def _cross_entropy(logits: Float[Tensor, "B L C"], classes: Int[Tensor, "B L"]) -> Float[Tensor, "B L"]:
    return functional.cross_entropy(rearrange(logits, "B L C -> B C L"), classes, reduction="none")


def _hidden(model: WorldActionModel, batch: Batch) -> Float[Tensor, "B L P D"]:
    """Hidden states of each block's tokens, the action last."""
    blocks = torch.cat([batch.tokens, batch.actions.unsqueeze(-1)], dim=-1)
    hidden = model.hidden(rearrange(blocks, "B L P -> B (L P)"), batch.task_id)
    return rearrange(hidden, "B (L P) D -> B L P D", P=blocks.shape[-1])


def _seen_by_q(model: WorldActionModel, hidden: Float[Tensor, "B L P D"]) -> Float[Tensor, "B L I"]:
    """What the Q heads and the value head see of each frame, with a gradient as far as it is to reach."""
    at_frame = model.config.q_head.of_frames(hidden[:, :, :-1])
    return at_frame if model.config.q_gradient_to_trunk else at_frame.detach()


def _value_loss(
    said: QEstimate, batch: Batch, atoms: Float[Tensor, "Z"] | None, counts: LossCounts
) -> Float[Tensor, ""]:
    """How far the value head is from what it learns: a Q loss of a single action, without a bootstrap."""
    backup = monte_carlo_backup(batch.value_returns, batch.mask)
    only = torch.zeros_like(batch.actions)
    legal = torch.ones_like(batch.legal_mask[:, :1])
    errors = td_error(said, said, only, legal, backup, atoms, double_q=False)
    return masked_mean(errors, batch.mask, counts.steps)


def _pushed_down(
    online: QEstimate, logits: Float[Tensor, "Q B L AZ"], batch: Batch, config: LossConfig
) -> Float[Tensor, "B L"]:
    """The penalty's soft maximum in each state."""
    if not config.published_semantics:
        return soft_maximum(online.values, batch.legal_mask, config.cql_temperature)
    is_mse = online.probabilities is None
    values = config.cql_weight * logits.float().sum(0) if is_mse else online.values
    return soft_maximum(values, torch.ones_like(batch.legal_mask))


def _joined(first: Batch, second: Batch) -> Batch:
    parts = (torch.cat([getattr(first, field.name), getattr(second, field.name)]) for field in fields(Batch))
    return Batch(*parts)
