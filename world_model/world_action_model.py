"""The world-action model: one transformer that predicts the next frame, the reward, the end and Q.

Letters: B rows, T tokens, K tokens a frame, A actions, V observation vocabulary, D width,
Q ensemble members, Z atoms; To, Tr, Tq are the positions a head is evaluated at.

A sequence is made of blocks of K observation tokens and one action token. What a token is depends
on its position alone: position p of a sequence is the action of its block where p mod (K+1) = K.
Positions always count from the first token fed. Method: Cheng et al. 2024, "Scaling Offline
Model-Based RL via Jointly-Optimized World-Action Model Pretraining" (arXiv 2410.00564).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from datasets.errors import UserError
from world_model.heads import QHead, QHeadConfig, classifier_head
from world_model.kv_cache import KVCache
from world_model.transformer import Transformer, TransformerConfig


@dataclass(frozen=True)
class WorldActionConfig:
    """A world-action model; two models with equal configurations have the same tensors."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """The shared trunk."""
    q_head: QHeadConfig = field(default_factory=QHeadConfig)
    """The action-value heads."""
    tokens_per_frame: int = 36
    """Observation tokens of one frame, as the tokenizer makes them."""
    vocab_size: int = 2048
    """Size of the tokenizer's vocabulary."""
    max_blocks: int = 8
    """Longest sequence, in blocks of a frame and an action."""
    num_actions: int = 18
    """Size of the action vocabulary shared by all games."""
    num_tasks: int = 60
    """Number of games the model can tell apart."""
    use_task_embedding: bool = True
    """Add an embedding of the game to every token."""
    q_gradient_to_trunk: bool = True
    """Let the gradient of the Q loss train the transformer as well as the Q head."""
    value_head: bool = False
    """Predict the value of a state apart from Q, from the returns that play earned. A strong conservative
    penalty leaves of Q little but the order of actions; with this head, planners take the level of the values
    from it, and from Q only by how much an action is better than another."""

    def __post_init__(self) -> None:
        for name in ("tokens_per_frame", "vocab_size", "max_blocks", "num_actions", "num_tasks"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} is {getattr(self, name)}; it must be at least 1")

    @property
    def block_tokens(self) -> int:
        """Tokens of a block: a frame and its action."""
        return self.tokens_per_frame + 1

    @property
    def max_tokens(self) -> int:
        """Longest sequence, in tokens."""
        return self.max_blocks * self.block_tokens


@dataclass(frozen=True)
class ModelOutput:
    """What the model says of the tokens fed, each head at its own positions, in order."""

    hidden: Float[Tensor, "B T D"]
    """Hidden states, at all positions."""
    logits_observations: Float[Tensor, "B To V"]
    """The next token, where that is an observation token: all positions p mod (K+1) but K-1."""
    logits_rewards: Float[Tensor, "B Tr 3"]
    """Classes -1, 0, 1 of the reward's sign, at action tokens."""
    logits_ends: Float[Tensor, "B Tr 2"]
    """Whether the episode ends with the step, at action tokens."""
    logits_q: Float[Tensor, "Q B Tq AZ"]
    """Values of the actions at the last token of each frame; the atoms of an action together."""
    logits_q_target: Float[Tensor, "Q B Tq AZ"]
    """The same from the target head, which passes no gradient."""
    logits_value: Float[Tensor, "Q B Tq Z"] | None = None
    """Value of the state at the last token of each frame; None without a value head."""


