from dataclasses import replace

import numpy as np
import pytest
import torch

from agents.acting import PUBLISHED_DISCOUNT, ActingConfig, Agent, ContextMemory, Decision
from datasets.errors import UserError
from datasets.games import find_game
from planning.base import best_path
from planning.beam import beam_search
from tests.agents.fakes import MODEL, TOKENIZER, random_frames, random_model, random_tokenizer
from world_model.planning_model import TokenContext, WorldActionPlanningModel
from world_model.tokenizer import Tokenizer
from world_model.world_action_model import WorldActionModel

PONG = find_game("Pong")
CALM = ActingConfig(epsilon=0.0)


def make_agent(config: ActingConfig = CALM, *, environments: int = 1, seed: int = 0, game=PONG) -> Agent:
    return Agent(random_tokenizer(), random_model(), game, config, environments=environments, seed=seed)


def play(agent: Agent, frames: np.ndarray, *, environment: int = 0, episode: int = 0) -> list[Decision]:
    """One environment's decisions on the frames of one episode."""
    agent.begin(environment, episode)
    return [agent.act(frame[None], [environment]) for frame in frames]


def test_a_batch_acts_as_single_runs_do():
    decisions = 3
    episodes = random_frames(0, 4, decisions)
    config = replace(CALM, epsilon=0.1)
    together, alone = make_agent(config, environments=4), make_agent(config)
    # They enter one after the other, so that contexts of all lengths stand side by side.
    entrance = np.arange(4) % 3
    batched: list[list[tuple]] = [[] for _ in range(4)]
    for moment in range(decisions + 2):
        present = [e for e in range(4) if 0 <= moment - entrance[e] < decisions]
        for environment in present:
            if moment == entrance[environment]:
                together.begin(environment, episode=environment)
        frames = np.stack([episodes[e, moment - entrance[e]] for e in present])
        decision = together.act(frames, present)
        for environment, *row in zip(
            present, decision.actions, decision.is_random, decision.planned_values, strict=True
        ):
            batched[environment].append(tuple(row))
    for environment, frames in enumerate(episodes):
        single = play(alone, frames, episode=environment)
        for one, (action, is_random, planned_values) in zip(single, batched[environment], strict=True):
            assert one.actions[0] == action
            assert one.is_random[0] == is_random
            np.testing.assert_allclose(one.planned_values[0], planned_values, atol=1e-4)


def test_planning_starts_from_the_last_frames_that_leave_room_for_the_horizon():
    tokenizer, model = random_tokenizer(), random_model()
    agent = Agent(tokenizer, model, PONG, CALM, environments=1, seed=0)
    frames = random_frames(1, 7)
    decisions = play(agent, frames)
    tokens = tokenizer.encode(torch.from_numpy(frames), torch.full((7,), PONG.task_id))
    # Five blocks less a horizon of two: frames 4, 5 and 6, with the actions between them.
    context = [*tokens[4], decisions[4].actions[0], *tokens[5], decisions[5].actions[0], *tokens[6]]
    planning_model = WorldActionPlanningModel(model, discount=PUBLISHED_DISCOUNT)
    observation = TokenContext(
        tokens=torch.tensor([[int(token) for token in context]]),
        length=torch.tensor([3 * 37 - 1]),
        task_id=torch.tensor([PONG.task_id]),
        legal_mask=torch.from_numpy(PONG.legal_mask[None]),
    )
    expected = beam_search(planning_model, observation, beam_width=2, horizon=2, trace_decay=0.5)
    assert decisions[-1].actions[0] == expected.action[0]
    np.testing.assert_allclose(decisions[-1].planned_values, expected.root_q_value, atol=1e-5)
    np.testing.assert_allclose(decisions[-1].q_values, expected.tree.q_value[:, 0], atol=1e-5)


