"""The tokenizers of the recordings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.parity.recordings import Recording
from world_model.published_tokenizer import load_published_tokenizer_state_dict
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TokenizerConfig


def tokenizer_of(recording: Recording) -> Tokenizer:
    """The tokenizer that a recorded model was used with; skips where its file is missing."""
    path = recording.path.with_name(recording.section("tokenizer_file"))
    if not path.exists():
        pytest.skip(f"no {path.name} beside {recording.path.name}")
    return recorded_tokenizer(torch.load(path, weights_only=True))


def recorded_tokenizer(content: dict[str, Any]) -> Tokenizer:
    """Our tokenizer with the recorded sizes and weights, in evaluation mode."""
    config = content["config"]
    tokenizer = Tokenizer(
        TokenizerConfig(
            codebook_size=config["vocab_size"],
            code_width=config["embed_dim"],
            channels=config["ch"],
            channel_multipliers=tuple(config["ch_mult"]),
            num_residual_blocks=config["num_res_blocks"],
            attention_resolutions=tuple(config["attn_resolutions"]),
            latent_channels=config["z_channels"],
        )
    )
    load_published_tokenizer_state_dict(tokenizer, content["state_dict"])
    return tokenizer.eval()
