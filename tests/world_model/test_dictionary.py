"""The tokenizer without networks, whose codes are what patches look like."""

from dataclasses import replace

import pytest
import torch

from datasets.errors import UserError
from world_model.patch_networks import distinct_rows, spread_rows
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


def test_distinct_rows_are_counted():
    rows = torch.tensor([[1.0, 2.0], [3.0, 4.0], [3.0, 4.0], [5.0, 6.0], [3.0, 4.0], [5.0, 6.0]])
    different, frequency = distinct_rows(rows)
    counted = {tuple(row): count for row, count in zip(different.tolist(), frequency.tolist(), strict=True)}
    assert counted == {(1.0, 2.0): 1, (3.0, 4.0): 3, (5.0, 6.0): 2}


def test_rows_counted_in_parts_are_counted_together():
    rows = torch.randint(0, 3, (200, 2), generator=torch.Generator().manual_seed(0)).float()
    parts = [distinct_rows(part) for part in rows.split(70)]
    together = distinct_rows(torch.cat([part for part, _ in parts]), torch.cat([times for _, times in parts]))
    for ours, theirs in zip(together, distinct_rows(rows), strict=True):
        assert torch.equal(ours, theirs)


def test_rows_that_stand_for_all_are_chosen_first():
    groups = torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [90.0, 90.0]])
    rows = torch.cat([group + torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1]]) for group in groups])
    chosen = spread_rows(rows, torch.ones(12), 4, far=float("inf"))
    assert sorted(int(row) // 3 for row in chosen) == [0, 1, 2, 3]
    assert chosen[0] == 0
    assert sorted(spread_rows(rows, torch.ones(12), 99, far=1.0).tolist()) == list(range(12))


def test_what_is_far_counts_as_much_as_what_is_farther():
    rows = torch.tensor([[0.0], [1.0], [1000.0]])
    weights = torch.tensor([1.0, 1000.0, 1.0])
    assert spread_rows(rows, weights, 2, far=1.0).tolist() == [0, 1]
    assert spread_rows(rows, weights, 2, far=float("inf")).tolist() == [0, 2]


def test_a_ball_beside_something_large_has_codes():
    paddles = torch.full((7, 84, 84), BACKGROUND, dtype=torch.uint8)
    for place in range(7):
        paddles[place, 9:12, place : place + 7] = 200
    with_ball = paddles.repeat_interleave(12, dim=0)
    for index in range(84):
        with_ball[index, 2:4, index % 12 : index % 12 + 2] = 150
    frames = torch.cat([with_ball, paddles.repeat(5, 1, 1)])  # paddles alone are the commonest
    tokenizer = Tokenizer(replace(TOKENIZERS["dictionary"], codebook_size=48))  # of 92 different patches
    tokenizer.set_background(TASK, torch.full((84, 84), BACKGROUND, dtype=torch.uint8))
    tokenizer.fill_codebook(frames, torch.full((len(frames),), TASK))
    task_id = torch.full((len(with_ball),), TASK)
    drawn = tokenizer.decode(tokenizer.encode(with_ball, task_id), task_id)
    shown = (drawn[:, 2:4, :14] > BACKGROUND + 30).flatten(1).any(1)
    assert shown.float().mean() > 0.95


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
