"""The learned dynamics as a planning model: MuZero's search, which knows no rules below its root.

Letters: B roots, M nodes, A actions, D width, N nodes held.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from agents.search_agent.network import Latent, ObservationTensors, SearchNetwork
from agents.search_agent.observation import Observation
from planning.model import Evaluation


class LatentModel:
    """`planning.model.PlanningModel` of a network; states are vectors, actions those they had at the root.

    Below the root every action of the instance counts as legal, as in MuZero: what is legal there is not
    learned. No end is predicted either; a search beyond the end of a game finds what the network makes of it.
    """

    def __init__(self, network: SearchNetwork, num_actions: int) -> None:
        """Make a model that holds no state yet.

        Args:
            network: in evaluation mode.
            num_actions: A, of the instance.
        """
        self._network, self._num_actions = network, num_actions
        self._states: Tensor = torch.empty(0)
        self._root = np.empty(0, dtype=np.int64)
        self._estimate = np.empty(0)
        self._count = 0
        self._roots: Latent | None = None

    @property
    def num_actions(self) -> int:
        """A, of the instance."""
        return self._num_actions

    @torch.inference_mode()
    def root(self, observation: Observation) -> Evaluation:
        """Start from B observed positions of one instance."""
        network = self._network
        self._roots = network.represent(ObservationTensors.of(observation, network.device))
        self._states = torch.empty(
            (max(64, 2 * len(observation)), network.config.width), device=network.device
        )
        self._root = np.empty(len(self._states), dtype=np.int64)
        self._estimate = observation.estimate
        self._count = 0
        zeros = np.zeros(len(observation))
        return self._evaluate(self._roots, np.arange(len(observation)), zeros, observation.legal_mask)

    @torch.inference_mode()
    def step(self, parent: np.ndarray, action: np.ndarray) -> Evaluation:
        """Imagine one action in each of M states."""
        assert self._roots is not None, "root comes before step"
        root = self._root[parent]
        latent = Latent(
            self._states[torch.from_numpy(np.asarray(parent, dtype=np.int64))],
            self._roots.actions[torch.from_numpy(root)],
            self._roots.action_mask[torch.from_numpy(root)],
        )
        after, reward = self._network.step(latent, torch.from_numpy(np.asarray(action, dtype=np.int64)))
        rewards = self._network.expectation(reward).cpu().numpy().astype(np.float64)
        return self._evaluate(after, root, rewards, after.action_mask.cpu().numpy())

    def _evaluate(
        self, latent: Latent, root: np.ndarray, reward: np.ndarray, legal_mask: np.ndarray
    ) -> Evaluation:
        logits, value = self._network.predict(latent)
        correction = self._network.expectation(value).cpu().numpy().astype(np.float64)
        values = self._estimate[root] + correction
        return Evaluation(
            node=self._keep(latent.state, root),
            reward=reward,
            discount=np.ones(len(root)),
            value=values,
            q_value=np.repeat(values[:, None], self._num_actions, axis=1),
            prior_logits=logits.cpu().numpy().astype(np.float64),
            legal_mask=legal_mask,
        )

    def _keep(self, states: Tensor, root: np.ndarray) -> np.ndarray:
        stop = self._count + len(root)
        if stop > len(self._states):
            self._states = torch.cat([self._states, self._states.new_empty(stop, self._states.shape[1])])
            self._root = np.resize(self._root, len(self._states))
        handles = np.arange(self._count, stop)
        self._states[self._count : stop] = states
        self._root[self._count : stop] = root
        self._count = stop
        return handles
