from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from planning.beam import beam_search
from planning.model import Evaluation, PlanningError, PlanningModel
from tests.world_model.small_models import SMALL_Q_HEAD, random_model, random_tokens, small_config
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.world_action_model import WorldActionModel

CONFIG = small_config()
MODEL = random_model(CONFIG, seed=1)
FRAME_READER = random_model(small_config(q_head=dataclasses.replace(SMALL_Q_HEAD, reads="frame")), seed=1)
"""A model whose Q heads see whole frames."""
VALUER = random_model(
    small_config(q_head=dataclasses.replace(SMALL_Q_HEAD, reads="frame"), value_head=True), seed=1
)
"""A model with a value head."""
DISCOUNT = 0.9


def _context(blocks: list[int], seed: int = 1, behind: int = 0) -> TokenContext:
    """Random contexts of so many blocks; `behind` fills what is behind the shorter rows."""
    length = torch.tensor([CONFIG.block_tokens * n - 1 for n in blocks])
    tokens = random_tokens(CONFIG, len(blocks), int(length.max()), seed)
    tokens[torch.arange(tokens.shape[1]) >= length[:, None]] = behind
    generator = torch.Generator().manual_seed(seed)
    legal_mask = torch.rand(len(blocks), CONFIG.num_actions, generator=generator) < 0.5
    legal_mask[:, 0] = True
    task_id = torch.randint(0, CONFIG.num_tasks, (len(blocks),), generator=generator)
    return TokenContext(tokens, length, task_id, legal_mask)


def _row(context: TokenContext, row: int) -> TokenContext:
    """One row by itself, without padding."""
    return TokenContext(
        tokens=context.tokens[row : row + 1, : int(context.length[row])],
        length=context.length[row : row + 1],
        task_id=context.task_id[row : row + 1],
        legal_mask=context.legal_mask[row : row + 1],
    )


@dataclass(frozen=True)
class _State:
    """A state of the plain model: every token from the context on."""

    tokens: Tensor
    reward: float
    ended: bool
    q_value: np.ndarray


@torch.inference_mode()
def _plain_root(context: TokenContext, row: int, model: WorldActionModel = MODEL) -> _State:
    tokens = context.tokens[row : row + 1, : int(context.length[row])]
    output = model(tokens, context.task_id[row : row + 1])
    return _State(tokens, 0.0, False, model.q_values(output.logits_q[:, 0, -1]).numpy())


@torch.inference_mode()
def _plain_step(state: _State, action: int, task_id: Tensor, model: WorldActionModel = MODEL) -> _State:
    """The same step without any cache: the whole sequence again for each token."""
    tokens = torch.cat([state.tokens, torch.tensor([[action]])], dim=1)
    output = model(tokens, task_id)
    reward = int(output.logits_rewards[0, -1].argmax()) - 1
    ended = bool(output.logits_ends[0, -1].argmax())
    for _ in range(CONFIG.tokens_per_frame):
        token = model(tokens, task_id).logits_observations[:, -1].argmax(-1, keepdim=True)
        tokens = torch.cat([tokens, token], dim=1)
    q_value = model.q_values(model(tokens, task_id).logits_q[:, 0, -1]).numpy()
    return _State(tokens, reward, ended, q_value)


def _assert_evaluation(evaluation: Evaluation, row: int, state: _State, legal_mask: np.ndarray) -> None:
    np.testing.assert_allclose(evaluation.q_value[row], state.q_value, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(evaluation.prior_logits[row], evaluation.q_value[row])
    assert evaluation.value[row] == evaluation.q_value[row][legal_mask].max()
    assert evaluation.legal_mask[row].tolist() == legal_mask.tolist()
    assert evaluation.reward[row] == state.reward
    assert evaluation.discount[row] == (0.0 if state.ended else DISCOUNT)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.data())
def test_trees_of_any_shape_equal_the_model_without_a_cache(data: st.DataObject) -> None:
    model = data.draw(st.sampled_from([MODEL, FRAME_READER]))
    blocks = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=3))
    context = _context(blocks, seed=data.draw(st.integers(0, 1000)), behind=7)
    planning_model = WorldActionPlanningModel(model, discount=DISCOUNT)
    roots = planning_model.root(context)
    assert roots.node.tolist() == list(range(len(blocks)))
    assert roots.reward.tolist() == [0.0] * len(blocks)
    assert roots.discount.tolist() == [1.0] * len(blocks)
    states = [_plain_root(context, row, model) for row in range(len(blocks))]
    root_of = list(range(len(blocks)))
    for row, state in enumerate(states):
        np.testing.assert_allclose(roots.q_value[row], state.q_value, rtol=1e-4, atol=1e-4)

    for _ in range(3):
        open_nodes = [
            node
            for node, state in enumerate(states)
            if state.tokens.shape[1] + CONFIG.block_tokens < CONFIG.max_tokens
        ]
        parents = data.draw(st.lists(st.sampled_from(open_nodes), min_size=1, max_size=4))
        action = st.integers(0, CONFIG.num_actions - 1)
        actions = [data.draw(action) for _ in parents]
        evaluation = planning_model.step(np.array(parents), np.array(actions))
        assert evaluation.node.tolist() == list(range(len(states), len(states) + len(parents)))
        for row, (parent, taken) in enumerate(zip(parents, actions, strict=True)):
            root = root_of[parent]
            state = _plain_step(states[parent], taken, context.task_id[root : root + 1], model)
            _assert_evaluation(evaluation, row, state, context.legal_mask[root].numpy())
            states.append(state)
            root_of.append(root)
        imagined = planning_model.observation_tokens(evaluation.node)
        for row, node in enumerate(evaluation.node):
            last = states[node].tokens[0, -CONFIG.tokens_per_frame :]
            assert imagined[row].tolist() == last.tolist()