def test_the_plan_is_the_best_path_with_its_frames_drawn():
    tokenizer, model = random_tokenizer(), random_model()
    agent = Agent(tokenizer, model, PONG, CALM, environments=2, seed=0)
    agent.begin(0, 0)
    agent.begin(1, 1)
    frames = random_frames(2, 2)
    decision = agent.act(frames, [0, 1])
    planning_model = WorldActionPlanningModel(model, discount=PUBLISHED_DISCOUNT)
    tokens = tokenizer.encode(torch.from_numpy(frames), torch.full((2,), PONG.task_id))
    observation = TokenContext(
        tokens=tokens,
        length=torch.full((2,), 36),
        task_id=torch.full((2,), PONG.task_id),
        legal_mask=torch.from_numpy(np.stack([PONG.legal_mask] * 2)),
    )
    result = beam_search(planning_model, observation, beam_width=2, horizon=2, trace_decay=0.5)
    for row in range(2):
        plan = agent.plan(decision, row)
        actions, rows = best_path(result, row)
        assert plan.actions.tolist() == actions.tolist()
        assert plan.actions[0] == decision.actions[row]
        assert plan.rewards.tolist() == result.tree.reward[row, rows[1:]].tolist()
        assert plan.ends.tolist() == (result.tree.discount[row, rows[1:]] == 0).tolist()
        drawn = tokenizer.decode(
            torch.from_numpy(planning_model.observation_tokens(result.tree.node[row, rows[1:]])),
            torch.full((len(actions),), PONG.task_id),
        )
        assert np.array_equal(plan.frames, drawn.numpy())


def test_without_planning_the_highest_q_value_decides_from_the_whole_context():
    decisions = play(make_agent(replace(CALM, planner="greedy")), random_frames(3, 6))
    for decision in decisions:
        assert decision.actions[0] == decision.q_values[0].argmax()
        assert np.array_equal(decision.q_values, decision.planned_values)
    assert np.isinf(decisions[0].q_values[0, ~PONG.legal_mask]).all()


def test_without_planning_there_is_no_plan():
    agent = make_agent(replace(CALM, planner="greedy"))
    agent.begin(0, 0)
    plan = agent.plan(agent.act(random_frames(4, 1), [0]), 0)
    assert len(plan.actions) == len(plan.rewards) == len(plan.ends) == len(plan.frames) == 0


def test_budgets_limit_what_is_planned():
    frames = random_frames(3, 1, 3)[0]
    whole, greedy = play(make_agent(), frames), play(make_agent(replace(CALM, planner="greedy")), frames)
    block = MODEL.block_tokens
    none = play(make_agent(replace(CALM, token_budget=block - 1)), frames)
    assert [decision.actions[0] for decision in none] == [decision.actions[0] for decision in greedy]
    two = play(make_agent(replace(CALM, token_budget=2 * block)), frames)
    assert all(decision.search.tree.num_nodes[0] == 3 for decision in two)
    hasty = play(make_agent(replace(CALM, time_budget=0.0)), frames)
    assert all(decision.search.tree.num_nodes[0] == 1 for decision in hasty)
    sure = play(make_agent(replace(CALM, confident_gap=0.0)), frames)
    assert all(decision.search.tree.num_nodes[0] == 1 for decision in sure)
    unsure = play(make_agent(replace(CALM, confident_gap=1e9)), frames)
    for one, other in zip(whole, unsure, strict=True):
        np.testing.assert_array_equal(one.planned_values, other.planned_values)


def test_bfloat16_plans_with_values_close_to_those_of_float32():
    frames = random_frames(4, 1, 2)[0]
    exact, rough = play(make_agent(), frames), play(make_agent(replace(CALM, precision="bfloat16")), frames)
    for one, other in zip(exact, rough, strict=True):
        legal = np.isfinite(one.q_values)
        assert not np.array_equal(one.q_values, other.q_values)
        assert np.abs(one.q_values[legal] - other.q_values[legal]).max() < 1.0


def test_tree_search_plans_within_the_horizon():
    config = replace(CALM, planner="mcts", num_simulations=6, horizon=3)
    agent = make_agent(config, environments=2)
    agent.begin(0, 0)
    agent.begin(1, 1)
    threads = torch.get_num_threads()
    for step in range(2):
        decision = agent.act(random_frames(step, 2), [0, 1])
        assert (decision.search.visit_counts.sum(axis=1) == 6).all()
        assert PONG.legal_mask[decision.actions].all()
        assert 1 <= len(agent.plan(decision, 1).actions) <= 2
    assert torch.get_num_threads() == threads


