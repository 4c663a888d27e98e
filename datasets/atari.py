"""One Atari game in an emulator, with the published agents' preprocessing.

A decision holds one action for `frame_skip` emulator frames. The frame that an agent sees is the
gray maximum of the last two of them, so that sprites drawn on every other frame do not blink,
scaled to 84x84 by area (Mnih et al. 2015, Methods).

Measured on all 60 games, and the reason for two choices below:

- `reset_game` alone lets the memory of the last episode leak into the next in some games (Assault,
  BeamRider, Tennis and others). Going back to the state right after loading first makes every
  episode equal to that of a fresh emulator.
- Restoring a state leaves pixels of the abandoned future on the screen in some games (Amidar, Qbert).
  So whoever looks ahead does it in a second emulator and never restores the one that is played in;
  memory and rewards there follow the first exactly.
"""

from __future__ import annotations

from dataclasses import dataclass

import ale_py
import cv2
import numpy as np
from ale_py import roms
from jaxtyping import UInt8

from datasets.errors import UserError
from datasets.games import NUM_ACTIONS, Game

EMULATOR = f"ale-py {ale_py.__version__}"
FRAME_SIZE = 84
# The games' own chances do not depend on it (measured: equal play for every seed), it only must be set.
_EMULATOR_SEED = 1


@dataclass(frozen=True, eq=False)
class StepResult:
    """What one decision led to."""

    frame: UInt8[np.ndarray, "84 84"]
    """The gray frame after it; of no meaning where `ended`, as the screen may already show a new game."""
    reward: float
    """Sum of the game's own rewards over the emulator frames."""
    ended: bool
    """True if the game is over."""
    truncated: bool
    """True if the game goes on but `max_frames` are played."""


@dataclass(frozen=True, eq=False)
class EmulatorState:
    """A moment of a game, to go on from in this or another emulator of the same game."""

    machine: ale_py.ALEState
    """State of the emulated machine."""
    frame: UInt8[np.ndarray, "84 84"]
    """The frame seen at that moment."""
    previous_action: int
    """The action of the last emulator frame, which a sticky frame would repeat."""


