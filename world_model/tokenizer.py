"""The frame tokenizer: 84 x 84 gray frames to 36 discrete tokens and back.

Letters: B frames, K tokens a frame (36), C code width, V vocabulary.

Inside, a gray level g of 0..255 is g / 127.5 - 1, as in the published program. With `use_background`
the networks see and draw only the difference from the game's background (its median frame), so that
codes are not spent on what never moves.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

import torch
from einops import rearrange
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn
from torch.nn import functional

from datasets.errors import UserError
from datasets.games import GAMES
from world_model.frames import FOREGROUND_THRESHOLD, FRAME_SIZE, GRID, PATCH, shift_frames, to_signed
from world_model.patch_networks import (
    PatchDecoder,
    PatchEncoder,
    distinct_patches,
    distinct_rows,
    join_patches,
    patch_blur,
    place_patches,
    split_patches,
    spread_rows,
)
from world_model.quantizers import QuantizerOutput, VectorQuantizer, make_quantizer
from world_model.residual_networks import ResidualDecoder, ResidualEncoder
from world_model.tokenizer_config import TokenizerConfig

SMALL_PIXELS = 8
"""Pixels that a small thing in a patch has at most."""
FAR = 0.25
"""Share of a small thing's contrast, squared, from which on a patch is far from a code of a dictionary."""
FRAMES_AT_ONCE = 1024
"""Frames whose patches are looked at together, to start a dictionary."""
MOST_PATCHES = 65_536
"""Different patches that the codes of a dictionary are chosen from at most, the commonest ones."""


@dataclass(frozen=True)
class TokenizerOutput:
    """What training needs of one pass through the tokenizer; gray levels in [-1, 1]."""

    target: Float[Tensor, "B 1 84 84"]
    """The frames."""
    background: Float[Tensor, "B 1 84 84"] | None
    """What was subtracted from them, if anything was."""
    reconstruction: Float[Tensor, "B 1 84 84"]
    """The frames redrawn from their tokens, not clamped."""
    z: Float[Tensor, "B C 6 6"]
    """The vectors before quantisation."""
    z_quantized: Float[Tensor, "B C 6 6"]
    """The codes' vectors."""
    tokens: Int[Tensor, "B 36"]
    """The codes, row by row."""
    commitment_loss: Float[Tensor, ""]
    """The quantiser's own loss."""


