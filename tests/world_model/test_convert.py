"""The conversion command: published files in, our checkpoint out, and the way back; and what it refuses."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.errors import UserError, run_command
from tests.world_model.small_models import random_model
from tests.world_model.small_tokenizers import SMALL_PATCH, SMALL_RESIDUAL, noise, randomised
from world_model import convert
from world_model.checkpoint import load_checkpoint, save_checkpoint
from world_model.convert import FromPublishedConfig, ToPublishedConfig, from_published, to_published
from world_model.heads import QHeadConfig
from world_model.published import to_published_state_dict
from world_model.published_tensors import PREFIXES
from world_model.published_tokenizer import published_tokenizer_state_dict
from world_model.transformer import TransformerConfig
from world_model.world_action_model import WorldActionConfig, WorldActionModel

# What a conversion can read back from the tensors of a small model: dropouts are taken to be published ones.
CONFIG = WorldActionConfig(
    transformer=TransformerConfig(layers=2, heads=2, width=8),
    q_head=QHeadConfig(ensemble_size=2, mlp_width=6, num_atoms=5),
    vocab_size=SMALL_RESIDUAL.codebook_size,
    max_blocks=3,
    num_tasks=4,
)
HEADS = CONFIG.transformer.heads


def small_model(seed: int = 3) -> WorldActionModel:
    return random_model(CONFIG, seed)


def published_model(prefix: str = "", seed: int = 3) -> dict[str, Tensor]:
    """With the attention masks that some files hold."""
    tensors = to_published_state_dict(small_model(seed))
    for layer in range(CONFIG.transformer.layers):
        tensors[f"transformer.blocks.{layer}.attn.mask"] = torch.ones(111, 111).tril()
    return {prefix + name: tensor for name, tensor in tensors.items()}


def published_tokenizer(prefix: str = "", config: Any = SMALL_RESIDUAL) -> dict[str, Tensor]:
    tensors = published_tokenizer_state_dict(randomised(config))
    tensors |= {"lpips.lin0.model.1.weight": torch.ones(1, 64, 1, 1)}
    return {prefix + name: tensor for name, tensor in tensors.items()}


def given(folder: Path, model: Any = None, tokenizer: Any = None, **options: Any) -> FromPublishedConfig:
    """Write the two files and name them."""
    torch.save(published_model() if model is None else model, folder / "model.pt")
    torch.save(published_tokenizer() if tokenizer is None else tokenizer, folder / "tokenizer.pt")
    options = {"heads": HEADS} | options
    return FromPublishedConfig(folder / "model.pt", folder / "tokenizer.pt", folder / "out", **options)


def assert_refused(config: FromPublishedConfig, message: str) -> None:
    """One sentence, and nothing beside the two files."""
    with pytest.raises(UserError, match=message):
        from_published(config)
    left = {path.name for path in config.out.parent.iterdir()}
    assert left <= {"model.pt", "tokenizer.pt"}


@pytest.mark.parametrize("prefix", PREFIXES)
def test_published_files_become_a_checkpoint_and_return_equal(tmp_path: Path, prefix: str) -> None:
    config = given(tmp_path, published_model(prefix), published_tokenizer(prefix))
    told = from_published(config)
    assert "a model of 2 layers, 2 heads, width 8" in told
    checkpoint = load_checkpoint(config.out)
    assert checkpoint.model is not None
    assert checkpoint.model.config == CONFIG
    assert checkpoint.tokenizer.config == SMALL_RESIDUAL
    frames, task_id = noise(3, 84, 84), torch.zeros(3, dtype=torch.int64)
    tokens = checkpoint.tokenizer.encode(frames, task_id)
    assert torch.equal(tokens, randomised(SMALL_RESIDUAL).encode(frames, task_id))
    expected = small_model()(tokens, task_id).logits_q
    assert torch.equal(checkpoint.model(tokens, task_id).logits_q, expected)

    back = ToPublishedConfig(config.out, tmp_path / "m.pt", tmp_path / "t.pt", lpips_from=config.tokenizer)
    assert "a model of 2 layers" in to_published(back)
    for path, tensors in ((back.model, published_model()), (back.tokenizer, published_tokenizer())):
        written = torch.load(path, weights_only=True)
        names = [name for name in tensors if not name.endswith("attn.mask")]
        assert list(written) == names
        assert all(torch.equal(written[name], tensors[name]) for name in names)


def test_the_command_line_goes_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = given(tmp_path)
    run = [str(tmp_path / "run" / "checkpoints" / "step_00000001")]
    command = ["published", "--model", str(config.model), "--tokenizer", str(config.tokenizer)]
    monkeypatch.setattr(sys, "argv", ["convert", *command, "--out", *run, "--heads", "2"])
    convert.main()
    files = ["--model", str(tmp_path / "m.pt"), "--tokenizer", str(tmp_path / "t.pt")]
    arguments = ["convert", "to-published", "--checkpoint", str(tmp_path / "run"), *files]
    monkeypatch.setattr(sys, "argv", arguments)
    convert.main()
    assert "without a perceptual network (see --lpips-from)" in capsys.readouterr().out
    assert list(torch.load(tmp_path / "m.pt", weights_only=True)) == list(
        to_published_state_dict(small_model())
    )
    with pytest.raises(SystemExit) as stopped:
        run_command(convert.main)
    assert stopped.value.code == 2
    assert (
        capsys.readouterr().err
        == f"error: {tmp_path / 'm.pt'}: already exists; name another, or remove it first\n"
    )


def test_mean_heads_are_told_from_distributions(tmp_path: Path) -> None:
    config = replace(CONFIG, q_head=QHeadConfig(ensemble_size=2, mlp_width=6, distribution="mse"))
    options = given(tmp_path, to_published_state_dict(random_model(config)))
    from_published(options)
    checkpoint = load_checkpoint(options.out)
    assert checkpoint.model is not None
    assert checkpoint.model.config == config


class Calls:
    """A pickle of it would make a folder when it is loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("which", ["model", "tokenizer"])
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path: Path, which: str, zipped: bool) -> None:
    config = given(tmp_path)
    tensors = torch.load(tmp_path / f"{which}.pt", weights_only=True)
    trap = tensors | {"pos_emb.weight": Calls(tmp_path / "made")}
    torch.save(trap, tmp_path / f"{which}.pt", _use_new_zipfile_serialization=zipped)
    assert_refused(config, rf"{which}\.pt: asks for \w+\.mkdir to be called, which was not done")