class AtariEmulator:
    """Plays one game.

    An episode is a function of the game, `seed`, the number of no-ops and the actions alone: the
    emulated machine has no chance of its own, and sticky actions are drawn here.

    Args:
        game: the game.
        seed: seed of the sticky actions, until `reset` is given another.
        sticky_action_probability: at every emulator frame, probability that the action of the frame before
            is repeated in place of the chosen one (Machado et al. 2018, section 5; 0.25 there).
        frame_skip: emulator frames a decision lasts, at least 2.
        max_frames: emulator frames after which an episode is cut short.

    Raises:
        UserError: ale-py has no ROM of the game.
    """

    def __init__(
        self,
        game: Game,
        *,
        seed: int,
        sticky_action_probability: float = 0.0,
        frame_skip: int = 4,
        max_frames: int = 108_000,
    ) -> None:
        if frame_skip < 2:
            raise UserError(f"frame_skip is {frame_skip}; it must be at least 2, as a frame is made of two")
        if not 0.0 <= sticky_action_probability < 1.0:
            raise UserError(
                f"sticky_action_probability is {sticky_action_probability}; it must be at least 0 and below 1"
            )
        self.game = game
        self.frame_skip = frame_skip
        self._sticky = sticky_action_probability
        self._random = np.random.default_rng(seed)
        self._ale = _load(game, max_frames)
        self._loaded = self._ale.cloneState()
        lines, columns = self._ale.getScreenDims()
        self._screens = np.zeros((2, lines, columns), dtype=np.uint8)
        self.reset()

    @property
    def preprocessing(self) -> str:
        """How frames were made, in words, as a store records it."""
        sticky = f"sticky actions {self._sticky:g}" if self._sticky else "no sticky actions"
        return f"84x84 gray, INTER_AREA, maximum of the last 2 of {self.frame_skip} frames, {sticky}"

    @property
    def ram(self) -> UInt8[np.ndarray, "128"]:
        """The machine's memory, a copy."""
        return self._ale.getRAM()

    @property
    def lives(self) -> int:
        """Lives left; 0 in games without lives."""
        return self._ale.lives()

    @property
    def frame(self) -> UInt8[np.ndarray, "84 84"]:
        """The frame that is seen now."""
        return self._frame

    @property
    def screen(self) -> UInt8[np.ndarray, "lines columns 3"]:
        """The game's own screen in colour, as people see it; for pictures only."""
        return self._ale.getScreenRGB()

    @property
    def frames_played(self) -> int:
        """Emulator frames of this episode so far, no-ops included."""
        return self._ale.getEpisodeFrameNumber()

    def reset(self, noops: int = 0, seed: int | None = None) -> UInt8[np.ndarray, "84 84"]:
        """Start a new game and return its first frame.

        Args:
            noops: emulator frames to wait before the first decision; published agents draw 1 to 30.
            seed: start the sticky actions anew from this seed; None goes on with them.
        """
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self._ale.restoreState(self._loaded)
        self._ale.reset_game()
        for _ in range(noops):
            self._ale.act(0)
        if self._ale.game_over():
            raise UserError(f"{self.game.name} was over after {noops} no-ops; ask for fewer")
        self._previous_action = 0
        self._frame = _shrink(self._ale.getScreenGrayscale())
        return self._frame

    def step(self, action: int) -> StepResult:
        """Hold an action for one decision.

        Args:
            action: index of the 18-action vocabulary, 0 to 17.

        Raises:
            ValueError: no such action, or the episode is over.
        """
        reward = 0
        for frame in range(self.frame_skip):
            reward += self._act(self._unless_sticky(action))
            # The end leaves the rest of the decision unplayed.
            if self._ale.game_over():
                self._ale.getScreenGrayscale(self._screens[1])
                break
            if frame >= self.frame_skip - 2:
                self._ale.getScreenGrayscale(self._screens[frame - self.frame_skip + 2])
        self._frame = _shrink(np.maximum(self._screens[0], self._screens[1]))
        ended = self._ale.game_over(with_truncation=False)
        return StepResult(self._frame, float(reward), ended, self._ale.game_truncated() and not ended)

    def advance(self, action: int) -> tuple[float, bool]:
        """Hold an action for one decision without sticky actions and without making a frame.

        This is for looking ahead; it tells nothing of the sticky actions that real play will meet.

        Args:
            action: index of the 18-action vocabulary, 0 to 17.

        Returns:
            The reward, and whether the game is over or cut short.
        """
        reward = 0
        for _ in range(self.frame_skip):
            reward += self._act(action)
            if self._ale.game_over():
                return float(reward), True
        return float(reward), False

    def clone(self) -> EmulatorState:
        """The present moment of the game; the state of the sticky actions is not part of it."""
        return EmulatorState(self._ale.cloneState(), self._frame, self._previous_action)

    def restore(self, state: EmulatorState) -> None:
        """Go on from a moment of this or of another emulator of the same game."""
        if self._ale.getEpisodeFrameNumber() == 0:
            # Qbert's reset stops amid a screen line, which no state records and would put it a frame off.
            self._ale.act(0)
        self._ale.restoreState(state.machine)
        self._frame = state.frame
        self._previous_action = state.previous_action

    def _act(self, action: int) -> int:
        if not 0 <= action < NUM_ACTIONS:
            raise ValueError(f"action {action} is not one of the {NUM_ACTIONS}")
        if self._ale.game_over():
            raise ValueError("the episode is over: reset the emulator")
        self._previous_action = action
        return self._ale.act(action)

    def _unless_sticky(self, action: int) -> int:
        if self._sticky and self._random.random() < self._sticky:
            return self._previous_action
        return action


def _load(game: Game, max_frames: int) -> ale_py.ALEInterface:
    path = roms.get_rom_path(game.rom)
    if path is None:
        raise UserError(f"{EMULATOR} has no ROM of {game.name}; install ale-py 0.12.1 or later")
    ale_py.ALEInterface.setLoggerMode(ale_py.LoggerMode.Error)
    ale = ale_py.ALEInterface()
    ale.setInt("random_seed", _EMULATOR_SEED)
    ale.setFloat("repeat_action_probability", 0.0)
    ale.setInt("max_num_frames_per_episode", max_frames)
    ale.loadROM(path)
    return ale


def _shrink(screen: UInt8[np.ndarray, "lines columns"]) -> UInt8[np.ndarray, "84 84"]:
    small = cv2.resize(screen, (FRAME_SIZE, FRAME_SIZE), interpolation=cv2.INTER_AREA)
    return np.asarray(small, dtype=np.uint8)
