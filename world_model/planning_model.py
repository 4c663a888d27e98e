"""Planning inside a world-action model: the `PlanningModel` that searches use for Atari.

Letters: B roots, M nodes, T tokens of the longest context, K tokens a frame, A actions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from planning.model import Evaluation, PlanningError
from world_model.decode_engine import DecodeEngine
from world_model.drafting import Drafter
from world_model.frame_decoding import decode_frames
from world_model.tree_cache import Branch, TreeCache
from world_model.world_action_model import WorldActionModel


@dataclass(frozen=True)
class TokenContext:
    """What B environments have seen lately: the observation that a search starts from."""

    tokens: Int[Tensor, "B T"]
    """Blocks of a frame and its action, without the action of the last block; zeros behind."""
    length: Int[Tensor, " B"]
    """Tokens in use: n (K+1) - 1 for n blocks."""
    task_id: Int[Tensor, " B"]
    """Game of each row."""
    legal_mask: Bool[Tensor, "B A"]
    """True where an action is legal in that game."""


@dataclass(frozen=True)
class DecodeCounts:
    """What decoding frames has cost since the planning model was made, or its counts were reset."""

    passes: int = 0
    """Times the weights were read."""
    tokens_fed: int = 0
    """Tokens fed, wrong guesses included."""


@dataclass(frozen=True)
class _Search:
    """Everything kept from one `root` to the next; rows of `frames` are handles."""

    tree: TreeCache
    task_id: Int[np.ndarray, " B"]
    legal_mask: Bool[np.ndarray, "B A"]
    frames: Int[np.ndarray, "M K"]


class WorldActionPlanningModel:
    """States are contexts of real frames followed by imagined ones; a step imagines one frame.

    The predicted sign of the reward is the reward, the most likely token is the next token, and a
    state's value is the Q head's best legal action, or what the value head says if there is one; Q is then
    shifted so that its best legal action has that value (Q = value + advantage). Handles count from 0 in the
    order in which the states are made, roots first.
    """

    def __init__(
        self,
        model: WorldActionModel,
        *,
        discount: float = 0.99,
        published_semantics: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        """Plan in `model`, which must be in evaluation mode; its weights are copied.

        Args:
            model: the network.
            discount: factor on the future at each step.
            published_semantics: leave predicted ends unread, as the published planners do; by
                default the future after a predicted end counts nothing.
            dtype: of weights and products: float32 or bfloat16.
        """
        self.model = model
        self.discount = discount
        self.published_semantics = published_semantics
        self._engine = DecodeEngine(model, dtype)
        self._search: _Search | None = None
        self._drafter = Drafter(model.config.tokens_per_frame, model.config.vocab_size)
        self.counts = DecodeCounts()

    @property
    def num_actions(self) -> int:
        """Size A of the action vocabulary."""
        return self.model.config.num_actions

    @property
    def return_bounds(self) -> tuple[float, float] | None:
        """Bounds of `reward + discount value`: rewards are signs, values mix a distribution's atoms."""
        head = self.model.config.q_head
        if head.distribution == "mse":
            return None
        rounding = 1e-3  # of the mixture's weights, whose sum is 1 only nearly
        least = -1.0 + self.discount * min(head.value_min, 0.0)
        return least - rounding, 1.0 + self.discount * max(head.value_max, 0.0) + rounding

    @property
    def bytes_per_node(self) -> int:
        """Room that the keys and values of one imagined state take.

        Raises:
            PlanningError: no search was begun.
        """
        return self._searched(np.zeros(1, dtype=np.int64)).tree.bytes_per_node

    def reset_counts(self) -> None:
        """Count the cost of decoding from 0 again."""
        self.counts = DecodeCounts()

    @torch.inference_mode()
    def root(self, observation: TokenContext) -> Evaluation:
        """Evaluate B contexts in one pass; rows of different lengths do not affect each other.

        Raises:
            PlanningError: a length is not that of whole blocks without the last action, or exceeds
                the model's longest sequence, or the model is in training mode.
        """
        if self.model.training:
            raise PlanningError("the model is in training mode; call its eval() before planning")
        self._check_lengths(observation)
        device = self._engine.device
        length, task_id = observation.length.to(device), observation.task_id.to(device)
        tokens = observation.tokens[:, : int(observation.length.max())].to(device)
        prefix = self._engine.prefill(tokens, length, task_id)
        rows = torch.arange(len(tokens), device=device)[:, None]
        places = torch.arange(-self.model.config.tokens_per_frame, 0, device=device)
        self._search = _Search(
            tree=TreeCache(prefix.keys, prefix.values, length, self.model.config.block_tokens),
            task_id=observation.task_id.cpu().numpy(),
            legal_mask=observation.legal_mask.cpu().numpy(),
            frames=tokens[rows, length[:, None] + places].cpu().numpy(),
        )
        zeros = np.zeros(len(tokens))
        return self._evaluation(np.arange(len(tokens)), zeros, np.ones_like(zeros), prefix.seen)

    @torch.inference_mode()
    def step(self, parent: Int[np.ndarray, " M"], action: Int[np.ndarray, " M"]) -> Evaluation:
        """Imagine one action in each of M states, all in one batch.

        Raises:
            PlanningError: a handle is not of the present search, or a path would exceed the model's
                longest sequence.
        """
        search = self._searched(parent)
        tree = search.tree
        self._check_depth(tree, parent)
        root = tree.root[parent]
        branch = Branch(tree, parent)
        position = tree.context_length[root] + tree.block_tokens * tree.depth[parent]
        frames = search.frames[parent]
        decoded = decode_frames(
            self._engine, branch, action, search.task_id[root], position, self._drafter.draft(frames)
        )
        self._drafter.learn(frames, decoded.tokens, decoded.second_guesses)
        self.counts = DecodeCounts(
            self.counts.passes + decoded.passes, self.counts.tokens_fed + decoded.tokens_fed
        )
        node = tree.add(branch)
        self._search = replace(search, frames=np.concatenate([search.frames, decoded.tokens]))
        cut = decoded.is_end & (not self.published_semantics)
        discount = np.where(cut, 0.0, self.discount)
        return self._evaluation(node, decoded.reward, discount, decoded.seen)

    def observation_tokens(self, nodes: Int[np.ndarray, " M"]) -> Int[np.ndarray, "M K"]:
        """The frame that each state ends with: imagined ones, and for roots the real one.

        Raises:
            PlanningError: a handle is not of the present search.
        """
        return self._searched(nodes).frames[nodes]

    def _evaluation(
        self, node: np.ndarray, reward: np.ndarray, discount: np.ndarray, seen: Tensor
    ) -> Evaluation:
        q_value = self._engine.q_values(seen).cpu().numpy()
        search = self._searched(node)
        legal_mask = search.legal_mask[search.tree.root[node]]
        value = np.where(legal_mask, q_value, -np.inf).max(axis=1)
        said = self._engine.values(seen)
        if said is not None:
            best, value = value, said.cpu().numpy()
            q_value = q_value + (value - best)[:, None]
        return Evaluation(
            node=node,
            reward=reward,
            discount=discount,
            value=value,
            q_value=q_value,
            prior_logits=q_value,
            legal_mask=legal_mask,
        )

    def _searched(self, nodes: np.ndarray) -> _Search:
        """The present search, if these are its handles."""
        search = self._search
        if search is None or ((nodes < 0) | (nodes >= search.tree.num_nodes)).any():
            raise PlanningError("unknown node; call root first, and use only handles made since")
        return search

    def _check_lengths(self, context: TokenContext) -> None:
        config = self.model.config
        for row, length in enumerate(context.length.tolist()):
            blocks, rest = divmod(length + 1, config.block_tokens)
            if rest or not 1 <= blocks <= config.max_blocks:
                raise PlanningError(
                    f"context {row} has {length} tokens; give 1 to {config.max_blocks} blocks of "
                    f"{config.block_tokens} tokens, the last without its action"
                )

    def _check_depth(self, tree: TreeCache, parent: np.ndarray) -> None:
        context = (tree.context_length + 1) // tree.block_tokens
        blocks, depth = context[tree.root[parent]], tree.depth[parent] + 1
        longest, limit = (blocks + depth).argmax(), self.model.config.max_blocks
        if blocks[longest] + depth[longest] > limit:
            raise PlanningError(
                f"a context of {blocks[longest]} blocks and {depth[longest]} imagined ones exceed the "
                f"model's max_blocks of {limit}; shorten the context or the horizon"
            )
