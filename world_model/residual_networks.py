"""The published encoder and decoder of the frame tokenizer: frames to a 6 x 6 grid of vectors and back.

Letters: B frames, C and D channels, H and W rows and columns.

Residual blocks of two 3 x 3 convolutions, attention at the small resolutions, 84 -> 12 -> 6 pixels.
The parts have the published names, so that released weights load by name.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from world_model.frames import FRAME_SIZE

DOWNSAMPLING = (7, 2)
"""Factor of each downsampling of the residual encoder; the decoder undoes them in the same order."""


def swish(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Multiply each entry by its sigmoid.

    Written out rather than fused: the residual encoder amplifies differences in the last bit on
    nearly flat frames (up to 1e-4 in its output), and this rounds as the published program does.
    """
    return x * x.sigmoid()


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(num_groups=2, num_channels=channels, eps=1e-6)


class ResidualBlock(nn.Module):
    """x + two rounds of (group norm, swish, 3 x 3 convolution).

    Where the number of channels changes, a 1 x 1 convolution fits x to it.
    """

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm1 = _norm(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = _norm(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.nin_shortcut = None if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D H W"]:
        """Same rows and columns, `channels_out` channels."""
        y = self.conv1(swish(self.norm1(x)))
        y = self.conv2(swish(self.norm2(y)))
        return (x if self.nin_shortcut is None else self.nin_shortcut(x)) + y


class AttentionBlock(nn.Module):
    """x + single-head self-attention over all positions of the map."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q = nn.Conv2d(channels, channels, 1)
        self.k = nn.Conv2d(channels, channels, 1)
        self.v = nn.Conv2d(channels, channels, 1)
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Same shape; logits are scaled by C^-1/2."""
        normed = self.norm(x)
        query, key, value = (
            rearrange(project(normed), "B C H W -> B 1 (H W) C") for project in (self.q, self.k, self.v)
        )
        attended = F.scaled_dot_product_attention(query, key, value)
        return x + self.proj_out(rearrange(attended, "B 1 (H W) C -> B C H W", H=x.shape[2]))


class Downsample(nn.Module):
    """Strided convolution, kernel one wider than the stride, zeros added right and below."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, factor + 1, stride=factor)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        """Rows and columns divided by the factor."""
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Repeat each position `factor` x `factor` times, then a 3 x 3 convolution."""

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.factor = factor
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C h w"]:
        """Rows and columns times the factor."""
        return self.conv(F.interpolate(x, scale_factor=float(self.factor), mode="nearest"))


class Middle(nn.Module):
    """Residual block, attention, residual block at the smallest resolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = AttentionBlock(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Same shape."""
        return self.block_2(self.attn_1(self.block_1(x)))


class Level(nn.Module):
    """Residual blocks at one resolution, each followed by attention where asked, then a change of scale."""

    def __init__(
        self,
        channels_in: int,
        channels_out: int,
        *,
        num_blocks: int,
        attention: bool,
        downsample: int | None = None,
        upsample: int | None = None,
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            ResidualBlock(channels_in if i == 0 else channels_out, channels_out) for i in range(num_blocks)
        )
        self.attn = nn.ModuleList(AttentionBlock(channels_out) for _ in range(num_blocks if attention else 0))
        self.downsample = Downsample(channels_out, downsample) if downsample else None
        self.upsample = Upsample(channels_out, upsample) if upsample else None

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """`channels_out` channels at the next level's resolution."""
        for index, block in enumerate(self.block):
            x = block(x)
            if self.attn:
                x = self.attn[index](x)
        for rescale in (self.downsample, self.upsample):
            x = x if rescale is None else rescale(x)
        return x


class ResidualEncoder(nn.Module):
    """The published encoder: three levels at 84, 12 and 6 pixels and a middle."""

    def __init__(
        self,
        *,
        channels: int,
        multipliers: tuple[int, int, int],
        num_residual_blocks: int,
        attention_resolutions: tuple[int, ...],
        output_channels: int,
    ) -> None:
        super().__init__()
        widths = [channels * factor for factor in (1, *multipliers)]
        self.conv_in = nn.Conv2d(1, channels, 3, padding=1)
        self.down = nn.ModuleList()
        resolution = FRAME_SIZE
        for level, factor in enumerate((*DOWNSAMPLING, None)):
            self.down.append(
                Level(
                    widths[level],
                    widths[level + 1],
                    num_blocks=num_residual_blocks,
                    attention=resolution in attention_resolutions,
                    downsample=factor,
                )
            )
            resolution //= factor or 1
        self.mid = Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], output_channels, 3, padding=1)

    def forward(self, x: Float[Tensor, "B 1 84 84"]) -> Float[Tensor, "B C 6 6"]:
        """Frames with gray levels in [-1, 1] to a grid of vectors."""
        x = self.conv_in(x)
        for level in self.down:
            x = level(x)
        return self.conv_out(swish(self.norm_out(self.mid(x))))


class ResidualDecoder(nn.Module):
    """The published decoder: a middle at 6 pixels, then levels at 6, 42 and 84 pixels without attention."""

    def __init__(
        self,
        *,
        channels: int,
        multipliers: tuple[int, int, int],
        num_residual_blocks: int,
        input_channels: int,
    ) -> None:
        super().__init__()
        widths = [channels * factor for factor in multipliers]
        self.conv_in = nn.Conv2d(input_channels, widths[-1], 3, padding=1)
        self.mid = Middle(widths[-1])
        levels = []
        width_in = widths[-1]
        for width, factor in zip(reversed(widths), (*DOWNSAMPLING, None), strict=True):
            levels.append(
                Level(width_in, width, num_blocks=num_residual_blocks + 1, attention=False, upsample=factor)
            )
            width_in = width
        # Levels are numbered by resolution as in the encoder: the smallest has the largest number.
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], 1, 3, padding=1)

    def forward(self, z: Float[Tensor, "B C 6 6"]) -> Float[Tensor, "B 1 84 84"]:
        """A grid of vectors to frames with gray levels about [-1, 1], not clamped."""
        x = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            x = level(x)
        return self.conv_out(swish(self.norm_out(x)))
