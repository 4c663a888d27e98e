"""Sizes of frame tokenizers, and the named ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from world_model.frames import GRID, PATCH


@dataclass(frozen=True)
class TokenizerConfig:
    """Sizes of a tokenizer and the weights of its losses."""

    network: Literal["residual", "patch", "dictionary"] = "residual"
    """Published residual convolutions; a patchwise perceptron; or none at all, so that a code of the codebook
    is what a patch of 14 x 14 pixels looks like."""
    quantizer: Literal["vq", "fsq"] = "vq"
    """Learned codebook, or finite scalar quantisation."""
    codebook_size: int = 2048
    """Number of codes of a learned codebook; finite scalar quantisation has the product of its levels."""
    code_width: int = 512
    """Length of a learned code's vector; finite scalar quantisation has one scalar per level count."""
    fsq_levels: tuple[int, ...] = (8, 8, 5)
    """Levels of each scalar of finite scalar quantisation."""
    channels: int = 64
    """Base number of channels of the residual network, or width of the patch network."""
    channel_multipliers: tuple[int, int, int] = (1, 1, 1)
    """Channels at 84, 12 and 6 pixels as multiples of `channels` (residual network)."""
    num_residual_blocks: int = 2
    """Residual blocks of the encoder, per level in the residual network."""
    attention_resolutions: tuple[int, ...] = (6, 12)
    """Resolutions at which the encoder attends (residual network)."""
    latent_channels: int = 512
    """Channels between networks and the projections to and from codes (residual network)."""
    compare_blur: float = 0.0
    """Deviation in pixels of the blur through which patches and codes are compared (dictionary): a small
    thing without a code of its own is drawn near its place then, and not left out."""
    use_background: bool = False
    """Subtract each game's background before encoding and add it after decoding."""
    foreground_weight: float = 0.0
    """Weight shared by a patch's pixels that differ from the background; needs `use_background`."""
    squared_weight: float = 0.0
    """Weight of the squared error beside the absolute one."""
    commitment_weight: float = 1.0
    """Weight of the commitment loss."""
    shift_pixels: int = 4
    """Largest random shift of a training frame in each direction; 0 turns the augmentation off."""

    @property
    def vocab_size(self) -> int:
        """Number of codes V."""
        if self.quantizer == "vq":
            return self.codebook_size
        return prod(self.fsq_levels)

    @property
    def grid(self) -> int:
        """Rows and columns of the token grid."""
        return GRID

    @property
    def tokens_per_frame(self) -> int:
        """Number of tokens K of a frame."""
        return GRID * GRID


_DICTIONARY = TokenizerConfig(
    network="dictionary",
    quantizer="vq",
    codebook_size=1024,
    code_width=PATCH**2,
    compare_blur=1.5,
    use_background=True,
    shift_pixels=0,
)

TOKENIZERS: dict[str, TokenizerConfig] = {
    "published": TokenizerConfig(),
    "tiny": TokenizerConfig(
        network="patch",
        quantizer="fsq",
        channels=128,
        num_residual_blocks=1,
        use_background=True,
        foreground_weight=500.0,
        squared_weight=3.0,
        shift_pixels=0,
    ),
    "dictionary": _DICTIONARY,
    "dictionary_2048": replace(_DICTIONARY, codebook_size=2048),
}
"""`published` has the released weights' sizes; `tiny` trains in well under a minute on one core; `dictionary`
needs next to no training, and is sharp where games are made of few, recurring patches; `dictionary_2048` has
codes for more of them, such as a ball at every place beside a paddle, at a larger vocabulary's cost."""
