import dataclasses
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.errors import UserError
from tests.world_model.small_models import (
    SMALL_Q_HEAD,
    UNREGULARISED,
    random_model,
    random_tokens,
    small_config,
)
from world_model.world_action_model import ModelOutput, WorldActionConfig, WorldActionModel

CONFIG = small_config(value_head=True)
MODEL = random_model(CONFIG)
TOKENS = random_tokens(CONFIG, rows=2, length=CONFIG.max_tokens)
TASK_ID = torch.tensor([1, 5])
Q_FIELDS = ("logits_q", "logits_q_target", "logits_value")


def _close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
@pytest.mark.parametrize("tokens_per_frame", [1, 4, 16])
def test_heads_read_their_places_of_each_block(tokens_per_frame: int) -> None:
    config = small_config(tokens_per_frame=tokens_per_frame)
    model = random_model(config)
    output = model(random_tokens(config, 2, config.max_tokens), TASK_ID)
    place = torch.arange(config.max_tokens) % (tokens_per_frame + 1)
    at_frame, at_action = place == tokens_per_frame - 1, place == tokens_per_frame
    hidden = output.hidden
    _close(output.logits_observations, model.head_observations(hidden[:, ~at_frame]))
    _close(output.logits_rewards, model.head_rewards(hidden[:, at_action]))
    _close(output.logits_ends, model.head_ends(hidden[:, at_action]))
    _close(output.logits_q, model.head_q(hidden[:, at_frame]))
    _close(output.logits_q_target, model.head_q_target(hidden[:, at_frame]))
    blocks = config.max_blocks
    assert output.logits_observations.shape == (2, blocks * tokens_per_frame, config.vocab_size)
    assert output.logits_rewards.shape == (2, blocks, 3)
    assert output.logits_ends.shape == (2, blocks, 2)
    assert output.logits_q.shape == (2, 2, blocks, config.num_actions * 5)


@torch.inference_mode()
def test_q_heads_that_read_frames_see_all_tokens_side_by_side() -> None:
    model = random_model(small_config(q_head=dataclasses.replace(SMALL_Q_HEAD, reads="frame")))
    output = model(TOKENS, TASK_ID)
    frames = output.hidden.unflatten(1, (CONFIG.max_blocks, CONFIG.block_tokens))[:, :, :-1]
    seen = torch.cat(frames.unbind(dim=2), dim=-1)
    _close(output.logits_q, model.head_q(seen))
    _close(output.logits_q_target, model.head_q_target(seen))
    # What follows the last whole frame does not matter, and a frame in two parts cannot be read.
    longer = model(TOKENS[:, : CONFIG.block_tokens + 2], TASK_ID)
    _close(longer.logits_q, output.logits_q[:, :, :1])
    cache = model.new_cache(rows=2)
    model(TOKENS[:, :2], TASK_ID, cache)
    with pytest.raises(ValueError, match="feed the tokens of a frame at once"):
        model(TOKENS[:, 2:4], TASK_ID, cache)


@torch.inference_mode()
def test_place_decides_the_embedding_of_a_token() -> None:
    """The hidden states are the transformer's of embeddings summed by hand."""
    model, block = MODEL, CONFIG.block_tokens
    embedded = torch.empty(2, CONFIG.max_tokens, UNREGULARISED.width)
    for row in range(2):
        for position in range(CONFIG.max_tokens):
            token, task = TOKENS[row, position], TASK_ID[row]
            if position % block == block - 1:
                parts = model.action_embedding(token) + model.action_task_embedding(task)
            else:
                parts = model.observation_embedding(token) + model.observation_task_embedding(task)
            embedded[row, position] = parts + model.position_embedding(torch.tensor(position))
    assert (TOKENS[:, block - 1 :: block] >= CONFIG.vocab_size).any()
    _close(model.hidden(TOKENS, TASK_ID), model.transformer(embedded))


@torch.inference_mode()
def test_the_task_matters_unless_its_embedding_is_off() -> None:
    other_task = torch.tensor([2, 5])
    difference = MODEL.hidden(TOKENS, TASK_ID) - MODEL.hidden(TOKENS, other_task)
    assert (difference[0].abs().amax(-1) > 1e-4).all()
    assert (difference[1] == 0).all()
    without = random_model(small_config(use_task_embedding=False))
    assert torch.equal(without.hidden(TOKENS, TASK_ID), without.hidden(TOKENS, other_task))


@st.composite
def _chunks(draw: st.DrawFn) -> list[int]:
    cuts = draw(st.sets(st.integers(1, CONFIG.max_tokens - 1)))
    edges = [0, *sorted(cuts), draw(st.integers(max(cuts, default=0) + 1, CONFIG.max_tokens))]
    return [end - start for start, end in pairwise(edges)]


@torch.inference_mode()
@settings(max_examples=40, deadline=None, derandomize=True)
@given(_chunks())
def test_chunks_through_a_cache_equal_one_forward(chunks: list[int]) -> None:
    tokens = TOKENS[:, : sum(chunks)]
    cache = MODEL.new_cache(2, sum(chunks))
    parts = [MODEL(chunk, TASK_ID, cache) for chunk in tokens.split(chunks, dim=1)]
    whole = MODEL(tokens, TASK_ID)
    for field in dataclasses.fields(ModelOutput):
        dim = 2 if field.name in Q_FIELDS else 1
        joined = torch.cat([getattr(part, field.name) for part in parts], dim=dim)
        _close(joined, getattr(whole, field.name))
    assert cache.length == sum(chunks)


