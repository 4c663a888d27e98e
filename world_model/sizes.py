"""The named sizes of the world-action model.

40M, 70M and 150M are those of Cheng et al. 2024 (arXiv 2410.00564); tiny trains on a laptop.
"""

from __future__ import annotations

from world_model.heads import QHeadConfig
from world_model.transformer import TransformerConfig
from world_model.world_action_model import WorldActionConfig

# The tiny model keeps no dropout: it underfits long before it memorises a few thousand frames.
SIZES: dict[str, WorldActionConfig] = {
    "tiny": WorldActionConfig(
        transformer=TransformerConfig(
            layers=2,
            heads=3,
            width=96,
            embedding_dropout=0.0,
            residual_dropout=0.0,
            attention_dropout=0.0,
        ),
        q_head=QHeadConfig(mlp_width=64, dropout=0.0, reads="frame"),
        vocab_size=320,
    ),
    "40M": WorldActionConfig(
        transformer=TransformerConfig(layers=4, heads=8, width=512),
        q_head=QHeadConfig(ensemble_size=1, mlp_width=768),
    ),
    "70M": WorldActionConfig(
        transformer=TransformerConfig(layers=6, heads=12, width=768),
        q_head=QHeadConfig(ensemble_size=1, mlp_width=1024),
    ),
    "150M": WorldActionConfig(
        transformer=TransformerConfig(layers=12, heads=12, width=768),
        q_head=QHeadConfig(ensemble_size=3, mlp_width=1792),
    ),
}
"""Configuration of each size; the vocabulary and the tokens a frame follow the tokenizer in use."""
