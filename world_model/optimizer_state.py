"""The moments of an optimiser by the names of their parameters, as checkpoints hold them."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from datasets.errors import UserError
from world_model.distributed import sharded_like
from world_model.optimizers import Optimizer, Together


def optimizer_tensors(optimizer: Optimizer, module: nn.Module) -> dict[str, Tensor]:
    """The optimiser's moments as `<parameter>.<moment>` tensors, ready for `save_checkpoint`."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}.{moment}": value.detach().contiguous()
        for parameter, moments in optimizer.state.items()
        for moment, value in moments.items()
    }


def restore_optimizer(optimizer: Optimizer, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put moments from `optimizer_tensors` back; parameters and groups must be as when saved.

    Raises:
        UserError: a moment belongs to no parameter of `module`.
    """
    moments: dict[str, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        parameter, moment = key.rsplit(".", 1)
        moments.setdefault(parameter, {})[moment] = value
    names = {parameter: name for name, parameter in module.named_parameters()}
    known = {names[parameter] for group in optimizer.param_groups for parameter in group["params"]}
    unknown = sorted(set(moments) - known)
    if unknown:
        raise UserError(
            f"optimizer.safetensors: moments of unknown parameter {unknown[0]!r}; resume with the same model"
        )
    for part in optimizer.parts if isinstance(optimizer, Together) else (optimizer,):
        state = part.state_dict()
        order = [parameter for group in part.param_groups for parameter in group["params"]]
        state["state"] = {
            index: {
                moment: sharded_like(value, parameter) for moment, value in moments[names[parameter]].items()
            }
            for index, parameter in enumerate(order)
            if names[parameter] in moments
        }
        part.load_state_dict(state)
