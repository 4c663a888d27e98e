"""Embeddings that begin with what is known: what the codes look like, and where the tokens stand.

Letters: V codes, C numbers of a code's vector, K tokens a frame, D width.

An embedding table drawn at random makes the model learn each code, and each place of each frame, by
itself. Codes that look alike should start alike, and so should the same place in different frames.
"""

from __future__ import annotations

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Generator, Tensor

from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel

STARTING_DEVIATION = 0.1
"""Standard deviation of the numbers of a starting table; large beside the 0.02 of a random one, so that
likeness outweighs what is random in the layers behind it."""

ACTION_DEVIATION = 0.3
"""The same for actions."""

LENGTH_POWER = 0.25
"""Power of the length of a code's vector that is left in its embedding."""


@torch.no_grad()
def start_embeddings(model: WorldActionModel, tokenizer: Tokenizer, seed: int) -> None:
    """Replace a fresh model's embeddings of observation tokens, of actions and of positions.

    A code's embedding is a random projection of its vector, which keeps directions (Johnson and Lindenstrauss
    1984), with lengths closer to each other: a ball changes few pixels, and matters more than a wall. A
    position's embedding is the sum of one vector for its frame and, for observation tokens, one each for its
    row and its column of the grid. Actions are drawn at random, large enough that the one taken outweighs
    its position: a single token tells what a step will change.

    Args:
        model: not trained yet.
        tokenizer: trained; the one whose tokens the model will read.
        seed: of projection and position vectors.
    """
    generator = torch.Generator().manual_seed(seed)
    codes = code_embeddings(tokenizer, model.config.transformer.width, generator)
    positions = position_embeddings(
        model.config.max_blocks, tokenizer.config.grid, model.config.transformer.width, generator
    )
    model.observation_embedding.weight.copy_(codes)
    model.position_embedding.weight.copy_(positions)
    actions = torch.randn(model.action_embedding.weight.shape, generator=generator)
    model.action_embedding.weight.copy_(ACTION_DEVIATION * actions)


def code_embeddings(tokenizer: Tokenizer, width: int, generator: Generator) -> Float[Tensor, "V D"]:
    """Random projections of the codes' vectors, in their directions but with lengths closer to each other.

    Vectors are measured from what means nothing: the background, if the codes are patches of the difference
    from it, and else the mean code.
    """
    every = torch.arange(tokenizer.config.vocab_size, device=tokenizer.device)
    vectors = tokenizer.quantizer.vectors(rearrange(every, "V -> V 1 1")).float().cpu()
    vectors = rearrange(vectors, "V C 1 1 -> V C")
    if not (tokenizer.config.network == "dictionary" and tokenizer.config.use_background):
        vectors = vectors - vectors.mean(dim=0)
    # A collapsed codebook has no lengths to scale to.
    lengths = vectors.norm(dim=1, keepdim=True).clamp_min(1e-6)
    vectors = vectors * lengths.pow(LENGTH_POWER - 1)
    projected = vectors @ torch.randn(vectors.shape[1], width, generator=generator)
    return projected * (STARTING_DEVIATION / projected.std().clamp_min(1e-6))


def position_embeddings(frames: int, grid: int, width: int, generator: Generator) -> Float[Tensor, "T D"]:
    """Sums of vectors for frame, row and column; an action has one of its own in place of the last two."""

    def draw(count: int) -> Tensor:
        return STARTING_DEVIATION * torch.randn(count, width, generator=generator)

    frame, row, column, action = draw(frames), draw(grid), draw(grid), draw(1)
    cells = rearrange(row[:, None] + column, "r c D -> (r c) D")
    block = torch.cat([cells, action])
    return rearrange(frame[:, None] + block, "L P D -> (L P) D")
