"""The tokenizer without networks, whose codes are what patches look like."""

from dataclasses import replace

import pytest
import torch

from datasets.errors import UserError
from world_model.patch_networks import commonest_rows
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS, TokenizerConfig

BACKGROUND = 60
TASK = 39


def frames_with_a_ball(count: int) -> torch.Tensor:
    """A still background with one bright pixel that moves by one each frame."""
    frames = torch.full((count, 84, 84), BACKGROUND, dtype=torch.uint8)
    for index in range(count):
        frames[index, 40, index % 84] = 236
    return frames


@pytest.fixture
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(TOKENIZERS["dictionary"]).eval()
    tokenizer.set_background(TASK, torch.full((84, 84), BACKGROUND, dtype=torch.uint8))
    return tokenizer


def test_patches_that_it_knows_are_redrawn_exactly(tokenizer):
    frames = frames_with_a_ball(84)
    task_id = torch.full((84,), TASK)
    tokenizer.fill_codebook(frames, task_id)
    tokens = tokenizer.encode(frames, task_id)
    assert torch.equal(tokenizer.decode(tokens, task_id), frames)
    # 14 places of the ball within a patch, and the empty patch
    assert len(tokens.unique()) == 15


def test_the_empty_patch_is_the_first_code(tokenizer):
    tokenizer.fill_codebook(frames_with_a_ball(84), torch.full((84,), TASK))
    assert (tokenizer.encode(frames_with_a_ball(1), torch.tensor([TASK])) == 0).sum() == 35


def test_filling_twice_gives_the_same_tokens(tokenizer):
    frames, task_id = frames_with_a_ball(84), torch.full((84,), TASK)
    tokenizer.fill_codebook(frames, task_id)
    first = tokenizer.content_hash()
    tokenizer.fill_codebook(frames, task_id)
    assert tokenizer.content_hash() == first


def test_commonest_rows_come_first():
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [5.0, 6.0], [3.0, 4.0], [5.0, 6.0]])
    alike = torch.ones(6)
    assert commonest_rows(rows, alike, 2).tolist() == [[3.0, 4.0], [5.0, 6.0]]
    assert commonest_rows(rows, alike, 9).shape == (3, 2)
    first_counts_more = torch.tensor([4.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    assert commonest_rows(rows, first_counts_more, 2).tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_small_things_have_codes_before_the_scenery():
    frames = torch.full((90, 84, 84), BACKGROUND, dtype=torch.uint8)
    for index in range(90):
        frames[index, :14, :14] = index % 30 + 80  # 30 shades, each seen three times
    frames[:14] = frames_with_a_ball(14)  # 14 places of the ball, each seen once
    config = replace(TOKENIZERS["dictionary"], codebook_size=16)
    tokenizer = Tokenizer(config)
    tokenizer.set_background(TASK, torch.full((84, 84), BACKGROUND, dtype=torch.uint8))
    tokenizer.fill_codebook(frames, torch.full((90,), TASK))
    blank = torch.full((1, 84, 84), BACKGROUND, dtype=torch.uint8)
    tokens = tokenizer.encode(torch.cat([frames[:14], blank]), torch.full((15,), TASK))
    assert len(tokens.unique()) == 15


def test_a_ball_in_an_unknown_place_is_drawn_near_it(tokenizer):
    frames, task_id = frames_with_a_ball(84), torch.full((84,), TASK)
    known = frames[:84:2]
    tokenizer.fill_codebook(known, task_id[: len(known)])
    drawn = tokenizer.decode(tokenizer.encode(frames, task_id), task_id)
    for index in range(1, 84, 2):
        bright = (drawn[index] > BACKGROUND + 50).nonzero()
        assert len(bright) == 1
        assert bright[0, 0] == 40
        assert abs(int(bright[0, 1]) - index) <= 1


def test_a_blur_needs_a_dictionary():
    with pytest.raises(UserError, match="compare_blur is for network 'dictionary'"):
        Tokenizer(TokenizerConfig(compare_blur=1.0))


def test_other_networks_have_no_patches_to_start_from():
    with pytest.raises(ValueError, match="only a tokenizer of network 'dictionary'"):
        Tokenizer(TOKENIZERS["tiny"]).fill_codebook(frames_with_a_ball(2), torch.tensor([TASK, TASK]))


def test_a_dictionary_of_another_code_width_is_refused():
    with pytest.raises(UserError, match="needs quantizer 'vq' and code_width 196"):
        Tokenizer(TokenizerConfig(network="dictionary", code_width=64))
