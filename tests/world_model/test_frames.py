"""Gray levels and shifts of frames."""

from __future__ import annotations

import numpy as np
import torch

from tests.world_model.small_tokenizers import noise
from world_model.frames import random_shift, shift_frames, to_signed


def test_gray_levels_span_minus_one_to_one():
    frames = torch.zeros(1, 84, 84, dtype=torch.uint8)
    frames[0, 0, :2] = torch.tensor([255, 51])
    signed = to_signed(frames)
    assert signed.shape == (1, 1, 84, 84)
    torch.testing.assert_close(signed[0, 0, 0, :3], torch.tensor([1.0, -0.6, -1.0]))


def test_a_shift_moves_content_and_repeats_the_border():
    frames = noise(3, 84, 84)
    shifted = shift_frames(frames, torch.tensor([[0, 0], [2, -3], [-4, 1]]))
    assert torch.equal(shifted[0], frames[0])
    assert torch.equal(shifted[1, 2:, :-3], frames[1, :-2, 3:])
    assert torch.equal(shifted[1, 0, :-3], frames[1, 0, 3:])
    assert torch.equal(shifted[1, 2:, -1], frames[1, :-2, -1])
    padded = np.pad(frames[2].numpy(), 4, mode="edge")
    np.testing.assert_array_equal(shifted[2].numpy(), padded[8 : 8 + 84, 3 : 3 + 84])


def test_random_shifts_cover_both_directions_and_follow_the_generator():
    draw = random_shift(500, 2, torch.Generator().manual_seed(3))
    assert draw.shape == (500, 2)
    assert draw.unique().tolist() == [-2, -1, 0, 1, 2]
    assert torch.equal(draw, random_shift(500, 2, torch.Generator().manual_seed(3)))
