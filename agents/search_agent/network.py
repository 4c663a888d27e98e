"""The search agent's network: representation, dynamics and prediction, for instances of any size.

Letters: B positions, A actions, S context elements, G, F, E numbers of each, D width, Z bins.

Sets are read by small networks applied to each element and pooled by mean and maximum (Zaheer et al. 2017,
"Deep Sets"), so their order and number do not matter. Values and rewards are categorical, as in
Schrittwieser et al. 2020, "Mastering Atari, Go, chess and shogi by planning with a learned model".
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from agents.search_agent.observation import Observation
from datasets.errors import UserError

ABSENT = -1e9
"""A logit that is never chosen and still a number."""


@dataclass(frozen=True)
class SearchNetworkConfig:
    """Size of the search agent's network."""

    overall_features: int
    """G, numbers of the position as a whole."""
    action_features: int
    """F, numbers of an action."""
    context_features: int
    """E, numbers of a context element; 0 if there is no context."""
    width: int = 64
    """D, width of every layer."""
    bins: int = 41
    """Z, bins of values and rewards."""
    value_min: float = -1.0
    """Least return, in the unit of the game's rewards."""
    value_max: float = 1.0
    """Greatest return."""

    def __post_init__(self) -> None:
        if self.bins < 2 or self.value_min >= self.value_max:
            raise UserError(
                f"bins {self.bins} on [{self.value_min}, {self.value_max}] is no support; "
                "use at least 2 bins and value_min below value_max"
            )


@dataclass(frozen=True)
class ObservationTensors:
    """An `Observation` on the network's device."""

    overall: Float[Tensor, "B G"]
    actions: Float[Tensor, "B A F"]
    context: Float[Tensor, "B S E"]
    action_mask: Bool[Tensor, "B A"]
    context_mask: Bool[Tensor, "B S"]

    @staticmethod
    def of(observation: Observation, device: torch.device) -> ObservationTensors:
        """Copy arrays to a device."""
        parts = (
            observation.overall,
            observation.actions,
            observation.context,
            observation.action_mask,
            observation.context_mask,
        )
        return ObservationTensors(*(torch.from_numpy(part).to(device) for part in parts))


@dataclass(frozen=True)
class Latent:
    """What the network makes of B positions."""

    state: Float[Tensor, "B D"]
    """The position."""
    actions: Float[Tensor, "B A D"]
    """Its actions; they stay as they are while the state moves on."""
    action_mask: Bool[Tensor, "B A"]
    """False where an action only fills up."""


class SearchNetwork(nn.Module):
    """Representation, dynamics and prediction."""

    support: Tensor

    def __init__(self, config: SearchNetworkConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.read_overall = _two_layers(config.overall_features, width)
        self.read_action = _two_layers(config.action_features, width)
        self.read_context = _two_layers(config.context_features, width) if config.context_features else None
        pooled = width + 2 * width + (2 * width if config.context_features else 0)
        self.join = nn.Sequential(
            nn.Linear(pooled, width), nn.ReLU(), nn.Linear(width, width), nn.LayerNorm(width)
        )
        self.move = nn.Sequential(nn.Linear(2 * width, width), nn.ReLU(), nn.Linear(width, width))
        self.settle = nn.LayerNorm(width)
        self.policy = _head(3 * width, width, 1)
        self.value = _head(width, width, config.bins)
        self.reward = _head(2 * width, width, config.bins)
        self.register_buffer("support", torch.linspace(config.value_min, config.value_max, config.bins))

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.support.device

    def represent(self, observation: ObservationTensors) -> Latent:
        """Positions as states, actions as vectors."""
        actions = self.read_action(observation.actions)
        parts = [self.read_overall(observation.overall), *_pool(actions, observation.action_mask)]
        if self.read_context is not None:
            parts += _pool(self.read_context(observation.context), observation.context_mask)
        return Latent(self.join(torch.cat(parts, dim=-1)), actions, observation.action_mask)

    def predict(self, latent: Latent) -> tuple[Float[Tensor, "B A"], Float[Tensor, "B Z"]]:
        """Logits of the policy, very low where an action only fills up, and of the value's bins."""
        state = repeat(latent.state, "B D -> B A D", A=latent.actions.shape[1])
        logits = self.policy(torch.cat([state, latent.actions, state * latent.actions], dim=-1))
        logits = rearrange(logits, "B A 1 -> B A").masked_fill(~latent.action_mask, ABSENT)
        return logits, self.value(latent.state)

    def step(self, latent: Latent, action: Int[Tensor, "B"]) -> tuple[Latent, Float[Tensor, "B Z"]]:
        """The learned dynamics: the state after an action, and logits of the reward's bins."""
        chosen = latent.actions[torch.arange(len(action), device=action.device), action]
        moved = torch.cat([latent.state, chosen], dim=-1)
        state = self.settle(latent.state + self.move(moved))
        return Latent(state, latent.actions, latent.action_mask), self.reward(moved)

    def expectation(self, logits: Float[Tensor, "B Z"]) -> Float[Tensor, "B"]:
        """Mean of a categorical distribution over the support."""
        return logits.softmax(dim=-1) @ self.support


def two_hot(values: Float[Tensor, "B"], support: Float[Tensor, "Z"]) -> Float[Tensor, "B Z"]:
    """Distributions on an even support whose means are the values, each on two neighbouring bins.

    Values beyond the support are cut to its ends.
    """
    spacing = support[1] - support[0]
    place = ((values - support[0]) / spacing).clamp(0, len(support) - 1)
    low = place.floor().long().clamp_max(len(support) - 2)
    share = place - low
    below = functional.one_hot(low, len(support)) * (1 - share).unsqueeze(-1)
    return below + functional.one_hot(low + 1, len(support)) * share.unsqueeze(-1)


def _two_layers(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())


def _head(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """A head that knows nothing while it is fresh: a uniform policy, a flat distribution."""
    last = nn.Linear(width, outputs)
    nn.init.zeros_(last.weight)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, width), nn.ReLU(), last)


def _pool(elements: Float[Tensor, "B S D"], mask: Bool[Tensor, "B S"]) -> list[Float[Tensor, "B D"]]:
    """Mean and maximum over a set of which some elements only fill up; 0 for an empty set."""
    present = mask.unsqueeze(-1)
    counted = present.sum(dim=1).clamp_min(1)
    # Elements are outputs of a rectifier, so 0 is no larger than any.
    kept = elements * present
    largest = kept.amax(dim=1) if elements.shape[1] else torch.zeros_like(kept.sum(dim=1))
    return [kept.sum(dim=1) / counted, largest]
