"""Encoder and decoder of the small frame tokenizer: each 14 x 14 patch on its own.

Letters: B frames, P pixels of a patch (196), C channels, H and W rows and columns of the grid, N patches.

In a grid of patches a position's channels are its patch's pixels. No position sees its neighbours,
and nothing ever runs at 84 x 84 with many channels.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from world_model.frames import PATCH
from world_model.residual_networks import swish


class PointwiseBlock(nn.Module):
    """x + (swish, 1 x 1 convolution) twice."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 1)
        self.conv2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """Same shape."""
        return x + self.conv2(swish(self.conv1(swish(x))))


class PatchEncoder(nn.Module):
    """Each 14 x 14 patch to a vector by a small perceptron that knows neither place nor neighbours."""

    def __init__(self, *, channels: int, num_residual_blocks: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(PATCH**2, channels, 1)
        self.blocks = nn.ModuleList(PointwiseBlock(channels) for _ in range(num_residual_blocks))

    def forward(self, x: Float[Tensor, "B 196 H W"]) -> Float[Tensor, "B C H W"]:
        """A grid of patches to a grid of vectors; any H and W, for positions do not interact."""
        x = self.conv_in(x)
        for block in self.blocks:
            x = block(x)
        return swish(x)


class PatchDecoder(nn.Module):
    """Each vector to a 14 x 14 patch by one linear map."""

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        self.conv_out = nn.Conv2d(channels, PATCH**2, 1)

    def forward(self, z: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 196 H W"]:
        """A grid of vectors to a grid of patches."""
        return self.conv_out(swish(z))


def split_patches(frames: Float[Tensor, "B 1 84 84"]) -> Float[Tensor, "B 196 6 6"]:
    """Frames as grids of patches, each patch's pixels row by row."""
    return rearrange(frames, "B 1 (H p) (W q) -> B (p q) H W", p=PATCH, q=PATCH)


def join_patches(patches: Float[Tensor, "B 196 6 6"]) -> Float[Tensor, "B 1 84 84"]:
    """The inverse of `split_patches`."""
    return rearrange(patches, "B (p q) H W -> B 1 (H p) (W q)", p=PATCH, q=PATCH)


def distinct_patches(
    patches: Float[Tensor, "B P H W"],
) -> tuple[Float[Tensor, "1 P 1 N"], Int[Tensor, "B H W"]]:
    """One blank (all zero) patch and every patch that is not blank, and where each position finds its own.

    Most patches equal the background and so are blank once it is subtracted. A network without
    neighbours gives them all the same answer, so it is asked once.

    Returns:
        N patches, the first of them blank; for each position, which of the N it is.
    """
    rows = rearrange(patches, "B P H W -> (B H W) P")
    drawn = (rows != 0).any(dim=1)
    slot = rearrange(drawn.cumsum(0) * drawn, "(B H W) -> B H W", B=patches.shape[0], H=patches.shape[2])
    return rearrange(F.pad(rows[drawn], (0, 0, 1, 0)), "N P -> 1 P 1 N"), slot


def place_patches(values: Float[Tensor, "1 P 1 N"], slot: Int[Tensor, "B H W"]) -> Float[Tensor, "B P H W"]:
    """Give every position its own of the N values."""
    chosen = rearrange(values, "1 P 1 N -> N P").index_select(0, slot.flatten())
    return rearrange(chosen, "(B H W) P -> B P H W", B=slot.shape[0], H=slot.shape[1])


def patch_blur(deviation: float) -> Float[Tensor, "P P"]:
    """The linear map of a patch's pixels that blurs it by a Gaussian, as if all around the patch were blank.

    Args:
        deviation: standard deviation of the Gaussian, in pixels.
    """
    place = torch.arange(PATCH, dtype=torch.float32)
    weight = torch.exp(-0.5 * ((place[:, None] - place) / deviation) ** 2)
    along = weight / weight[PATCH // 2].sum()
    return torch.kron(along, along)


def distinct_rows(
    rows: Float[Tensor, "N P"], times: Int[Tensor, " N"] | None = None
) -> tuple[Float[Tensor, "M P"], Int[Tensor, " M"]]:
    """The different rows, and how many there are of each.

    Args:
        rows: the rows.
        times: how many each stands for; 1 if not given.
    """
    # NumPy sorts rows as strings of bytes, many times faster than torch.unique compares them.
    as_bytes = np.ascontiguousarray(rows.cpu().numpy()).view(f"V{4 * rows.shape[1]}").ravel()
    _, first, place = np.unique(as_bytes, return_index=True, return_inverse=True)
    frequency = torch.zeros(len(first), dtype=torch.long)
    frequency.index_add_(
        0, torch.from_numpy(place), torch.ones(len(rows), dtype=torch.long) if times is None else times.cpu()
    )
    return rows[torch.from_numpy(first).to(rows.device)], frequency.to(rows.device)


def spread_rows(
    rows: Float[Tensor, "N P"], weights: Float[Tensor, " N"], count: int, *, far: float
) -> Int[Tensor, " M"]:
    """Choose rows that stand for all: the first, then others by how badly they are stood for so far.

    k-means++ (Arthur and Vassilvitskii 2007) with a limit: the chance of a row is its weight times the
    squared distance to the nearest one chosen, which counts as at most `far`. Without the limit, rows that
    differ in much are chosen before those that differ in little, however rare they are.

    Args:
        rows: all different.
        weights: what each counts, such as how often it was seen.
        count: how many to choose; fewer if there are no more.
        far: squared distance from which on a row is not stood for at all.

    Returns:
        Indices of the rows, in the order chosen; always the same for the same arguments.
    """
    # Drawn on the CPU, so that it does not depend on the device.
    numbers = torch.rand(count, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    length = rows.square().sum(dim=1)
    chosen = [0]
    nearest = torch.full_like(length, float("inf"))
    for number in numbers[1:]:
        last = chosen[-1]
        distance = (length + length[last] - 2.0 * rows @ rows[last]).clamp_min(0.0)
        nearest = torch.minimum(nearest, distance)
        nearest[last] = 0.0
        cumulative = (weights * nearest.clamp_max(far)).double().cumsum(0)
        if cumulative[-1] == 0.0:
            break
        drawn = torch.searchsorted(cumulative, number.to(cumulative) * cumulative[-1], right=True)
        chosen.append(min(int(drawn), len(rows) - 1))
    return torch.tensor(chosen, device=rows.device)