class Tokenizer(nn.Module):
    """Encoder, quantiser, decoder and the games' backgrounds."""

    background: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        """Make a tokenizer with random weights and black backgrounds.

        Raises:
            UserError: the configuration contradicts itself.
        """
        super().__init__()
        if config.compare_blur and config.network != "dictionary":
            raise UserError("tokenizer compare_blur is for network 'dictionary'; set it to 0")
        if config.foreground_weight > 0 and not config.use_background:
            raise UserError("tokenizer foreground_weight needs use_background; set it or set the weight to 0")
        self.config = config
        self.quantizer = make_quantizer(
            config.quantizer,
            codebook_size=config.codebook_size,
            code_width=config.code_width,
            fsq_levels=config.fsq_levels,
            view=patch_blur(config.compare_blur) if config.compare_blur > 0 else None,
        )
        self.encoder, self.decoder = _make_networks(config)
        latent = config.channels if config.network == "patch" else config.latent_channels
        self.pre_quant_conv, self.post_quant_conv = nn.Identity(), nn.Identity()
        if config.network != "dictionary":
            self.pre_quant_conv = nn.Conv2d(latent, self.quantizer.code_width, 1)
            self.post_quant_conv = nn.Conv2d(self.quantizer.code_width, latent, 1)
        # A shallow decoder cannot bend a few scalars into hundreds of unlike patches; with a vector of
        # its own for each code it need not. The gradient still reaches the encoder by post_quant_conv.
        self.code_embedding = nn.Embedding(config.vocab_size, latent) if config.network == "patch" else None
        if self.code_embedding is not None:
            nn.init.zeros_(self.code_embedding.weight)
        if config.network == "dictionary" and (config.quantizer, config.code_width) != ("vq", PATCH**2):
            raise UserError(
                f"a tokenizer of network 'dictionary' needs quantizer 'vq' and code_width {PATCH**2}"
            )
        if config.use_background:
            empty = torch.zeros(len(GAMES), FRAME_SIZE, FRAME_SIZE, dtype=torch.uint8)
            self.register_buffer("background", empty)

    @torch.no_grad()
    def set_background(self, task_id: int, frame: UInt8[Tensor, "84 84"]) -> None:
        """Set one game's background; until then it is black.

        Raises:
            UserError: this tokenizer was configured without backgrounds.
        """
        if not self.config.use_background:
            raise UserError("this tokenizer has no backgrounds; configure it with use_background")
        self.background[task_id] = frame.to(self.background)

    @property
    def local(self) -> bool:
        """Whether each patch is read and drawn on its own, so that equal patches need be done once."""
        return self.config.network != "residual"

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    @torch.no_grad()
    def fill_codebook(self, frames: UInt8[Tensor, "B 84 84"], task_id: Int[Tensor, "B"]) -> None:
        """Start a dictionary with patches of the frames, backgrounds subtracted, that stand for all of them.

        They are chosen by `spread_rows`, as patches and codes are compared. What matters in a patch is often
        a few pixels beside something large, such as a ball at the paddle; so a patch that differs from all
        codes by a fraction of a small thing (`FAR`) counts as much as one that differs altogether.

        Codes that the frames have no patches for keep their random start. Training then moves each code
        to the middle of the patches nearest to it.

        Args:
            frames: a thousand or more, from many moments of play.
            task_id: the game of each.

        Raises:
            ValueError: the tokenizer is no dictionary.
        """
        if not isinstance(self.quantizer, VectorQuantizer) or self.config.network != "dictionary":
            raise ValueError("only a tokenizer of network 'dictionary' starts from patches")
        # As floats, all frames at once would take gigabytes.
        parts = zip(frames.split(FRAMES_AT_ONCE), task_id.split(FRAMES_AT_ONCE), strict=True)
        found = [distinct_rows(self._drawn_patches(*part)) for part in parts]
        patches, frequency = distinct_rows(
            torch.cat([rows for rows, _ in found]), torch.cat([times for _, times in found])
        )
        commonest = frequency.argsort(descending=True, stable=True)[:MOST_PATCHES]
        # The blank patch comes first: it is nearly all of a frame.
        patches = functional.pad(patches[commonest], (0, 0, 1, 0))
        weights = functional.pad(frequency[commonest].float(), (1, 0))
        # In float64, so that processors that round otherwise draw the same.
        compared = patches.double()
        if self.quantizer.view is not None:
            compared = compared @ self.quantizer.view.double()
        visible = (patches.abs() > FOREGROUND_THRESHOLD).sum(dim=1)
        small = (visible > 0) & (visible <= SMALL_PIXELS)
        far = float("inf")
        if small.any():
            contrast = compared[small].square().sum(dim=1)
            far = FAR * float((weights[small] * contrast).sum() / weights[small].sum())
        chosen = spread_rows(compared, weights, self.quantizer.vocab_size, far=far)
        self.quantizer.codebook.weight[: len(chosen)] = patches[chosen]

    def _drawn_patches(
        self, frames: UInt8[Tensor, "B 84 84"], task_id: Int[Tensor, "B"]
    ) -> Float[Tensor, "N P"]:
        """All patches that differ from the background, less the background."""
        background, seen = self.background_of(task_id), to_signed(frames)
        if background is not None:
            seen = seen - to_signed(background)
        patches = rearrange(split_patches(seen), "B P h w -> (B h w) P")
        return patches[(patches != 0).any(dim=1)]

    def forward(
        self,
        frames: UInt8[Tensor, "B 84 84"],
        task_id: Int[Tensor, "B"],
        *,
        shift: Int[Tensor, "B 2"] | None = None,
    ) -> TokenizerOutput:
        """Encode, quantise and decode, with gradients.

        Args:
            frames: gray frames.
            task_id: the game of each.
            shift: rows and columns by which frame and background are moved before, if given.
        """
        background = self.background_of(task_id)
        if shift is not None:
            frames = shift_frames(frames, shift)
            background = None if background is None else shift_frames(background, shift)
        target = to_signed(frames)
        drawn_on = None if background is None else to_signed(background)
        z, quantized, drawn = self._autoencode(target if drawn_on is None else target - drawn_on)
        return TokenizerOutput(
            target=target,
            background=drawn_on,
            reconstruction=drawn if drawn_on is None else drawn + drawn_on,
            z=z,
            z_quantized=quantized.quantized,
            tokens=rearrange(quantized.indices, "B H W -> B (H W)"),
            commitment_loss=quantized.loss.mean(),
        )

    @torch.no_grad()
    def encode(self, frames: UInt8[Tensor, "B 84 84"], task_id: Int[Tensor, "B"]) -> Int[Tensor, "B 36"]:
        """Tokens of the frames, row by row of the grid; always computed in float32."""
        seen = to_signed(frames)
        background = self.background_of(task_id)
        if background is not None:
            seen = seen - to_signed(background)
        with torch.autocast(frames.device.type, enabled=False):
            if self.local:
                patches, slot = distinct_patches(split_patches(seen))
                indices = self.quantizer(self.pre_quant_conv(self.encoder(patches))).indices[0, 0][slot]
            else:
                indices = self.quantizer(self.pre_quant_conv(self.encoder(seen))).indices
        return rearrange(indices, "B H W -> B (H W)")

    @torch.no_grad()
    def decode(self, tokens: Int[Tensor, "B 36"], task_id: Int[Tensor, "B"]) -> UInt8[Tensor, "B 84 84"]:
        """Frames drawn from tokens, rounded to the nearest gray level."""
        return (self.decode_intensity(tokens, task_id) * 255.0).round().to(torch.uint8)

    @torch.no_grad()
    def decode_intensity(
        self, tokens: Int[Tensor, "B 36"], task_id: Int[Tensor, "B"]
    ) -> Float[Tensor, "B 84 84"]:
        """Frames drawn from tokens as intensities clamped to [0, 1]; always computed in float32."""
        indices = rearrange(tokens, "B (H W) -> B H W", H=GRID)
        with torch.autocast(tokens.device.type, enabled=False):
            if self.local:
                codes, slot = indices.unique(return_inverse=True)
                codes = torch.cat([self._blank_code(), rearrange(codes, "N -> 1 1 N")], dim=-1)
                drawn = self._draw_patches(self.quantizer.vectors(codes), codes)
                drawn = join_patches(place_patches(drawn, slot + 1))
            else:
                drawn = self._draw(self.quantizer.vectors(indices), indices)
        background = self.background_of(task_id)
        if background is not None:
            drawn = drawn + to_signed(background)
        return ((rearrange(drawn, "B 1 H W -> B H W") + 1.0) / 2.0).clamp(0.0, 1.0)

    def content_hash(self) -> str:
        """SHA-256 of configuration and weights, the same on every device; names what made a token."""
        digest = hashlib.sha256(json.dumps(asdict(self.config), sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def background_of(self, task_id: Int[Tensor, "B"]) -> UInt8[Tensor, "B 84 84"] | None:
        """Each row's background, or nothing for a tokenizer without backgrounds."""
        return self.background[task_id] if self.config.use_background else None

    def _autoencode(self, seen: Tensor) -> tuple[Tensor, QuantizerOutput, Tensor]:
        """Vectors before quantisation, what the quantiser made of them, and the picture drawn."""
        if not self.local:
            z = self.pre_quant_conv(self.encoder(seen))
            quantized = self.quantizer(z)
            return z, quantized, self._draw(quantized.quantized, quantized.indices)
        patches, slot = distinct_patches(split_patches(seen))
        z = self.pre_quant_conv(self.encoder(patches))
        quantized = self.quantizer(z)
        drawn = self._draw_patches(quantized.quantized, quantized.indices)
        placed = QuantizerOutput(
            place_patches(quantized.quantized, slot),
            quantized.indices[0, 0][slot],
            quantized.loss[0, 0][slot],
        )
        return place_patches(z, slot), placed, join_patches(place_patches(drawn, slot))

    def _blank_code(self) -> Tensor:
        patch = torch.zeros(1, PATCH**2, 1, 1, device=self.device)
        return self.quantizer(self.pre_quant_conv(self.encoder(patch))).indices

    def _draw_patches(self, codes: Tensor, indices: Tensor) -> Tensor:
        """Draw N patches of which the first is the blank one."""
        drawn = self._draw(codes, indices)
        # Whatever else has the blank patch's code must not leave marks all over the background.
        return drawn if self.config.network == "dictionary" else drawn - drawn[..., :1]

    def _draw(self, codes: Tensor, indices: Tensor) -> Tensor:
        latent = self.post_quant_conv(codes)
        if self.code_embedding is not None:
            latent = latent + rearrange(self.code_embedding(indices), "B H W C -> B C H W")
        return self.decoder(latent)


def _make_networks(config: TokenizerConfig) -> tuple[nn.Module, nn.Module]:
    if config.network == "dictionary":
        return nn.Identity(), nn.Identity()
    if config.network == "patch":
        encoder = PatchEncoder(channels=config.channels, num_residual_blocks=config.num_residual_blocks)
        return encoder, PatchDecoder(channels=config.channels)
    encoder = ResidualEncoder(
        channels=config.channels,
        multipliers=config.channel_multipliers,
        num_residual_blocks=config.num_residual_blocks,
        attention_resolutions=config.attention_resolutions,
        output_channels=config.latent_channels,
    )
    decoder = ResidualDecoder(
        channels=config.channels,
        multipliers=config.channel_multipliers,
        num_residual_blocks=config.num_residual_blocks,
        input_channels=config.latent_channels,
    )
    return encoder, decoder