def test_a_whole_pickled_module_is_refused(tmp_path: Path) -> None:
    config = given(tmp_path)
    torch.save(torch.nn.Linear(2, 2), config.model)
    assert_refused(config, r"model\.pt: asks for torch\.nn\.modules\.linear\.Linear to be called")


@pytest.mark.parametrize("which", ["model", "tokenizer"])
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_a_truncated_file_is_named(tmp_path: Path, which: str, zipped: bool, share: float) -> None:
    config, path = given(tmp_path), tmp_path / f"{which}.pt"
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert_refused(config, rf"{which}\.pt: (truncated, damaged or no file of weights|is not a pickle)")


def test_what_is_no_file_of_weights_is_named(tmp_path: Path) -> None:
    config = given(tmp_path)
    config.model.write_text("version https://git-lfs.github.com/spec/v1\n")
    assert_refused(config, r"model\.pt: (truncated, damaged or no file of weights|is not a pickle)")
    assert_refused(replace(config, model=tmp_path / "absent.pt"), r"absent\.pt: there is no such file")
    assert_refused(replace(config, model=tmp_path), "there is no such file")
    torch.save([1, 2], config.model)
    assert_refused(config, r"model\.pt: holds a list, not named tensors")
    torch.save({"model": published_model()}, config.model)
    assert_refused(config, r"model\.pt: entry 'model' is a dict, not a dense tensor")
    torch.save({"model": torch.eye(2).to_sparse()}, config.model)
    assert_refused(config, r"model\.pt: entry 'model' is a Tensor, not a dense tensor")


def test_tensors_that_do_not_fit_are_named(tmp_path: Path) -> None:
    whole = published_model("_orig_mod.module.")
    name = "transformer.blocks.1.attn.proj.bias"
    long = f"_orig_mod.module.{name}"
    for broken, message in (
        ({key: tensor for key, tensor in whole.items() if key != long}, f"tensor '{name}' is missing"),
        (whole | {long: torch.zeros(9)}, rf"tensor '{name}' has shape \(9,\), expected \(8,\)"),
        (whole | {"extra": torch.zeros(9)}, "tensor 'extra' has no place in it"),
        (whole | {"_orig_mod.module.extra": torch.zeros(9)}, "tensor 'extra' has no place in it"),
    ):
        assert_refused(given(tmp_path, broken), rf"model\.pt: {message}")
    whole, name = published_tokenizer("module."), "decoder.mid.attn_1.norm.bias"
    for broken, message in (
        ({k: v for k, v in whole.items() if k != f"module.{name}"}, f"tensor '{name}' is missing"),
        (whole | {f"module.{name}": torch.zeros(9)}, rf"tensor '{name}' has shape \(9,\), expected \(4,\)"),
        (whole | {"module.extra": torch.zeros(9)}, "tensor 'extra' has no place in it"),
    ):
        assert_refused(given(tmp_path, tokenizer=broken), rf"tokenizer\.pt: {message}")


