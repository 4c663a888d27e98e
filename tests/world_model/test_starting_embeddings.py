"""Embeddings that start from what is known."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from tests.world_model.small_models import random_model, small_config
from tests.world_model.small_tokenizers import SMALL_PATCH, randomised, seeded
from world_model.starting_embeddings import (
    STARTING_DEVIATION,
    code_embeddings,
    position_embeddings,
    start_embeddings,
)
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS, TokenizerConfig

DICTIONARY = replace(TOKENIZERS["dictionary"], codebook_size=30)
WIDTH = 64


def vectors_of(tokenizer: Tokenizer) -> torch.Tensor:
    every = torch.arange(tokenizer.config.vocab_size)
    return tokenizer.quantizer.vectors(every[:, None, None])[:, :, 0, 0].float().detach()


@pytest.mark.parametrize("config", [DICTIONARY, SMALL_PATCH], ids=["vq", "fsq"])
def test_codes_that_look_alike_start_alike(config: TokenizerConfig):
    tokenizer = randomised(config)
    vectors = vectors_of(tokenizer)
    if config is SMALL_PATCH:
        vectors = vectors - vectors.mean(0)
    embedded = code_embeddings(tokenizer, 4096, seeded()).detach()
    assert embedded.std().item() == pytest.approx(STARTING_DEVIATION)
    cosines = [torch.corrcoef(F.normalize(v) @ F.normalize(v).T) for v in (embedded, vectors)]
    torch.testing.assert_close(*cosines, atol=0.1, rtol=0)


def test_a_patch_that_differs_little_from_the_background_is_not_lost():
    tokenizer = randomised(DICTIONARY)
    patches = torch.zeros(30, 196)
    patches[1, :2] = 0.1  # a ball
    patches[2:] = 1.0  # walls
    tokenizer.quantizer.codebook.weight.data.copy_(patches)
    background, ball, wall, *_ = code_embeddings(tokenizer, WIDTH, seeded()).norm(dim=1)
    assert background == 0
    assert ball > wall / 5


@pytest.mark.parametrize("config", [DICTIONARY, replace(DICTIONARY, use_background=False)])
def test_a_collapsed_codebook_starts_equal_and_not_at_nan(config: TokenizerConfig):
    tokenizer = randomised(config)
    torch.nn.init.ones_(tokenizer.quantizer.codebook.weight)
    embedded = code_embeddings(tokenizer, WIDTH, seeded())
    assert embedded.isfinite().all()
    torch.testing.assert_close(embedded, embedded[:1].expand(30, -1))


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