@torch.inference_mode()
def test_what_stands_behind_a_row_does_not_change_it() -> None:
    length = 2 * CONFIG.block_tokens - 1
    padded = TOKENS.clone()
    padded[:, length:] = 0
    _close(MODEL(padded, TASK_ID).hidden[:, :length], MODEL(TOKENS[:, :length], TASK_ID).hidden)


def test_more_tokens_than_the_model_has_positions_are_refused() -> None:
    cache = MODEL.new_cache(2)
    with torch.inference_mode():
        MODEL(TOKENS[:, :-1], TASK_ID, cache)
        with pytest.raises(ValueError, match="26 tokens; the model takes 25"):
            MODEL(TOKENS[:, :2], TASK_ID, cache)
        short = MODEL.new_cache(2, 3)
        with pytest.raises(ValueError, match="a cache of 3 tokens was fed 4"):
            MODEL(TOKENS[:, :4], TASK_ID, short)


@pytest.mark.parametrize("to_trunk", [True, False])
def test_the_q_loss_trains_the_trunk_only_where_asked(to_trunk: bool) -> None:
    model = random_model(small_config(q_gradient_to_trunk=to_trunk))
    model(TOKENS, TASK_ID).logits_q.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.head_q.parameters())
    trunk = [p.grad for p in model.transformer.parameters()]
    assert all((grad is not None) == to_trunk for grad in trunk)


def test_the_target_head_passes_no_gradient_and_learns_nothing() -> None:
    model = random_model(CONFIG)
    output = model(TOKENS, TASK_ID)
    assert output.logits_q.requires_grad
    assert not output.logits_q_target.requires_grad


def test_update_target_copies_the_q_head() -> None:
    model = random_model(CONFIG)
    with torch.inference_mode():
        output = model(TOKENS, TASK_ID)
        assert not torch.allclose(output.logits_q, output.logits_q_target)
    model.update_target()
    with torch.inference_mode():
        output = model(TOKENS, TASK_ID)
    assert torch.equal(output.logits_q, output.logits_q_target)
    online, target = next(model.head_q.parameters()), next(model.head_q_target.parameters())
    assert online.data_ptr() != target.data_ptr()


def test_q_values_are_expected_returns_averaged_over_the_ensemble() -> None:
    logits = torch.randn(2, 3, CONFIG.num_actions * 5, generator=torch.Generator().manual_seed(0))
    atoms = torch.tensor([-10.0, 0.0, 10.0, 20.0, 30.0])
    assert torch.equal(MODEL.atoms, atoms)
    expected = torch.zeros(3, CONFIG.num_actions)
    for member in range(2):
        for action in range(CONFIG.num_actions):
            probability = logits[member, :, 5 * action : 5 * action + 5].softmax(-1)
            expected[:, action] += (probability * atoms).sum(-1) / 2
    _close(MODEL.q_values(logits), expected)

    mse_head = dataclasses.replace(SMALL_Q_HEAD, distribution="mse")
    mse_model = random_model(small_config(q_head=mse_head))
    mse_logits = mse_model(TOKENS, TASK_ID).logits_q
    assert mse_logits.shape == (2, 2, CONFIG.max_blocks, CONFIG.num_actions)
    _close(mse_model.q_values(mse_logits), (mse_logits[0] + mse_logits[1]) / 2)


def test_a_fresh_model_starts_as_published() -> None:
    torch.manual_seed(0)
    model = WorldActionModel(WorldActionConfig())
    for name, parameter in model.named_parameters():
        if name.startswith("head_q"):
            continue
        if "norm" in name:
            expected = 1.0 if name.endswith("weight") else 0.0
            assert (parameter == expected).all(), name
        elif name.endswith("bias"):
            assert (parameter == 0).all(), name
        else:
            assert float(parameter.detach().std()) == pytest.approx(0.02, rel=0.1), name
    for online, target in zip(model.head_q.parameters(), model.head_q_target.parameters(), strict=True):
        assert torch.equal(online, target)


@torch.inference_mode()
def test_bfloat16_autocast_stays_near_float32() -> None:
    exact = MODEL(TOKENS, TASK_ID)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = MODEL(TOKENS, TASK_ID)
        cache = MODEL.new_cache(2)
        parts = [MODEL(chunk, TASK_ID, cache).hidden for chunk in TOKENS.split([7, 1, 17], dim=1)]
        q_values = MODEL.q_values(output.logits_q)
    assert output.logits_observations.dtype == torch.bfloat16
    assert q_values.dtype == torch.float32
    torch.testing.assert_close(output.hidden, exact.hidden, rtol=0.1, atol=0.1)
    torch.testing.assert_close(torch.cat(parts, dim=1), exact.hidden, rtol=0.1, atol=0.1)


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(UserError, match="vocab_size is 0; it must be at least 1"):
        WorldActionConfig(vocab_size=0)