def test_sizes_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    whole = published_model()
    for name, shape, message in (
        ("pos_emb.weight", (110, 8), "has 110 rows, expected a multiple of 37"),
        ("head_q.head_module.params.8", (2, 91, 6), "has 91 rows, expected a multiple of 18"),
        ("head_q.head_module.params.0", (6, 8), r"has shape \(6, 8\), expected 3 dimensions"),
    ):
        assert_refused(given(tmp_path, whole | {name: torch.zeros(shape)}), rf"'{name}' {message}")
    del whole["embedder.embedding_tables.1.weight"]
    assert_refused(given(tmp_path, whole), r"'embedder\.embedding_tables\.1\.weight' is missing")


def test_another_size_needs_its_heads(tmp_path: Path) -> None:
    message = (
        r"model\.pt \(closest to the released 40M\): tensor .* give --heads if it was not meant to be 40M"
    )
    assert_refused(given(tmp_path, heads=None), message)
    assert_refused(given(tmp_path, heads=3), "heads is 3; choose a divisor of width 8")


def test_a_tokenizer_of_another_vocabulary_is_named(tmp_path: Path) -> None:
    other = published_tokenizer(config=replace(SMALL_RESIDUAL, codebook_size=21))
    message = r"tokenizer\.pt: has 21 codes, but .*model\.pt was made for a vocabulary of 20"
    assert_refused(given(tmp_path, tokenizer=other), message)


def test_files_named_the_wrong_way_round_are_refused(tmp_path: Path) -> None:
    config = given(tmp_path)
    assert_refused(
        replace(config, model=config.tokenizer), r"tokenizer\.pt: tensor 'pos_emb\.weight' is missing"
    )
    assert_refused(
        replace(config, tokenizer=config.model), r"model\.pt: tensor 'embedding\.weight' is missing"
    )


def test_nothing_is_written_over(tmp_path: Path) -> None:
    config = given(tmp_path)
    config.out.mkdir()
    (config.out / "mine.txt").write_text("dear to me")
    with pytest.raises(UserError, match="out: already exists"):
        from_published(config)
    assert [path.name for path in config.out.iterdir()] == ["mine.txt"]


def save_native(path: Path, tokenizer_config: Any, model: WorldActionModel | None) -> Path:
    tokenizer = randomised(tokenizer_config)
    save_checkpoint(path, step=1, tokenizer=tokenizer, model=model, optimizer={}, training={})
    return path


@pytest.mark.parametrize(
    ("tokenizer", "model", "message"),
    [
        (SMALL_PATCH, small_model(), "network 'patch' has no published form"),
        (SMALL_RESIDUAL, None, "holds a tokenizer only"),
        (SMALL_RESIDUAL, random_model(replace(CONFIG, value_head=True)), "knows no value head"),
        (
            SMALL_RESIDUAL,
            random_model(replace(CONFIG, q_head=replace(CONFIG.q_head, reads="frame"))),
            "no Q heads that read whole frames",
        ),
        (
            replace(SMALL_RESIDUAL, use_background=True),
            small_model(),
            "use_background True has no published form",
        ),
    ],
)
def test_what_has_no_published_form_is_refused(
    tmp_path: Path, tokenizer: Any, model: WorldActionModel | None, message: str
) -> None:
    native = save_native(tmp_path / "native", tokenizer, model)
    with pytest.raises(UserError, match=message):
        to_published(ToPublishedConfig(native, tmp_path / "m.pt", tmp_path / "t.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["native"]


def test_an_export_needs_two_files_and_a_perceptual_network_that_is_there(tmp_path: Path) -> None:
    native = save_native(tmp_path / "native", SMALL_RESIDUAL, small_model())
    same = ToPublishedConfig(native, tmp_path / "m.pt", tmp_path / "m.pt")
    with pytest.raises(UserError, match="--model and --tokenizer name one file"):
        to_published(same)
    torch.save(published_model(), tmp_path / "other.pt")
    other = replace(same, tokenizer=tmp_path / "t.pt", lpips_from=tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt: holds no tensor lpips"):
        to_published(other)


def test_a_full_disk_leaves_neither_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    native = save_native(tmp_path / "native", SMALL_RESIDUAL, small_model())
    written = []

    def second_fails(path: Path, tensors: dict[str, Tensor]) -> None:
        if written:
            raise OSError(28, "No space left on device")
        written.append(path)

    monkeypatch.setattr(convert, "write_state_dict", second_fails)
    with pytest.raises(UserError, match="the disk is full"):
        to_published(ToPublishedConfig(native, tmp_path / "m.pt", tmp_path / "t.pt"))
    assert [path.name for path in tmp_path.iterdir()] == ["native"]
