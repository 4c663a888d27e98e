"""The cases of `benchmarks.search` in mctx, the field's reference; needs the extra `mctx`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import numpy as np

from benchmarks.search_cases import DISCOUNT, Case, network, observation, table
from planning import SearchResult, SearchTree


def mctx_search(case: Case) -> Callable[[], Any]:
    """The same search as a call without arguments that returns mctx's output when all of it is there."""
    if case.model == "table":
        tables = table()
        names = ("next_state", "reward", "discount", "prior_logits", "value")
        params = {name: jnp.asarray(getattr(tables, name)) for name in names}
        params["next_state"] = params["next_state"].astype(jnp.int32)
        step, root_of, seen = _table_step, _table_root, jnp.asarray(observation(case), jnp.int32)
    else:
        weights = network()
        names = ("action", "head", "head_bias")
        params = {name: jnp.asarray(getattr(weights, name)) for name in names}
        params["layers"] = [jnp.asarray(layer) for layer in weights.layers]
        params["biases"] = [jnp.asarray(bias) for bias in weights.biases]
        step, root_of, seen = _network_step, _network_root, jnp.asarray(observation(case))

    @jax.jit
    def search(params: Any, key: Any, seen: Any) -> Any:
        arguments = (params, key, root_of(params, seen), step, case.simulations)
        if case.search == "puct":
            return mctx.muzero_policy(*arguments, dirichlet_fraction=0.0, temperature=0.0)
        return mctx.gumbel_muzero_policy(*arguments, gumbel_scale=0.0)

    key = jax.random.PRNGKey(0)
    return lambda: jax.block_until_ready(search(params, key, seen))


def _table_root(params: Any, state: Any) -> Any:
    return mctx.RootFnOutput(
        prior_logits=params["prior_logits"][state], value=params["value"][state], embedding=state
    )


def _table_step(params: Any, _key: Any, action: Any, state: Any) -> Any:
    following = params["next_state"][state, action]
    output = mctx.RecurrentFnOutput(
        reward=params["reward"][state, action],
        discount=params["discount"][state, action],
        prior_logits=params["prior_logits"][following],
        value=params["value"][following],
    )
    return output, following


def _network_root(params: Any, states: Any) -> Any:
    out = states @ params["head"] + params["head_bias"]
    return mctx.RootFnOutput(prior_logits=out[:, :-2], value=out[:, -2], embedding=states)


def _network_step(params: Any, _key: Any, action: Any, states: Any) -> Any:
    (first, second), (bias, other_bias) = params["layers"], params["biases"]
    x = jax.nn.relu(states @ first + bias + params["action"][action])
    x = jax.nn.relu(x @ second + other_bias)
    out = x @ params["head"] + params["head_bias"]
    output = mctx.RecurrentFnOutput(
        reward=out[:, -1],
        discount=jnp.full(len(action), DISCOUNT),
        prior_logits=out[:, :-2],
        value=out[:, -2],
    )
    return output, x


def equal_trees(ours: SearchResult[SearchTree], theirs: Any) -> float:
    """Share of the roots whose trees are the same node for node, visit for visit."""
    pairs = (
        (ours.tree.parent, theirs.search_tree.parents),
        (ours.tree.action, theirs.search_tree.action_from_parent),
        (ours.tree.visits, theirs.search_tree.node_visits),
    )
    same = [(mine == np.asarray(other)).all(axis=1) for mine, other in pairs]
    return float(np.all(same, axis=0).mean())


def bytes_per_node(theirs: Any, case: Case) -> float:
    """Memory of mctx's trees, the model's states left out."""
    tree = theirs.search_tree
    fields = (
        tree.node_visits, tree.raw_values, tree.node_values, tree.parents, tree.action_from_parent,
        tree.children_index, tree.children_prior_logits, tree.children_visits, tree.children_rewards,
        tree.children_discounts, tree.children_values,
    )  # fmt: skip
    return sum(field.nbytes for field in fields) / (case.batch * (case.simulations + 1))
