"""The 60 Atari games of the published agents: their task ids and legal actions.

Actions are always indices of the full 18-action vocabulary of the Arcade Learning Environment; a
game's legal actions are its minimal action set. The order of the games is the order of the
published agents' task embedding, so a game's position here is its `task_id`.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from datasets.errors import UserError

ACTION_NAMES = (
    "NOOP", "FIRE", "UP", "RIGHT", "LEFT", "DOWN", "UPRIGHT", "UPLEFT", "DOWNRIGHT",
    "DOWNLEFT", "UPFIRE", "RIGHTFIRE", "LEFTFIRE", "DOWNFIRE", "UPRIGHTFIRE", "UPLEFTFIRE",
    "DOWNRIGHTFIRE", "DOWNLEFTFIRE",
)  # fmt: skip
NUM_ACTIONS = len(ACTION_NAMES)

# Minimal action set of each game, in the emulator's own order.
_LEGAL_ACTIONS: dict[str, tuple[int, ...]] = {
    "AirRaid": (0, 1, 3, 4, 11, 12),
    "Alien": tuple(range(18)),
    "Amidar": (0, 1, 2, 3, 4, 5, 10, 11, 12, 13),
    "Assault": (0, 1, 2, 3, 4, 11, 12),
    "Asterix": (0, 2, 3, 4, 5, 6, 7, 8, 9),
    "Asteroids": (0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13, 14, 15),
    "Atlantis": (0, 1, 11, 12),
    "BankHeist": tuple(range(18)),
    "BattleZone": tuple(range(18)),
    "BeamRider": (0, 1, 2, 3, 4, 6, 7, 11, 12),
    "Berzerk": tuple(range(18)),
    "Bowling": (0, 1, 2, 5, 10, 13),
    "Boxing": tuple(range(18)),
    "Breakout": (0, 1, 3, 4),
    "Carnival": (0, 1, 3, 4, 11, 12),
    "Centipede": tuple(range(18)),
    "ChopperCommand": tuple(range(18)),
    "CrazyClimber": (0, 2, 3, 4, 5, 6, 7, 8, 9),
    "DemonAttack": (0, 1, 3, 4, 11, 12),
    "DoubleDunk": tuple(range(18)),
    "ElevatorAction": tuple(range(18)),
    "Enduro": (0, 1, 3, 4, 5, 8, 9, 11, 12),
    "FishingDerby": tuple(range(18)),
    "Freeway": (0, 2, 5),
    "Frostbite": tuple(range(18)),
    "Gopher": (0, 1, 2, 3, 4, 10, 11, 12),
    "Gravitar": tuple(range(18)),
    "Hero": tuple(range(18)),
    "IceHockey": tuple(range(18)),
    "Jamesbond": tuple(range(18)),
    "JourneyEscape": (0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17),
    "Kangaroo": tuple(range(18)),
    "Krull": tuple(range(18)),
    "KungFuMaster": (0, 2, 3, 4, 5, 8, 9, 11, 12, 13, 14, 15, 16, 17),
    "MontezumaRevenge": tuple(range(18)),
    "MsPacman": (0, 2, 3, 4, 5, 6, 7, 8, 9),
    "NameThisGame": (0, 1, 3, 4, 11, 12),
    "Phoenix": (0, 1, 3, 4, 5, 11, 12, 13),
    "Pitfall": tuple(range(18)),
    "Pong": (0, 1, 3, 4, 11, 12),
    "Pooyan": (0, 1, 2, 5, 10, 13),
    "PrivateEye": tuple(range(18)),
    "Qbert": (0, 1, 2, 3, 4, 5),
    "Riverraid": tuple(range(18)),
    "RoadRunner": tuple(range(18)),
    "Robotank": tuple(range(18)),
    "Seaquest": tuple(range(18)),
    "Skiing": (0, 3, 4),
    "Solaris": tuple(range(18)),
    "SpaceInvaders": (0, 1, 3, 4, 11, 12),
    "StarGunner": tuple(range(18)),
    "Tennis": tuple(range(18)),
    "TimePilot": (0, 1, 2, 3, 4, 5, 10, 11, 12, 13),
    "Tutankham": (0, 2, 3, 4, 5, 10, 11, 12),
    "UpNDown": (0, 1, 2, 5, 10, 13),
    "Venture": tuple(range(18)),
    "VideoPinball": (0, 1, 2, 3, 4, 5, 10, 11, 12),
    "WizardOfWor": (0, 1, 2, 3, 4, 5, 10, 11, 12, 13),
    "YarsRevenge": tuple(range(18)),
    "Zaxxon": tuple(range(18)),
}


@dataclass(frozen=True)
class Game:
    """One Atari game."""

    name: str
    """The name in the published spelling, such as `SpaceInvaders`."""
    task_id: int
    """Row of the task embedding, 0 to 59."""
    legal_actions: tuple[int, ...]
    """The minimal action set as indices of the 18-action vocabulary."""

    @property
    def rom(self) -> str:
        """The emulator's name of the ROM, such as `space_invaders`."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).lower()

    @property
    def legal_mask(self) -> Bool[np.ndarray, "18"]:
        """True where an action of the full vocabulary is legal in this game."""
        mask = np.zeros(NUM_ACTIONS, dtype=bool)
        mask[list(self.legal_actions)] = True
        return mask


GAMES: tuple[Game, ...] = tuple(
    Game(name, task_id, legal) for task_id, (name, legal) in enumerate(_LEGAL_ACTIONS.items())
)
_BY_KEY = {game.name.lower(): game for game in GAMES}


def find_game(name: str) -> Game:
    """Look a game up by any usual spelling: `Pong`, `pong`, `space_invaders` or `ALE/Pong-v5`.

    Raises:
        UserError: no game has this name; the sentence offers the nearest ones.
    """
    bare = re.sub(r"^ALE/", "", name)
    bare = re.sub(r"(NoFrameskip)?-v\d+$", "", bare)
    key = re.sub(r"[^a-z]", "", bare.lower())
    if key in _BY_KEY:
        return _BY_KEY[key]
    near = difflib.get_close_matches(key, _BY_KEY, n=3, cutoff=0.5)
    hint = f"; did you mean {', '.join(_BY_KEY[k].name for k in near)}?" if near else ""
    raise UserError(f"unknown game {name!r}{hint or '; see datasets/games.py for the 60 names'}")


def legal_mask_table() -> Bool[np.ndarray, "60 18"]:
    """Legal-action masks of all games; row `task_id`, column action."""
    return np.stack([game.legal_mask for game in GAMES])
