"""Statistics of tokens: a tokenizer that forgets what moves is found out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from datasets.games import find_game
from tests.world_model.small_tokenizers import SMALL_PATCH, ball_frames, seeded
from world_model.frames import median_frame
from world_model.token_statistics import TokenStatistics, game_statistics, token_statistics
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_losses import tokenizer_loss

PONG = find_game("Pong").task_id


def constant_tokens(count: int) -> torch.Tensor:
    return torch.zeros(count, 36, dtype=torch.int64)


def moving_frames(count: int) -> torch.Tensor:
    """The ball of `ball_frames` and a tall paddle that moves up and down."""
    frames = ball_frames(count)
    for step, frame in enumerate(frames):
        top = 10 + step % 20
        frame[top : top + 30, 2:8] = 150
    return frames


def test_drawing_the_background_alone_has_error_one_and_is_collapsed():
    frames = moving_frames(60)
    background = median_frame(frames)
    found = game_statistics(
        "Pong",
        tokens=constant_tokens(60),
        frames=frames,
        redrawn=background.expand(60, 84, 84),
        background=background,
    )
    assert (found.distinct_codes_min, found.distinct_codes_mean) == (1, 1.0)
    assert found.foreground_error == pytest.approx(1.0)
    assert found.rare_foreground_error == pytest.approx(1.0)
    assert found.collapsed


def test_a_ball_drawn_a_little_beside_its_place_is_not_left_out():
    frames = torch.full((40, 84, 84), 87, dtype=torch.uint8)
    background = frames[0].clone()
    for step, frame in enumerate(frames):
        frame[20 + step, 30:32] = 236
    beside = torch.roll(frames, 1, dims=2)  # by a pixel, in the same patch
    half = frames.clone()
    half[::2] = background
    shares = [
        game_statistics(
            "Pong", tokens=constant_tokens(40), frames=frames, redrawn=redrawn, background=background
        ).left_out
        for redrawn in (frames, beside, half, background.expand(40, 84, 84))
    ]
    assert shares == [0.0, 0.0, 0.5, 1.0]


def test_forgetting_only_the_ball_shows_in_the_rare_error():
    frames = moving_frames(60)
    background = median_frame(frames)
    tokens = torch.randint(0, 320, (60, 36), generator=seeded())
    without_ball = torch.where(frames == 240, background, frames)
    found = game_statistics("Pong", tokens=tokens, frames=frames, redrawn=without_ball, background=background)
    assert found.foreground_error < 0.5
    assert found.rare_foreground_error > 1.5 * found.foreground_error
    perfect = game_statistics("Pong", tokens=tokens, frames=frames, redrawn=frames, background=background)
    assert perfect.rare_foreground_error == 0.0
    assert not perfect.collapsed


def test_one_code_per_position_is_collapsed_however_good_the_picture():
    frames = moving_frames(60)
    found = game_statistics(
        "Pong",
        tokens=constant_tokens(60),
        frames=frames,
        redrawn=frames,
        background=median_frame(frames),
    )
    assert found.collapsed


def test_a_still_game_is_not_collapsed():
    frames = ball_frames(1).repeat(20, 1, 1)
    found = game_statistics(
        "Pong", tokens=constant_tokens(20), frames=frames, redrawn=frames, background=frames[0]
    )
    assert not found.has_foreground
    assert not found.collapsed


def test_a_constant_tokenizer_is_flagged_with_advice():
    tokenizer = Tokenizer(SMALL_PATCH)
    with torch.no_grad():
        for weight in tokenizer.parameters():
            weight.zero_()
    frames = moving_frames(80)
    tokenizer.set_background(PONG, median_frame(frames))
    found = token_statistics(tokenizer, frames, torch.full((80,), PONG))
    assert found.collapsed
    assert found.codes_used == 1
    assert found.perplexity == pytest.approx(1.0)
    assert "Pong" in found.advice()
    assert "more steps" in found.advice()
    assert "1.00" in found.describe()
    assert found.scalars()["collapsed"] == 1.0
    assert found.scalars()["code_usage"] == pytest.approx(1 / 320)


def test_games_are_judged_apart_and_the_worst_is_named():
    tokenizer = Tokenizer(SMALL_PATCH)
    frames = moving_frames(80)
    task_id = torch.arange(80) % 2 * PONG
    tokenizer.set_background(0, median_frame(frames))
    tokenizer.set_background(PONG, median_frame(frames))
    found = token_statistics(tokenizer, frames, task_id)
    assert [game.game for game in found.games] == ["AirRaid", "Pong"]
    kept = replace(found.games[0], rare_foreground_error=0.1, distinct_codes_mean=9.0)
    lost = replace(found.games[1], rare_foreground_error=0.99, distinct_codes_mean=9.0)
    mixed = TokenStatistics(320, 50, 9.0, (kept, lost))
    assert mixed.collapsed
    assert mixed.worst.game == "Pong"
    assert mixed.scalars()["rare_foreground_error"] == 0.99
    fine = TokenStatistics(320, 50, 9.0, (kept, replace(lost, rare_foreground_error=0.2)))
    assert not fine.collapsed
    assert "nothing to do" in fine.advice()


def trained(config, frames: torch.Tensor, steps: int) -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = Tokenizer(config)
    if config.use_background:
        tokenizer.set_background(PONG, median_frame(frames))
    optimizer = torch.optim.Adam(tokenizer.parameters(), lr=4e-3)
    task_id = torch.full((len(frames),), PONG)
    for step in range(steps):
        rows = torch.randint(len(frames), (32,), generator=seeded(step))
        loss = tokenizer_loss(tokenizer, frames[rows], task_id[rows], generator=seeded(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return tokenizer.eval()


def test_a_plain_learned_codebook_collapses_where_the_weighted_lattice_does_not():
    frames = ball_frames(400)
    task_id = torch.full((400,), PONG)
    plain = replace(
        SMALL_PATCH,
        quantizer="vq",
        codebook_size=320,
        code_width=16,
        use_background=False,
        foreground_weight=0.0,
        squared_weight=0.0,
    )
    assert token_statistics(trained(plain, frames, 60), frames, task_id).collapsed
    found = token_statistics(trained(SMALL_PATCH, frames, 150), frames, task_id)
    assert not found.collapsed, found.describe()