class WorldActionModel(nn.Module):
    """A transformer over frames and actions with world-model heads and action-value heads."""

    def __init__(self, config: WorldActionConfig) -> None:
        super().__init__()
        self.config = config
        width = config.transformer.width
        self.observation_embedding = nn.Embedding(config.vocab_size, width)
        self.action_embedding = nn.Embedding(config.num_actions, width)
        self.position_embedding = nn.Embedding(config.max_tokens, width)
        self.observation_task_embedding = nn.Embedding(config.num_tasks, width)
        self.action_task_embedding = nn.Embedding(config.num_tasks, width)
        self.transformer = Transformer(config.transformer)
        self.head_observations = classifier_head(width, config.vocab_size)
        self.head_rewards = classifier_head(width, 3)
        self.head_ends = classifier_head(width, 2)
        self.apply(_initialise)
        # The Q heads come after that: their linear layers keep torch's own initialisation.
        seen = config.q_head.inputs(config.tokens_per_frame, width)
        self.head_q = QHead(config.q_head, seen, config.num_actions)
        self.head_q_target = QHead(config.q_head, seen, config.num_actions)
        self.head_q_target.requires_grad_(False)
        self.head_value = QHead(config.q_head, seen, 1) if config.value_head else None
        self.update_target()

    def forward(
        self,
        tokens: Int[Tensor, "B T"],
        task_id: Int[Tensor, " B"],
        cache: KVCache | None = None,
    ) -> ModelOutput:
        """Evaluate every head at its positions of the tokens fed.

        Args:
            tokens: blocks of K observation tokens and an action token; with a cache, any number of
                tokens that continue what it holds.
            task_id: the game of each row.
            cache: tokens fed earlier; takes the new ones in. Not for training.

        Raises:
            ValueError: more than `config.max_tokens` tokens altogether, or a part of a frame for Q heads that
                read whole ones.
        """
        start = cache.length if cache is not None else 0
        hidden = self.hidden(tokens, task_id, cache)
        at_action = hidden[:, self._columns(start, self.config.tokens_per_frame)]
        at_frame = self._q_inputs(hidden, start)
        q_input = at_frame if self.config.q_gradient_to_trunk else at_frame.detach()
        return ModelOutput(
            hidden=hidden,
            logits_observations=self.head_observations(self._before_observations(hidden, start)),
            logits_rewards=self.head_rewards(at_action),
            logits_ends=self.head_ends(at_action),
            logits_q=self.head_q(q_input),
            logits_q_target=self.head_q_target(at_frame.detach()),
            logits_value=None if self.head_value is None else self.head_value(q_input),
        )

    def hidden(
        self,
        tokens: Int[Tensor, "B T"],
        task_id: Int[Tensor, " B"],
        cache: KVCache | None = None,
    ) -> Float[Tensor, "B T D"]:
        """Run the transformer without heads; arguments and errors as in `forward`."""
        start = cache.length if cache is not None else 0
        end = start + tokens.shape[1]
        if end > self.config.max_tokens:
            raise ValueError(f"{end} tokens; the model takes {self.config.max_tokens}")
        position = torch.arange(start, end, device=tokens.device)[None]
        actions = self._columns(start, self.config.tokens_per_frame)
        # An action's number may lie outside the observation vocabulary.
        observations = tokens.clone()
        observations[:, actions] = 0
        embedded = self.embed_observations(observations, task_id, position)
        embedded[:, actions] = self.embed_actions(tokens[:, actions], task_id, position[:, actions])
        return self.transformer(embedded, cache)

    def embed_observations(
        self,
        tokens: Int[Tensor, "B T"],
        task_id: Int[Tensor, " B"],
        position: Int[Tensor, "#B T"],
    ) -> Float[Tensor, "B T D"]:
        """Input embeddings of observation tokens at absolute positions."""
        embedded = self.observation_embedding(tokens) + self.position_embedding(position)
        if self.config.use_task_embedding:
            embedded = embedded + self.observation_task_embedding(task_id)[:, None]
        return embedded

    def embed_actions(
        self,
        tokens: Int[Tensor, "B T"],
        task_id: Int[Tensor, " B"],
        position: Int[Tensor, "#B T"],
    ) -> Float[Tensor, "B T D"]:
        """Input embeddings of action tokens at absolute positions."""
        embedded = self.action_embedding(tokens) + self.position_embedding(position)
        if self.config.use_task_embedding:
            embedded = embedded + self.action_task_embedding(task_id)[:, None]
        return embedded

    @property
    def atoms(self) -> Float[Tensor, " Z"]:
        """Support of the categorical return distribution; float32 whatever the weights are in."""
        head = self.config.q_head
        device = self.position_embedding.weight.device
        return torch.linspace(head.value_min, head.value_max, head.num_atoms, device=device)

    def q_values(self, logits_q: Float[Tensor, "Q *rows AZ"]) -> Float[Tensor, "*rows A"]:
        """Value of each action, unmasked, or of the state (A = 1): the ensemble's mean return, in float32."""
        if self.config.q_head.distribution == "mse":
            return logits_q.float().mean(0)
        logits = rearrange(logits_q, "... (A Z) -> ... A Z", Z=self.config.q_head.num_atoms)
        probabilities = logits.softmax(-1, dtype=torch.float32).mean(0)
        return (probabilities * self.atoms).sum(-1)  # a product would be bfloat16 under autocast

    def update_target(self) -> None:
        """Copy the Q head into the target head."""
        self.head_q_target.load_state_dict(self.head_q.state_dict())

    def new_cache(self, rows: int, capacity: int | None = None) -> KVCache:
        """An empty cache for `rows` rows of `capacity` tokens (`config.max_tokens` if None)."""
        weight = self.position_embedding.weight
        return KVCache(
            layers=self.config.transformer.layers,
            rows=rows,
            heads=self.config.transformer.heads,
            head_width=self.config.transformer.head_width,
            capacity=self.config.max_tokens if capacity is None else capacity,
            device=weight.device,
            dtype=weight.dtype,
        )

    def _columns(self, start: int, place: int) -> slice:
        """Columns of tokens fed from position `start` on that have this place in their block."""
        return slice((place - start) % self.config.block_tokens, None, self.config.block_tokens)

    def _q_inputs(self, hidden: Tensor, start: int) -> Tensor:
        """What the Q heads see of the frames whose last tokens are fed."""
        size = self.config.tokens_per_frame
        last = torch.arange(hidden.shape[1], device=hidden.device)[self._columns(start, size - 1)]
        if self.config.q_head.reads == "last_token":
            return hidden[:, last]
        if (last < size - 1).any():
            raise ValueError("the Q heads read whole frames; feed the tokens of a frame at once")
        frames = last[:, None] + torch.arange(1 - size, 1, device=hidden.device)
        return self.config.q_head.of_frames(hidden[:, frames])

    def _before_observations(self, hidden: Tensor, start: int) -> Tensor:
        """Hidden states of the tokens that an observation token follows."""
        last = self.config.tokens_per_frame - 1
        block = self.config.block_tokens
        kept = [i for i in range(hidden.shape[1]) if (start + i) % block != last]
        return hidden.index_select(1, torch.tensor(kept, device=hidden.device, dtype=torch.long))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