def test_a_value_head_gives_the_level_of_the_values_and_q_their_order() -> None:
    context = _context([2] * 6)
    planning_model, without = WorldActionPlanningModel(VALUER), random_model(VALUER.config, seed=1)
    without.head_value = None
    plain_model = WorldActionPlanningModel(without)
    evaluations = [model.root(context) for model in (planning_model, plain_model)]
    states = [_plain_root(context, row, VALUER) for row in range(6)]
    for step in range(2):
        valued, plain = evaluations
        for row, state in enumerate(states):
            with torch.inference_mode():
                said = VALUER(state.tokens, context.task_id[row : row + 1]).logits_value
                expected = VALUER.q_values(said[:, 0, -1]).item()
            assert valued.value[row] == pytest.approx(expected, rel=1e-4, abs=1e-4)
        np.testing.assert_allclose(
            valued.q_value - valued.value[:, None], plain.q_value - plain.value[:, None], atol=1e-4
        )
        if step == 0:
            actions = np.arange(6)
            evaluations = [m.step(np.arange(6), actions) for m in (planning_model, plain_model)]
            states = [
                _plain_step(state, row, context.task_id[row : row + 1], VALUER)
                for row, state in enumerate(states)
            ]


def test_the_random_model_predicts_ends_and_rewards_of_every_kind() -> None:
    """Otherwise the comparison above would prove little."""
    planning_model = WorldActionPlanningModel(MODEL, discount=DISCOUNT)
    planning_model.root(_context([1] * 40))
    evaluation = planning_model.step(np.arange(40), np.arange(40) % 18)
    assert set(evaluation.discount.tolist()) == {0.0, DISCOUNT}
    assert set(evaluation.reward.tolist()) == {-1.0, 0.0, 1.0}
    assert len(np.unique(planning_model.observation_tokens(evaluation.node), axis=0)) > 10


def test_a_batch_of_searches_equals_single_searches() -> None:
    context = _context([1, 3, 2, 1, 3, 3, 2, 1])
    planning_model = WorldActionPlanningModel(MODEL)
    together = beam_search(planning_model, context, beam_width=2, horizon=2)
    for row in range(8):
        alone = beam_search(planning_model, _row(context, row), beam_width=2, horizon=2)
        assert alone.action[0] == together.action[row]
        np.testing.assert_allclose(alone.root_value[0], together.root_value[row], atol=1e-4)


def test_published_semantics_leave_predicted_ends_unread() -> None:
    context = _context([1] * 40)
    evaluations = []
    for published_semantics in (False, True):
        planning_model = WorldActionPlanningModel(MODEL, published_semantics=published_semantics)
        planning_model.root(context)
        evaluations.append(planning_model.step(np.arange(40), np.arange(40) % 18))
    corrected, published = evaluations
    assert (corrected.discount == 0).any()
    assert (published.discount == 0.99).all()
    np.testing.assert_array_equal(corrected.q_value, published.q_value)


def test_observation_tokens_of_a_root_are_its_last_real_frame() -> None:
    context = _context([1, 3])
    planning_model = WorldActionPlanningModel(MODEL)
    planning_model.root(context)
    frames = planning_model.observation_tokens(np.array([1, 0, 1]))
    assert frames[0].tolist() == context.tokens[1, -4:].tolist()
    assert frames[1].tolist() == context.tokens[0, :4].tolist()
    assert frames[2].tolist() == frames[0].tolist()


def test_it_is_a_planning_model() -> None:
    planning_model: PlanningModel = WorldActionPlanningModel(MODEL)
    assert planning_model.num_actions == CONFIG.num_actions


def test_a_path_beyond_the_longest_sequence_is_refused() -> None:
    planning_model = WorldActionPlanningModel(MODEL)
    planning_model.root(_context([1, CONFIG.max_blocks - 1]))
    node = planning_model.step(np.array([1]), np.array([0])).node
    with pytest.raises(PlanningError, match=r"4 blocks and 2 imagined .* max_blocks of 5; shorten"):
        planning_model.step(np.array([0, node[0]]), np.array([0, 0]))
    planning_model.step(np.array([0]), np.array([0]))


def test_handles_of_no_search_or_an_earlier_one_are_refused() -> None:
    planning_model = WorldActionPlanningModel(MODEL)
    with pytest.raises(PlanningError, match="unknown node; call root first"):
        planning_model.step(np.array([0]), np.array([0]))
    planning_model.root(_context([1, 1]))
    node = planning_model.step(np.array([1]), np.array([0])).node
    planning_model.root(_context([1, 1]))
    for wrong in (node, np.array([-1])):
        with pytest.raises(PlanningError, match="unknown node"):
            planning_model.step(wrong, np.array([0]))
        with pytest.raises(PlanningError, match="unknown node"):
            planning_model.observation_tokens(wrong)


@pytest.mark.parametrize("length", [0, 5, 3, 29])
def test_a_context_of_broken_blocks_is_refused(length: int) -> None:
    context = dataclasses.replace(
        _context([1]), tokens=torch.zeros(1, 29, dtype=torch.int64), length=torch.tensor([length])
    )
    with pytest.raises(PlanningError, match=f"context 0 has {length} tokens; give 1 to 5 blocks"):
        WorldActionPlanningModel(MODEL).root(context)


def test_a_model_in_training_mode_is_refused() -> None:
    model = WorldActionModel(CONFIG)
    with pytest.raises(PlanningError, match="training mode; call its eval"):
        WorldActionPlanningModel(model).root(_context([1]))
