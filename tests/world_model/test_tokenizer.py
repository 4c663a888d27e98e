"""The tokenizer: shapes, backgrounds, exact short cuts, hash."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from datasets.errors import UserError
from tests.world_model.small_tokenizers import SMALL_PATCH, SMALL_RESIDUAL, noise, randomised
from world_model.frames import PATCH, median_frame
from world_model.patch_networks import distinct_patches, join_patches, place_patches, split_patches
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS, TokenizerConfig

CONFIGS = {
    "residual vq": SMALL_RESIDUAL,
    "residual fsq": replace(SMALL_RESIDUAL, quantizer="fsq", use_background=True),
    "patch fsq": SMALL_PATCH,
    "patch vq": replace(
        SMALL_PATCH,
        quantizer="vq",
        codebook_size=20,
        code_width=6,
        use_background=False,
        foreground_weight=0.0,
    ),
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_frames_become_36_tokens_and_frames_again(config: TokenizerConfig):
    tokenizer = randomised(config)
    frames, task_id = noise(5, 84, 84), torch.tensor([0, 59, 3, 3, 7])
    tokens = tokenizer.encode(frames, task_id)
    assert tokens.shape == (5, config.tokens_per_frame) == (5, 36)
    assert tokens.dtype == torch.int64
    assert tokens.min() >= 0
    assert tokens.max() < config.vocab_size
    drawn = tokenizer.decode(tokens, task_id)
    assert drawn.shape == (5, 84, 84)
    assert drawn.dtype == torch.uint8


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_training_and_use_agree(config: TokenizerConfig):
    tokenizer = randomised(config)
    frames, task_id = noise(4, 84, 84), torch.tensor([1, 2, 1, 2])
    if config.use_background:
        tokenizer.set_background(1, frames[0])
        tokenizer.set_background(2, noise(84, 84, seed=5))
    with torch.no_grad():
        output = tokenizer(frames, task_id)
    assert torch.equal(output.tokens, tokenizer.encode(frames, task_id))
    drawn = ((output.reconstruction[:, 0] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(
        tokenizer.decode_intensity(output.tokens, task_id), drawn, rtol=1e-4, atol=1e-5
    )


def test_a_frame_equal_to_its_background_is_blank_everywhere():
    tokenizer = randomised(SMALL_PATCH)
    background = noise(84, 84)
    tokenizer.set_background(11, background)
    tokens = tokenizer.encode(background[None].expand(2, 84, 84), torch.tensor([11, 12]))
    assert len(tokens[0].unique()) == 1
    assert torch.equal(tokenizer.decode(tokens[:1], torch.tensor([11]))[0], background)
    # Game 12 has no background yet, so the same frame is something to draw.
    assert len(tokens[1].unique()) > 1


def test_what_is_drawn_is_added_to_the_background():
    tokenizer = randomised(SMALL_PATCH)
    with torch.no_grad():
        for weight in tokenizer.decoder.parameters():
            weight.zero_()
    background = noise(84, 84)
    tokenizer.set_background(4, background)
    drawn = tokenizer.decode(torch.zeros(1, 36, dtype=torch.int64), torch.tensor([4]))
    assert torch.equal(drawn[0], background)


def test_a_tokenizer_without_backgrounds_refuses_one():
    with pytest.raises(UserError, match="use_background"):
        Tokenizer(SMALL_RESIDUAL).set_background(0, noise(84, 84))
    with pytest.raises(UserError, match="foreground_weight"):
        Tokenizer(replace(SMALL_RESIDUAL, foreground_weight=5.0))


def test_a_patch_is_read_and_drawn_without_its_neighbours():
    tokenizer = randomised(SMALL_PATCH)
    task_id = torch.zeros(2, dtype=torch.int64)
    frames = noise(1, 84, 84).repeat(2, 1, 1)
    frames[1, 14:28, 28:42] = noise(14, 14, seed=9)
    tokens = tokenizer.encode(frames, task_id)
    changed = (tokens[0] != tokens[1]).nonzero().flatten().tolist()
    assert changed in ([], [1 * 6 + 2])
    tokens[1] = tokens[0]
    tokens[1, 8] = (tokens[0, 8] + 7) % SMALL_PATCH.vocab_size
    drawn = tokenizer.decode_intensity(tokens, task_id)
    differs = (drawn[0] != drawn[1]).nonzero()
    assert len(differs) > 0
    assert (differs.min(dim=0).values >= torch.tensor([14, 28])).all()
    assert (differs.max(dim=0).values < torch.tensor([28, 42])).all()


def test_patches_go_apart_and_together_again():
    frames = torch.randn(3, 1, 84, 84, generator=torch.Generator().manual_seed(0))
    patches = split_patches(frames)
    assert torch.equal(join_patches(patches), frames)
    assert torch.equal(patches[1, :, 2, 3].reshape(PATCH, PATCH), frames[1, 0, 28:42, 42:56])


def test_asking_once_for_blank_patches_changes_no_value_and_no_gradient():
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, 196, 6, 6, generator=generator)
    patches *= torch.rand(2, 1, 6, 6, generator=generator) < 0.3
    network = torch.nn.Conv2d(196, 3, 1)
    pull = torch.randn(2, 3, 6, 6, generator=generator)

    (network(patches) * pull).sum().backward()
    direct = [weight.grad for weight in network.parameters()]
    network.zero_grad()
    distinct, slot = distinct_patches(patches)
    placed = place_patches(network(distinct), slot)
    (placed * pull).sum().backward()

    assert distinct.shape[-1] == 1 + patches.abs().amax(dim=1).count_nonzero()
    assert not distinct[..., 0].any()
    torch.testing.assert_close(placed, network(patches))
    for weight, gradient in zip(network.parameters(), direct, strict=True):
        torch.testing.assert_close(weight.grad, gradient, rtol=1e-4, atol=1e-4)


def test_the_hash_names_weights_backgrounds_and_configuration():
    tokenizer = randomised(SMALL_PATCH)
    first = tokenizer.content_hash()
    assert first == randomised(SMALL_PATCH).content_hash()
    assert first == tokenizer.train().content_hash()
    seen = {first, randomised(replace(SMALL_PATCH, squared_weight=0.5)).content_hash()}
    with torch.no_grad():
        next(tokenizer.parameters()).view(-1)[0] += 1e-3
    seen.add(tokenizer.content_hash())
    tokenizer.set_background(5, noise(84, 84))
    seen.add(tokenizer.content_hash())
    assert len(seen) == 4


def test_tokens_do_not_depend_on_autocast():
    tokenizer = randomised(SMALL_RESIDUAL)
    frames, task_id = noise(3, 84, 84), torch.zeros(3, dtype=torch.int64)
    plain = tokenizer.encode(frames, task_id)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tokenizer.encode(frames, task_id), plain)


def test_the_median_forgets_what_passes():
    frames = noise(1, 84, 84).repeat(9, 1, 1)
    still = frames[0].clone()
    for step in range(9):
        frames[step, 9 * step : 9 * step + 3, 40] = 255
    assert torch.equal(median_frame(frames), still)
    assert median_frame(frames).dtype == torch.uint8


def test_vocabularies():
    assert TOKENIZERS["published"].vocab_size == 2048
    assert TOKENIZERS["tiny"].vocab_size == 8 * 8 * 5
    assert Tokenizer(SMALL_PATCH).quantizer.vocab_size == SMALL_PATCH.vocab_size
