"""Planners that know a world only through a `PlanningModel`: batched roots, batched steps, handles.

    from planning import beam_search
    result = beam_search(model, observation, beam_width=4, horizon=2)
    result.action  # [B]

Every search returns a `SearchResult`; `best_path` reads the plan out of it. See docs/search.md.
"""

from planning.base import SearchResult, SearchTree, Tree, best_path
from planning.beam import beam_search
from planning.best_first import best_first_search
from planning.gumbel_muzero import gumbel_muzero
from planning.mcts import mcts
from planning.model import Evaluation, PlanningError, PlanningModel
from planning.muzero import muzero
from planning.options import RootNoise, TreeOptions
from planning.stochastic_muzero import stochastic_muzero
from planning.subtree import Resume

__all__ = [
    "Evaluation",
    "PlanningError",
    "PlanningModel",
    "Resume",
    "RootNoise",
    "SearchResult",
    "SearchTree",
    "Tree",
    "TreeOptions",
    "beam_search",
    "best_first_search",
    "best_path",
    "gumbel_muzero",
    "mcts",
    "muzero",
    "stochastic_muzero",
]
