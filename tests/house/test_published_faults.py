"""The published program's faults S1 to S21, where no other test shows that ours is without them.

docs/parity.md lists all of them, with the test of each.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.acting import ActingConfig, Agent
from agents.evaluate import EvaluateConfig
from datasets.conversion.published_format import TASK_ALIASES, published_task_id
from datasets.games import find_game
from datasets.sampling import SamplingConfig, SegmentSampler
from datasets.segments import SegmentConfig
from datasets.store import EpisodeStore
from datasets.tokens import build_token_cache
from planning import TreeOptions, mcts
from planning.table_model import TableModel
from tests.agents.fakes import random_frames, random_model, random_tokenizer
from tests.datasets.episodes import FakeTokenizer, make_episode, write_store
from tests.world_model.loss_loops import FRAME, small_batch, small_model
from tests.world_model.small_models import small_config
from tests.world_model.small_tokenizers import SMALL_RESIDUAL, noise, seeded
from world_model.heads import QHeadConfig
from world_model.imagination import ImaginationConfig, imagine
from world_model.losses import LossConfig, compute_loss
from world_model.optimizers import OptimizerConfig, make_optimizer
from world_model.recipes import RECIPES
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_losses import tokenizer_loss
from world_model.training import learning_rate
from world_model.world_action_model import WorldActionModel

ROOT = Path(__file__).resolve().parents[2]


def test_s1_evaluation_mode_reaches_the_q_heads():
    torch.manual_seed(0)
    config = small_config(q_head=QHeadConfig(ensemble_size=2, mlp_width=32, dropout=0.5, num_atoms=5))
    model = WorldActionModel(config)
    tokens, task_id = torch.zeros(1, 4, dtype=torch.int64), torch.tensor([0])
    for name in ("logits_q", "logits_q_target"):
        first, second = (getattr(model.train()(tokens, task_id), name) for _ in range(2))
        assert not torch.equal(first, second)
        first, second = (getattr(model.eval()(tokens, task_id), name) for _ in range(2))
        assert torch.equal(first, second)


def test_s2_a_deep_simulation_goes_on_from_its_own_parent():
    """Two steps right are worth 9, one is worth -5; "root, then the last action" never sees the 9."""
    left, right = 0, 1
    q_value = np.array([[0.0, 0.1], [-1.0, -1.0], [-5.0, -5.0], [9.0, 9.0]])
    model = TableModel(
        next_state=np.array([[1, 2], [1, 1], [1, 3], [3, 3]]),
        reward=np.zeros((4, 2)),
        discount=np.ones((4, 2)),
        value=np.zeros(4),
        q_value=q_value,
        prior_logits=np.zeros((4, 2)),
        legal_mask=np.ones((4, 2), dtype=bool),
    )
    result = mcts(
        model, np.array([0]), num_simulations=40, horizon=3, options=TreeOptions(precision="float64")
    )
    tree = result.tree
    once = int(tree.children[0, 0, right])
    assert tree.value[0, once] == -5
    assert tree.value[0, int(tree.children[0, once, right])] == 9
    assert tree.value[0, int(tree.children[0, once, left])] == -1
    assert result.action[0] == right


def test_s5_the_penalty_of_mean_heads_does_not_change_with_its_own_weight():
    def penalty(weight: float, published_semantics: bool) -> float:
        config = LossConfig(cql_weight=weight, published_semantics=published_semantics)
        found = compute_loss(small_model("mse"), small_batch(), config, train_q=True).terms.penalty
        assert found is not None
        return found.item()

    assert penalty(0.1, False) == penalty(1.0, False)
    assert penalty(0.1, True) != pytest.approx(penalty(1.0, True), rel=0.01)


def test_s7_imagined_actions_are_legal_however_wide_the_beam():
    model, batch = small_model(), small_batch(((0, 5, False),) * 6)
    assert (batch.legal_mask.sum(1) < model.config.num_actions).any()
    config = ImaginationConfig(beam_width=model.config.num_actions, horizon=2)
    imagined = imagine(model, batch, config, discount=0.9)
    assert imagined is not None
    legal = imagined.legal_mask.gather(1, imagined.actions[:, -3:])
    assert (legal | ~imagined.mask[:, -3:]).all()  # behind a predicted end is padding


@pytest.mark.parametrize("name", sorted(TASK_ALIASES))
def test_s9_a_game_is_trained_on_under_its_own_task(name: str, tmp_path: Path):
    store = write_store(tmp_path / "store.h5", [make_episode(9, game=name)])
    cache = build_token_cache(store, FakeTokenizer(), progress=False)
    batch = SegmentSampler([store], [cache], SamplingConfig(), SegmentConfig(), "all").load(np.arange(1))
    game = find_game(name)
    assert batch.task_id.tolist() == [game.task_id]
    assert batch.legal_mask[0].tolist() == game.legal_mask.tolist()
    assert published_task_id(name) != game.task_id


def decayed_shapes(module: torch.nn.Module) -> list[torch.Size]:
    decayed, rest = make_optimizer(module, OptimizerConfig(weight_decay=0.01)).param_groups
    assert (decayed["weight_decay"], rest["weight_decay"]) == (0.01, 0.0)
    return sorted(parameter.shape for parameter in decayed["params"])


def test_s11_parameters_are_grouped_however_the_model_is_wrapped():
    model = small_model()
    assert decayed_shapes(model) == decayed_shapes(torch.nn.Sequential(model))


def test_s13_each_stage_starts_at_its_own_learning_rate():
    config = RECIPES["40M"]
    _, world, joint = config.phases()
    last = learning_rate(config.optimizer_of(world), world.stop - 1, world)
    first = learning_rate(config.optimizer_of(joint), joint.start, joint)
    assert (last, first) == (1e-4, 5e-5)
    assert joint.start == world.stop


def test_s14_a_tokenizer_with_a_frozen_encoder_learns_the_rest():
    tokenizer = Tokenizer(SMALL_RESIDUAL)
    tokenizer.encoder.requires_grad_(False)
    frames, task_id = noise(2, 84, 84), torch.zeros(2, dtype=torch.int64)
    tokenizer_loss(tokenizer, frames, task_id, generator=seeded()).total.backward()
    assert all(parameter.grad is None for parameter in tokenizer.encoder.parameters())
    assert all(parameter.grad is not None for parameter in tokenizer.decoder.parameters())


def test_s15_an_evaluation_needs_a_checkpoint_and_a_game_only():
    config = EvaluateConfig(checkpoint=Path("runs/any"), game="Pong")
    assert config.rollout.envs >= 1


def test_s18_signs_of_rewards_are_learned_from_unless_raw_ones_are_asked_for(tmp_path: Path):
    episode = make_episode(8, rewards=np.array([0, 7, -3, 0.5, 0, 0, 1, -1], np.float32))
    store = write_store(tmp_path / "store.h5", [episode])
    cache = build_token_cache(store, FakeTokenizer(), progress=False)
    for raw, expected in ((False, np.sign(episode.rewards)), (True, episode.rewards)):
        rule = SegmentConfig(raw_rewards=raw)
        batch = SegmentSampler([EpisodeStore(store.path)], [cache], SamplingConfig(), rule, "all").load(
            np.arange(1)
        )
        np.testing.assert_array_equal(batch.rewards[0], expected)


def test_s19_biases_and_norms_of_the_q_ensemble_do_not_decay():
    model = small_model()
    head = model.head_q
    chosen = {id(p) for p in make_optimizer(model, OptimizerConfig()).param_groups[0]["params"]}
    for layer in (head.linear1, head.linear2, head.linear3):
        assert id(layer.weight) in chosen
        assert id(layer.bias) not in chosen
    for norm in (head.norm1, head.norm2):
        assert not {id(norm.weight), id(norm.bias)} & chosen


@pytest.mark.parametrize("planner", ["beam", "mcts"])
def test_s20_planning_draws_no_frames(planner: str, monkeypatch: pytest.MonkeyPatch):
    tokenizer, drawn = random_tokenizer(), []
    decode = tokenizer.decoder.forward
    monkeypatch.setattr(tokenizer.decoder, "forward", lambda z: (drawn.append(len(z)), decode(z))[1])
    config = replace(ActingConfig(epsilon=0.0), planner=planner)
    agent = Agent(tokenizer, random_model(), find_game("Pong"), config, environments=1, seed=0)
    agent.begin(0, episode=0)
    decision = agent.act(random_frames(0, 1), [0])
    assert decision.search.tree.num_nodes[0] > 1
    assert not drawn
    if planner == "beam":
        assert len(agent.plan(decision, 0).frames) == config.horizon
        assert drawn


def test_s21_a_cache_is_of_the_weights_own_precision():
    model = small_model().bfloat16()
    cache = model.new_cache(1)
    assert cache.keys.dtype == cache.values.dtype == torch.bfloat16
    hidden = model.hidden(torch.zeros(1, FRAME, dtype=torch.int64), torch.tensor([0]), cache)
    assert hidden.dtype == torch.bfloat16
    assert cache.length == FRAME


def test_s21_automatic_precision_works_on_the_cpu():
    model, batch = small_model(), small_batch()
    plain = compute_loss(model, batch, LossConfig(), train_q=True).total
    with torch.autocast("cpu", torch.bfloat16):
        mixed = compute_loss(model, batch, LossConfig(), train_q=True).total
    assert mixed != plain
    torch.testing.assert_close(mixed, plain, rtol=0.05, atol=0)


def test_the_page_names_every_fault_and_only_tests_that_exist():
    page = (ROOT / "docs" / "parity.md").read_text()
    rows = re.findall(r"^\| S(\d+) \|.*", page, re.MULTILINE)
    assert [int(number) for number in rows] == list(range(1, 22))
    named = re.findall(r"`([\w/]+(?:\.py)?)::(test_\w+)`", page)
    assert len(named) >= len(rows)
    for file, test in named:
        path = ROOT / "tests" / ("house/test_published_faults.py" if file == "faults" else file)
        assert re.search(rf"^def {test}\(", path.read_text(), re.MULTILINE), f"{file}::{test}"
    ours = Path(__file__).read_text()
    assert all(
        f"`faults::{test}`" in page for test in re.findall(r"^def (test_s\d+\w+)\(", ours, re.MULTILINE)
    )
