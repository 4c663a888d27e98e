"""The published tokenizer's weights: their names in its files and their way into `Tokenizer` and back."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from datasets.errors import UserError
from world_model.tokenizer import Tokenizer

PREFIXES = ("_orig_mod.module.", "module.", "_orig_mod.", "")
"""Wrappers (compiled, data parallel) whose prefix a published file may carry, longest first."""
_PERCEPTUAL = "lpips."
_RENAMED = {"embedding.weight": "quantizer.codebook.weight"}


def _without_prefix(name: str) -> str:
    return next(name.removeprefix(prefix) for prefix in PREFIXES if name.startswith(prefix))


def load_published_tokenizer_state_dict(tokenizer: Tokenizer, state_dict: Mapping[str, Tensor]) -> None:
    """Copy a published tokenizer's weights into `tokenizer`; its perceptual network (lpips.*) is dropped.

    Raises:
        UserError: names or shapes are not those of this tokenizer's configuration; nothing is copied then.
    """
    renamed = {}
    for name, tensor in state_dict.items():
        bare = _without_prefix(name)
        if not bare.startswith(_PERCEPTUAL):
            renamed[_RENAMED.get(bare, bare)] = tensor
    own = tokenizer.state_dict()
    for problem, names in (
        ("lacks", own.keys() - renamed.keys()),
        ("has the unknown", renamed.keys() - own.keys()),
    ):
        if names:
            raise UserError(
                f"the published tokenizer file {problem} tensor {min(names)} ({len(names)} in all); "
                "choose the tokenizer configuration that it was made with"
            )
    for name, tensor in renamed.items():
        if tensor.shape != own[name].shape:
            raise UserError(
                f"tensor {name} of the published tokenizer file has shape {tuple(tensor.shape)} and this "
                f"configuration {tuple(own[name].shape)}; choose the configuration that it was made with"
            )
    tokenizer.load_state_dict(renamed)


def published_tokenizer_state_dict(tokenizer: Tokenizer) -> dict[str, Tensor]:
    """The weights under their published names, without prefix and without a perceptual network."""
    published_names = {ours: theirs for theirs, ours in _RENAMED.items()}
    return {published_names.get(name, name): tensor for name, tensor in tokenizer.state_dict().items()}
