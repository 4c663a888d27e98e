"""World-action models: tokenizers, the shared transformer, its losses, and planning in it."""

from world_model.sizes import SIZES
from world_model.world_action_model import ModelOutput, WorldActionConfig, WorldActionModel

__all__ = ["SIZES", "ModelOutput", "WorldActionConfig", "WorldActionModel"]
