"""Embeddings that start from what is known."""

from dataclasses import replace

import pytest
import torch

from tests.world_model.small_models import random_model, small_config
from tests.world_model.small_tokenizers import SMALL_PATCH, randomised, seeded
from world_model.starting_embeddings import (
    STARTING_DEVIATION,
    code_embeddings,
    position_embeddings,
    start_embeddings,
)
from world_model.tokenizer_config import TOKENIZERS, TokenizerConfig

DICTIONARY = replace(TOKENIZERS["dictionary"], codebook_size=30)
WIDTH = 64


@pytest.mark.parametrize("config", [DICTIONARY, SMALL_PATCH], ids=["vq", "fsq"])
def test_codes_that_look_alike_start_alike(config: TokenizerConfig):
    tokenizer = randomised(config)
    every = torch.arange(config.vocab_size)
    vectors = tokenizer.quantizer.vectors(every[:, None, None])[:, :, 0, 0].float()
    embedded = code_embeddings(tokenizer, WIDTH, seeded())
    assert embedded.shape == (config.vocab_size, WIDTH)
    assert embedded.std().item() == pytest.approx(STARTING_DEVIATION)
    ratio = torch.pdist(embedded) / torch.pdist(vectors)
    assert ratio.std() / ratio.mean() < 0.25


def test_a_collapsed_codebook_starts_at_zero_and_not_at_nan():
    tokenizer = randomised(DICTIONARY)
    torch.nn.init.ones_(tokenizer.quantizer.codebook.weight)
    assert code_embeddings(tokenizer, WIDTH, seeded()).abs().max() < 1e-3


def test_the_same_place_differs_between_frames_by_the_frames_alone():
    blocks = position_embeddings(3, 6, WIDTH, seeded()).reshape(3, 37, WIDTH)
    between_frames = blocks[1] - blocks[0]
    torch.testing.assert_close(between_frames, between_frames[:1].expand(37, -1))
    cells = blocks[0, :36].reshape(6, 6, WIDTH)
    between_rows = cells[4] - cells[1]
    torch.testing.assert_close(between_rows, between_rows[:1].expand(6, -1))
    assert torch.pdist(blocks.reshape(-1, WIDTH)).min() > STARTING_DEVIATION


def test_only_the_three_tables_change_and_the_seed_decides():
    tokenizer = randomised(DICTIONARY)
    config = replace(small_config(tokens_per_frame=36), vocab_size=30)
    before, first, again, other = (random_model(config) for _ in range(4))
    for model, seed in ((first, 1), (again, 1), (other, 2)):
        start_embeddings(model, tokenizer, seed)
    changed = {
        name
        for name, tensor in first.state_dict().items()
        if not torch.equal(tensor, before.state_dict()[name])
    }
    tables = ("observation_embedding", "action_embedding", "position_embedding")
    assert changed == {f"{table}.weight" for table in tables}
    for name in changed:
        assert torch.equal(first.state_dict()[name], again.state_dict()[name])
        assert not torch.equal(first.state_dict()[name], other.state_dict()[name])
