"""The network as judge of positions in a search by a game's exact rules.

Letters: B positions, A actions.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from agents.search_agent.games import SearchGame
from agents.search_agent.network import ObservationTensors, SearchNetwork
from agents.search_agent.observation import Observation
from datasets.errors import UserError


class NetworkGuide:
    """`agents.games.guides.Guide` by a network; both of its answers come from one evaluation."""

    def __init__(
        self, network: SearchNetwork, game: SearchGame, *, use_policy: bool = True, use_value: bool = True
    ) -> None:
        """Guide by a network.

        Args:
            network: in evaluation mode.
            game: the instance.
            use_policy: without it all actions are alike.
            use_value: without it all positions are worth 0.
        """
        self._network, self._game = network, game
        self._use_policy, self._use_value = use_policy, use_value
        self._positions: np.ndarray | None = None
        self._values = np.empty(0)
        self._logits = np.empty((0, game.num_actions))

    def values(self, states: np.ndarray) -> Float[np.ndarray, " B"]:
        """Expected returns in the game's own unit."""
        self._evaluate(states)
        return self._values

    def prior_logits(self, states: np.ndarray) -> Float[np.ndarray, "B A"]:
        """Logits of the policy."""
        self._evaluate(states)
        return self._logits

    @torch.inference_mode()
    def _evaluate(self, positions: np.ndarray) -> None:
        # A model asks for both answers of the same positions, one after the other.
        if self._positions is not None and np.array_equal(self._positions, positions):
            return
        observation = self._game.observe(positions)
        network = self._network
        _check_sizes(network, observation)
        latent = network.represent(ObservationTensors.of(observation, network.device))
        logits, value = network.predict(latent)
        self._positions = positions.copy()
        correction = network.expectation(value).cpu().numpy().astype(np.float64)
        self._values = (observation.estimate + self._game.value_share * correction) * self._game.unit
        self._logits = logits.cpu().numpy().astype(np.float64)
        if not self._use_policy:
            self._logits = np.zeros_like(self._logits)
        if not self._use_value:
            self._values = np.zeros_like(self._values)


def _check_sizes(network: SearchNetwork, observation: Observation) -> None:
    """Refuse a network that learned from other features than the game has now."""
    config = network.config
    fits = (config.overall_features, config.action_features) == (
        observation.overall.shape[-1],
        observation.actions.shape[-1],
    )
    if not fits:
        raise UserError(
            "the network reads other features than this release of the game has; train it again, or use "
            "the one that comes with the project"
        )