def test_an_episode_forgets_the_one_before():
    agent, frames = make_agent(), random_frames(5, 3)
    play(agent, random_frames(6, 2), episode=0)
    again = play(agent, frames, episode=1)
    fresh = play(make_agent(), frames, episode=1)
    for one, other in zip(again, fresh, strict=True):
        assert np.array_equal(one.planned_values, other.planned_values)


def test_chance_follows_seed_and_episode_and_not_the_other_environments():
    config = replace(CALM, planner="greedy", epsilon=0.5)
    frames = random_frames(7, 30)

    def coins(agent: Agent, environment: int, episode: int) -> list[bool]:
        return [bool(d.is_random[0]) for d in play(agent, frames, environment=environment, episode=episode)]

    alone = coins(make_agent(config), 0, episode=3)
    crowded = make_agent(config, environments=3)
    for environment, episode in ((0, 1), (2, 2)):
        coins(crowded, environment, episode)
    assert coins(crowded, 1, episode=3) == alone
    assert coins(crowded, 1, episode=4) != alone
    assert coins(make_agent(config, seed=1), 0, episode=3) != alone
    assert 5 < sum(alone) < 25


def test_chance_takes_every_legal_action_and_no_other():
    agent = make_agent(replace(CALM, planner="greedy", epsilon=1.0))
    taken = {int(d.actions[0]) for d in play(agent, random_frames(8, 80))}
    assert taken == set(PONG.legal_actions)


def test_memory_keeps_the_newest_blocks_and_the_actions_of_old_ones():
    memory = ContextMemory(environments=2, frames=2, tokens_per_frame=3)
    for step in range(3):
        memory.see([1], np.full((1, 3), 10 + step))
        memory.do([1], np.array([step]))
    memory.see([0, 1], np.array([[1, 2, 3], [4, 5, 6]]))
    tokens, length = memory.context([0, 1])
    assert tokens.tolist() == [[1, 2, 3, 0, 0, 0, 0], [12, 12, 12, 2, 4, 5, 6]]
    assert length.tolist() == [3, 7]
    memory.forget(1)
    memory.see([1], np.array([[7, 8, 9]]))
    assert memory.context([1])[0].tolist() == [[7, 8, 9]]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"beam_width": 7}, "beam_width is 7, but Pong has 6 legal actions; use at most 6"),
        ({"horizon": 5}, "horizon is 5, but the model's context is 5 frames.*use at most 4"),
    ],
)
def test_what_a_game_or_model_cannot_do_is_refused(change: dict, sentence: str):
    with pytest.raises(UserError, match=sentence):
        make_agent(replace(CALM, **change))
    make_agent(replace(CALM, planner="greedy", **change))  # not planning, it does not matter


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_simulations", 0),
        ("beam_width", 0),
        ("horizon", 0),
        ("context_frames", 0),
        ("epsilon", 1.5),
        ("discount", -0.1),
        ("token_budget", -1),
        ("confident_gap", -0.5),
    ],
)
def test_settings_out_of_range_are_refused(field: str, value: float):
    with pytest.raises(UserError, match=f"{field} is {value}"):
        replace(CALM, **{field: value})


def test_a_foreign_tokenizer_is_refused():
    foreign = Tokenizer(replace(TOKENIZER, fsq_levels=(5, 5))).eval()
    with pytest.raises(UserError, match="36 tokens a frame out of 25, the model reads 36 out of 48"):
        Agent(foreign, random_model(), PONG, CALM, environments=1, seed=0)


def test_a_game_unknown_to_the_model_is_refused():
    model = WorldActionModel(replace(MODEL, num_tasks=10)).eval()
    with pytest.raises(UserError, match="Pong is task 39, but this model knows tasks up to 9"):
        Agent(random_tokenizer(), model, PONG, CALM, environments=1, seed=0)
