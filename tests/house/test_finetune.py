"""Fine-tuning: the published recipe, imagined data, low-rank adapters, few transitions, wrong sources."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from datasets.errors import UserError
from datasets.store import EpisodeStore
from tests.house.small_store import write_small_store
from tests.house.test_train import assert_same_weights, resume, run, trace
from train import train
from world_model.checkpoint import list_checkpoints, load_checkpoint, save_checkpoint
from world_model.imagination import ImaginationConfig
from world_model.losses import LossConfig
from world_model.recipes import RECIPES, finetuning, parse_command_line
from world_model.sizes import SIZES
from world_model.tokenizer import Tokenizer
from world_model.tokenizer_config import TOKENIZERS
from world_model.world_action_model import WorldActionModel

NEW_GAME = "--game Breakout --joint-steps 4 --batch-size 2 --loop.save-every 3 --device cpu".split()
FIRST_IMAGINED = 2  # 0.4 of 4 steps, rounded


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    return write_small_store(tmp_path_factory.mktemp("data") / "two_games.h5")


@pytest.fixture(scope="module")
def source(store, tmp_path_factory) -> Path:
    """A run of both phases on Pong, with segments of 3 frames."""
    folder = tmp_path_factory.mktemp("source") / "first"
    run(store, folder, "--games", "Pong")
    return folder


def finetune(source: Path, store: Path, folder: Path, *more: str):
    arguments = ["--from", str(source), "--data", str(store), "--run", str(folder), *NEW_GAME, *more]
    return train(parse_command_line(arguments))


def untrained(folder: Path, **changes) -> Path:
    """A checkpoint as a conversion from published files leaves it: no training configuration."""
    tokenizer = Tokenizer(TOKENIZERS["tiny"])
    model = WorldActionModel(replace(SIZES["tiny"], **changes))
    save_checkpoint(folder, step=0, tokenizer=tokenizer, model=model, optimizer={}, training={})
    return folder


def test_the_published_sizes_fine_tune_as_published():
    for size in ("40M", "70M", "150M"):
        config = finetuning(RECIPES[size])
        assert (config.tokenizer_steps, config.world_steps, config.joint_steps) == (0, 0, 50_000)
        assert (config.batch_size, config.joint_optimizer.learning_rate) == (32, 5e-5)
        assert config.loss.supervised_weight == 0.5
        imagination = config.imagination
        assert (imagination.beam_width, imagination.horizon, config.padding) == (2, 2, "left")
        assert imagination.share * config.batch_size == 16
        assert imagination.after * config.joint_steps == 20_000


def test_a_model_of_single_frames_has_no_step_to_imagine():
    config = finetuning(replace(RECIPES["tiny"], context_frames=1))
    assert config.imagination.share == 0


def test_imagined_segments_join_when_the_recipe_says_so(source, store, tmp_path):
    finetune(source, store, tmp_path / "run")
    imagined = [line.get("imagined_segments", 0) for line in trace(tmp_path / "run") if "loss" in line]
    assert imagined[:FIRST_IMAGINED] == [0] * FIRST_IMAGINED
    assert imagined[FIRST_IMAGINED:] == [1, 1]  # half of 2 segments
    finetune(source, store, tmp_path / "real", "--imagination.share", "0")
    both = [[line["loss"] for line in trace(tmp_path / name) if "loss" in line] for name in ("run", "real")]
    assert both[0][:FIRST_IMAGINED] == both[1][:FIRST_IMAGINED]
    assert both[0][FIRST_IMAGINED] != both[1][FIRST_IMAGINED]


def test_imagination_beyond_the_segment_is_refused_before_training(source, store, tmp_path):
    with pytest.raises(UserError, match=r"imagination.horizon is 3, but segments have 3 steps"):
        finetune(source, store, tmp_path / "run", "--imagination.horizon", "3")
    with pytest.raises(UserError, match=r"share is 2\.0; it must lie between 0 and 1"):
        ImaginationConfig(share=2.0)
    with pytest.raises(UserError, match=r"loss.discount is 0.0; imagination needs it above 0"):
        replace(RECIPES["tiny"], imagination=ImaginationConfig(share=0.5), loss=LossConfig(discount=0.0))
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module", params=[0, 2], ids="rank {}".format)
def adapted(source, store, tmp_path_factory, request) -> tuple[Path, tuple[str, str]]:
    """A run that nothing disturbed, without adapters and with them, and its options."""
    if request.param:
        pytest.importorskip("peft", reason="the extra `lora` is not installed")
    options = ("--lora-rank", str(request.param))
    folder = tmp_path_factory.mktemp("adapted") / "straight"
    finetune(source, store, folder, *options)
    return folder, options


@pytest.mark.parametrize("stop", [1, 3])
def test_resuming_with_imagination_is_exact_with_and_without_adapters(source, store, adapted, tmp_path, stop):
    straight, options = adapted
    finetune(source, store, tmp_path / "broken", *options, "--max-steps", str(stop))
    resume(tmp_path / "broken")
    assert trace(tmp_path / "broken") == trace(straight)
    assert_same_weights(tmp_path / "broken", straight)
    last = [load_checkpoint(folder).optimizer for folder in (tmp_path / "broken", straight)]
    assert last[0].keys() == last[1].keys()
    assert all(torch.equal(last[0][name], last[1][name]) for name in last[0])


def test_adapters_change_linear_layers_by_low_rank_and_leave_a_plain_checkpoint(source, store, tmp_path):
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    state = finetune(source, store, tmp_path / "run", "--lora-rank", "2")
    before, after = load_checkpoint(source).model, load_checkpoint(tmp_path / "run").model
    assert before is not None
    assert after is not None
    linear = {name for name, module in before.named_modules() if isinstance(module, nn.Linear)}
    whole = ("observation_embedding", "action_embedding", "_task_embedding", "head_q")
    assert len(linear) == 2 * 6 + 3 * 2
    for name, old in before.state_dict().items():
        change = after.state_dict()[name] - old
        if name.removesuffix(".weight") in linear:
            assert 1 <= torch.linalg.matrix_rank(change, rtol=1e-2) <= 2, name
        elif any(part in name for part in whole) and "target" not in name:
            continue
        elif "head_q_target" not in name:
            assert not change.any(), name
    assert (after.head_q.linear1.weight != before.head_q.linear1.weight).any()
    tokens = torch.zeros(1, after.config.max_tokens, dtype=torch.long)
    with torch.no_grad():
        theirs, ours = (model.eval()(tokens, torch.tensor([5])) for model in (state.model, after))
    torch.testing.assert_close(theirs.logits_observations, ours.logits_observations, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(theirs.logits_q, ours.logits_q, atol=1e-5, rtol=1e-5)


def test_a_run_that_started_from_weights_and_trains_its_tokenizer_keeps_the_weights(source, store, tmp_path):
    options = "--tokenizer-steps 3 --allow-collapse --imagination.share 0".split()
    finetune(source, store, tmp_path / "straight", *options)
    finetune(source, store, tmp_path / "broken", *options, "--max-steps", "1")
    resume(tmp_path / "broken")
    assert trace(tmp_path / "broken") == trace(tmp_path / "straight")


def test_adapters_without_peft_say_what_to_install(source, store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r'peft, which is not installed; run pip install -e "\.\[lora\]"'):
        finetune(source, store, tmp_path / "run", "--lora-rank", "2")
    assert not (tmp_path / "run").exists()


def test_adapters_need_weights_to_change(store, tmp_path):
    with pytest.raises(UserError, match="lora_rank is 4 without --from"):
        run(store, tmp_path / "run", "--lora-rank", "4")
    with pytest.raises(UserError, match="lora_rank is -1"):
        run(store, tmp_path / "run", "--lora-rank", "-1")


def test_few_transitions_are_the_first_of_each_game(source, store, tmp_path):
    finetune(source, store, tmp_path / "run", "--transitions", "40", "--joint-steps", "1")
    few, whole = EpisodeStore(tmp_path / "run" / "data" / "first_40.h5"), EpisodeStore(store)
    breakout = [info for info in whole.episodes if info.game == "Breakout"]
    assert few.games == ("Breakout",)
    assert [info.length for info in few.episodes] == [30, 10]
    assert [info.ended for info in few.episodes] == [True, False]
    for part, info in zip(few.episodes, breakout, strict=False):
        assert np.array_equal(few.frames(part.key), whole.frames(info.key)[: part.length])
        assert np.array_equal(few.rewards(part.key), whole.rewards(info.key)[: part.length])
    with pytest.raises(UserError, match="transitions is 0"):
        finetune(source, store, tmp_path / "none", "--transitions", "0")


def test_a_resumed_run_keeps_its_transitions_though_the_store_changed(source, tmp_path):
    growing = write_small_store(tmp_path / "play.h5")
    options = ("--transitions", "20", "--imagination.share", "0")
    finetune(source, growing, tmp_path / "straight", *options)
    finetune(source, growing, tmp_path / "broken", *options, "--max-steps", "3")
    write_small_store(tmp_path / "play.h5", games=("Breakout",), lengths=(25, 12))
    resume(tmp_path / "broken")
    assert trace(tmp_path / "broken") == trace(tmp_path / "straight")


def test_a_run_is_named_after_its_source_and_game(source, store):
    for path in (source, list_checkpoints(source)[-1]):
        config = parse_command_line(["--from", str(path), "--game", "Breakout", "--data", str(store)])
        assert config.run == Path("runs/first_Breakout")
        assert config.games == ("Breakout",)
    config = parse_command_line(["--from", str(source), "--data", str(store)])
    assert config.run == Path("runs/first_finetuned")


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--size", "40M"), r"--size 40M contradicts .*first, which has tiny: weights keep their shape"),
        (("--tokenizer", "published"), r"--tokenizer published contradicts .*first, which has dictionary"),
        (("--value-range", "-1", "5"), r"--value-range \(-1.0, 5.0\) contradicts .*first"),
        (("--value-head",), r"--value-head True contradicts .*first, which has False"),
        (("--context-frames", "5"), r"its model takes 3 frames, not 5; lower --context-frames"),
    ],
)
def test_options_that_contradict_the_source_are_refused(source, store, tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        finetune(source, store, tmp_path / "run", *option)
    assert not (tmp_path / "run").exists()


def test_a_converted_checkpoint_needs_no_training_configuration(store, tmp_path):
    plain = untrained(tmp_path / "converted", max_blocks=3)
    config = parse_command_line(["--from", str(plain), "--data", str(store), "--run", str(tmp_path / "run")])
    assert (config.size, config.context_frames, config.value_range) == ("tiny", 3, (-10.0, 30.0))
    assert train(replace(config, joint_steps=1, batch_size=2, device="cpu")).step == 1


def test_sources_that_fit_no_size_or_no_tokenizer_or_not_the_games(store, tmp_path):
    odd = untrained(tmp_path / "odd", q_head=replace(SIZES["tiny"].q_head, mlp_width=48))
    with pytest.raises(
        UserError, match=r"odd/config.json: model: .* Q heads of width 48 are none of the sizes"
    ):
        parse_command_line(["--from", str(odd), "--data", str(store)])
    options = ["--data", str(store), "--run", str(tmp_path / "run"), "--game", "Pong", "--device", "cpu"]
    mixed = untrained(tmp_path / "mixed", vocab_size=100)
    with pytest.raises(UserError, match=r"mixed: its model was trained with a vocab_size of 100 .* has 320"):
        train(parse_command_line(["--from", str(mixed), *options]))
    few = untrained(tmp_path / "few", num_tasks=2)
    with pytest.raises(UserError, match=r"the model tells 2 games apart, and Pong has a number beyond"):
        train(parse_command_line(["--from", str(few), *options]))
    narrow = untrained(tmp_path / "narrow", num_actions=6)
    with pytest.raises(UserError, match=r"the model has 6 actions, not the 18 that all games share"):
        train(parse_command_line(["--from", str(narrow), *options]))
    with pytest.raises(UserError, match="no such run or checkpoint"):
        parse_command_line(["--from", str(tmp_path / "absent"), "--data", str(store)])


def test_a_source_of_a_tokenizer_only_is_refused(store, tmp_path):
    run(store, tmp_path / "first", "--max-steps", "2")
    options = ["--data", str(store), "--run", str(tmp_path / "run"), "--device", "cpu"]
    with pytest.raises(UserError, match="holds a tokenizer only; train its world part first"):
        train(parse_command_line(["--from", str(tmp_path / "first"), *options]))
    folder = tmp_path / "converted"
    save_checkpoint(
        folder, step=0, tokenizer=Tokenizer(TOKENIZERS["tiny"]), model=None, optimizer={}, training={}
    )
    with pytest.raises(UserError, match="holds a tokenizer only; there is no model to start from"):
        parse_command_line(["--from", str(folder), *options])


def test_a_fine_tuned_model_can_be_fine_tuned_again(source, store, tmp_path):
    finetune(source, store, tmp_path / "once", "--joint-steps", "1")
    again = parse_command_line(["--from", str(tmp_path / "once"), "--data", str(store)])
    content = json.loads((list_checkpoints(tmp_path / "once")[-1] / "config.json").read_text())
    assert content["training"]["from_checkpoint"] == str(source)
    assert again.loss == finetuning(RECIPES["tiny"]).loss
    assert again.context_frames == 3
