"""Solving a packing: fitting a capacity, or making the peak low."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agents.games.packing.drawing import draw_packing
from agents.games.packing.heuristics import Heuristic, play_heuristic
from agents.games.packing.instance import PackingInstance
from agents.games.packing.search import PackingSearchConfig, fit
from agents.games.packing.solution import Packing, packing_of, write_packing
from agents.games.packing.validator import violations
from agents.search_agent.checkpoint import load_search_checkpoint
from agents.search_agent.guide import NetworkGuide
from agents.search_agent.packing import PackingSearchGame, random_packings
from agents.search_agent.self_play import Episode, PlayConfig
from agents.solving.playing import play_until
from agents.solving.task import Baseline

FIRST_SHARE = 0.1
"""Share of the time left that the first attempts at a capacity get."""


@dataclass(frozen=True)
class PackingTask:
    """`task.Task` of one instance."""

    instance: PackingInstance
    """The buffers, and the capacity they are to fit if one is given."""
    checkpoint: Path
    """Network of the search agent."""
    play: PlayConfig = PlayConfig()
    """How moves of `play_alone` are chosen."""

    objective_name = "peak [bytes]"

    @property
    def name(self) -> str:
        """Of the instance."""
        return self.instance.name

    @property
    def bound(self) -> float:
        """Most bytes alive at one time; a capacity that is larger is enough."""
        return float(max(self.instance.lower_bound, self.instance.capacity or 0))

    def baselines(self) -> Sequence[Baseline]:
        """Every list heuristic."""
        return [Baseline(one.value, play_heuristic(self.instance, one)) for one in Heuristic]

    def small(self) -> PackingTask:
        """A rectangle cut into buffers."""
        return replace(self, instance=random_packings(1, seed=0)[0])

    def search(self, seed: int, seconds: float, found: Callable[[Packing], None]) -> None:
        """Fit smaller and smaller capacities by restarted depth-first searches.

        The bound itself is tried first, then what lies half way between the last failure and the best plan,
        for longer each time round. The orders in which searches try buffers come from the network and from
        plain keys in turns.
        """
        deadline = time.perf_counter() + seconds
        network = load_search_checkpoint(self.checkpoint).network
        guides = (NetworkGuide(network, PackingSearchGame(self.instance)), None)
        lowest = int(self.bound)
        best = sum(int(size) for size in self.instance.size)
        floor, share, turn = lowest - 1, FIRST_SHARE, 0
        while best > lowest and (left := deadline - time.perf_counter()) > 0:
            target = lowest if floor < lowest else (floor + best) // 2
            config = PackingSearchConfig(workers=1, seed=1000 * seed + turn)
            result = fit(self.instance, target, max(share * left, 0.1), guides[turn % 2], config)
            if result.packing is not None:
                best = result.packing.peak
                found(packing_of(self.instance, result.packing.offsets))
            else:
                floor = target
            if best - floor <= 1:  # all between was tried; begin again at the bound, for longer
                floor, share = lowest - 1, min(2 * share, 1.0)
            turn += 1

    def play_alone(self, seed: int, seconds: float, found: Callable[[Packing], None]) -> None:
        """What was learned alone: games of the network, without depth-first search."""
        deadline = time.perf_counter() + seconds
        network = load_search_checkpoint(self.checkpoint).network
        game = PackingSearchGame(self.instance)

        def ended(_: int, episode: Episode) -> None:
            found(packing_of(self.instance, game.rules.offsets(episode.actions).tolist()))

        play_until(deadline, [game], network, self.play, seed=seed, found=ended)

    def objective(self, plan: Packing) -> float:
        """The peak; whatever fits the capacity is as good as the bound."""
        return max(float(plan.peak), self.bound)

    def violations(self, plan: Packing) -> Sequence[str]:
        """By the validator, which shares no code with the rules."""
        return [str(violation) for violation in violations(self.instance, plan.offsets, peak=plan.peak)]

    def write(self, plan: Packing, path: Path) -> None:
        """As JSON."""
        write_packing(self.instance, plan, path)

    def draw(self, plan: Packing, path: Path) -> Sequence[Path]:
        """Rectangles of time and memory."""
        picture = path.with_suffix(".png")
        draw_packing(self.instance, plan, picture)
        return [picture]
