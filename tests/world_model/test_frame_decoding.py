"""Frames decoded with guesses against frames decoded token by token, whatever is guessed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from tests.world_model.small_models import SMALL_Q_HEAD, random_model, random_tokens, small_config
from world_model.decode_engine import DecodeEngine
from world_model.drafting import Draft
from world_model.frame_decoding import DecodedFrames, decode_frames
from world_model.tree_cache import Branch, TreeCache

# Q heads that see whole frames see every token's hidden state.
CONFIG = small_config(tokens_per_frame=9, q_head=dataclasses.replace(SMALL_Q_HEAD, reads="frame"))
MODEL = random_model(CONFIG, seed=3)
ENGINE = DecodeEngine(MODEL)
NODES = 5
ROOT = np.array([0, 0, 1, 2, 2])
ACTION = np.array([3, 17, 0, 5, 9])


def _tree() -> TreeCache:
    length = torch.tensor([19, 9, 19])
    tokens = random_tokens(CONFIG, 3, 19, seed=4)
    prefix = ENGINE.prefill(tokens, length, torch.tensor([0, 3, 5]))
    return TreeCache(prefix.keys, prefix.values, length, CONFIG.block_tokens)


@torch.inference_mode()
def _decode(draft: Draft) -> tuple[DecodedFrames, torch.Tensor]:
    tree = _tree()
    branch = Branch(tree, ROOT)
    task_id = np.array([0, 3, 5])[ROOT]
    decoded = decode_frames(ENGINE, branch, ACTION, task_id, tree.context_length[ROOT], draft)
    tree.add(branch)
    return decoded, tree.block_keys[:, :NODES]


def _draft(tokens: np.ndarray, confidence: float, second_confidence: float = 0.5) -> Draft:
    return Draft(tokens, np.full(tokens.shape[1], confidence), second_confidence)


PLAIN, PLAIN_KEYS = _decode(_draft(np.zeros((NODES, 9), dtype=np.int64), 0.0, 0.0))


def _assert_same(decoded: DecodedFrames, keys: torch.Tensor) -> None:
    assert decoded.tokens.tolist() == PLAIN.tokens.tolist()
    assert decoded.reward.tolist() == PLAIN.reward.tolist()
    assert decoded.is_end.tolist() == PLAIN.is_end.tolist()
    torch.testing.assert_close(decoded.seen, PLAIN.seen, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(keys, PLAIN_KEYS, atol=1e-4, rtol=1e-4)


def test_plain_decoding_takes_one_pass_a_token() -> None:
    assert PLAIN.passes == CONFIG.block_tokens
    assert PLAIN.tokens_fed == NODES * CONFIG.block_tokens
    assert PLAIN.second_guesses == (0, 0)


@torch.inference_mode()
def test_the_decisions_compared_here_are_none_of_rounding() -> None:
    """The gap of the two best logits, at every token, is far above what arithmetic may change."""
    for node in range(NODES):
        length = [19, 9, 19][ROOT[node]]
        context = random_tokens(CONFIG, 3, 19, seed=4)[ROOT[node] : ROOT[node] + 1, :length]
        block = torch.tensor([[ACTION[node], *PLAIN.tokens[node]]])
        logits = MODEL(
            torch.cat([context, block], dim=1), torch.tensor([[0, 3, 5][ROOT[node]]])
        ).logits_observations[0, -CONFIG.tokens_per_frame :]
        best = logits.topk(2).values
        assert (best[:, 0] - best[:, 1]).min() > 1e-3
        assert logits.argmax(-1).tolist() == PLAIN.tokens[node].tolist()


def test_right_guesses_take_one_pass() -> None:
    decoded, keys = _decode(_draft(PLAIN.tokens.copy(), 1.0))
    _assert_same(decoded, keys)
    assert decoded.passes == 1


@pytest.mark.parametrize("confidence", [0.3, 0.7, 0.95, 1.0])
def test_guesses_wrong_at_every_place_change_nothing(confidence: float) -> None:
    decoded, keys = _decode(_draft((PLAIN.tokens + 1) % CONFIG.vocab_size, confidence))
    _assert_same(decoded, keys)


@pytest.mark.parametrize("seed", range(12))
def test_guesses_wrong_anywhere_change_nothing(seed: int) -> None:
    generator = np.random.default_rng(seed)
    wrong = generator.random(PLAIN.tokens.shape) < generator.random()
    tokens = np.where(wrong, generator.integers(CONFIG.vocab_size, size=wrong.shape), PLAIN.tokens)
    confidence = generator.random(wrong.shape[1])
    decoded, keys = _decode(Draft(tokens, confidence, float(generator.random())))
    _assert_same(decoded, keys)


def test_a_single_wrong_guess_costs_few_passes() -> None:
    for place in range(CONFIG.tokens_per_frame):
        tokens = PLAIN.tokens.copy()
        tokens[:, place] = (tokens[:, place] + 1) % CONFIG.vocab_size
        decoded, keys = _decode(_draft(tokens, 0.999, 0.999))
        _assert_same(decoded, keys)
        # The place that follows a wrong token was predicted from it, and may be wrong for that.
        assert 2 <= decoded.passes <= CONFIG.block_tokens - place


def test_hopeless_guesses_are_not_fed() -> None:
    decoded, keys = _decode(_draft((PLAIN.tokens + 1) % CONFIG.vocab_size, 0.0, 0.0))
    _assert_same(decoded, keys)
    assert decoded.tokens_fed == NODES * CONFIG.block_tokens


def test_bfloat16_is_close() -> None:
    engine = DecodeEngine(MODEL, torch.bfloat16)
    tokens = random_tokens(CONFIG, 2, 19)
    prefix = engine.prefill(tokens, torch.tensor([19, 19]), torch.tensor([1, 2]))
    exact = ENGINE.prefill(tokens, torch.tensor([19, 19]), torch.tensor([1, 2]))
    assert prefix.keys.dtype == torch.bfloat16
    assert prefix.seen.dtype == torch.float32
    assert (prefix.seen - exact.seen).abs().mean() < 0.1
