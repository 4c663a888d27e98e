"""The recorded data sets, end to end: raw files to our store, to segments and batches, and back.

Every folder `data_*` of the recordings holds raw files, and what the published program made of them: the
trajectories, the CSV files, and one batch of segments for each side of padding.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from einops import rearrange

from datasets.conversion.choice import published_agents
from datasets.conversion.dqn_replay import DqnReplayConfig, plan_dqn_replay
from datasets.conversion.engine import convert
from datasets.conversion.published_export import ExportPublishedConfig, export_published
from datasets.conversion.published_format import frames_path, published_task_id
from datasets.conversion.published_source import PublishedConfig, plan_published
from datasets.conversion.report import ConversionReport
from datasets.games import find_game
from datasets.sampling import SamplingConfig, SegmentSampler
from datasets.segments import SegmentConfig
from datasets.store import EpisodeStore
from datasets.tokens import build_token_cache

DATA_FORMAT = "jowa-golden-data-v1"


@dataclass(frozen=True)
class Converted:
    """A recorded data set and what we made of its raw files."""

    folder: Path
    expected: dict[str, Any]
    game: str
    report: ConversionReport
    store: EpisodeStore


@pytest.fixture(scope="module")
def converted(data_recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    """The raw files in our store, drawn as published."""
    folder = data_recording
    expected = torch.load(folder / "expected.pt", weights_only=True)
    assert expected["format"] == DATA_FORMAT
    game, out = expected["env"], tmp_path_factory.mktemp("stores")
    (plan,) = plan_dqn_replay(
        DqnReplayConfig(
            root=folder / "raw",
            out=out,
            games=(game,),
            num_steps=steps_asked_for(folder, game),
            published_semantics=True,
        ),
        progress=False,
    )
    report = convert(plan, out, 1, progress=False).report
    return Converted(folder, expected, game, report, EpisodeStore(out / f"{game}.h5"))


def meta_row(folder: Path, game: str) -> dict[str, str]:
    with (folder / "trajectory" / "meta" / f"{game}.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    return row


def steps_asked_for(folder: Path, game: str) -> int:
    """A number of steps that leads to the recorded number of draws; the recordings do not tell it."""
    row = meta_row(folder, game)
    return round((int(row["Downsampled episodes"]) - 0.5) * float(row["Steps per episode"]))


def trajectories(path: Path) -> dict[str, dict[str, np.ndarray]]:
    with h5py.File(path) as file:
        return {key: {name: array[()] for name, array in file[key].items()} for key in file}


def test_agents_and_episodes_are_those_drawn(converted: Converted) -> None:
    expected = converted.expected
    (agents,) = published_agents(1)
    assert sorted(expected["chosen_agents"]) == list(agents)
    cumulative = np.cumsum([file.episodes for file in converted.report.summary.files])
    assert cumulative.tolist() == [n for agent in expected["cumulative_episodes"][0] for n in agent]
    assert converted.report.episodes == expected["sampled_episode_count"]


def test_the_export_equals_the_recorded_files(converted: Converted, tmp_path: Path) -> None:
    (exported,) = export_published(
        ExportPublishedConfig(converted.store.path, tmp_path, stride=converted.expected["tau"])
    )
    recorded = trajectories(frames_path(converted.folder, converted.game))
    ours = trajectories(exported.path)
    assert ours.keys() == recorded.keys()
    for key, arrays in recorded.items():
        assert ours[key].keys() == arrays.keys()
        for name, array in arrays.items():
            assert ours[key][name].dtype == array.dtype, f"episode {key}, {name}"
            np.testing.assert_array_equal(ours[key][name], array, err_msg=f"episode {key}, {name}")
    tables = [path.relative_to(converted.folder) for path in sorted(converted.folder.rglob("*.csv"))]
    assert Path("trajectory", "meta", f"{converted.game}.csv") in tables
    for table in tables:
        assert (tmp_path / table).read_bytes() == (converted.folder / table).read_bytes(), table


def test_the_recorded_trajectories_make_the_same_store(converted: Converted, tmp_path: Path) -> None:
    config = PublishedConfig(root=converted.folder, out=tmp_path, games=(converted.game,))
    (plan,) = plan_published(config, None)
    report = convert(plan, tmp_path, 1, progress=False).report
    ours = [info.digest for info in converted.store.episodes]
    assert [info.digest for info in EpisodeStore(tmp_path / f"{converted.game}.h5").episodes] == ours
    assert report.summary.total_steps == int(meta_row(converted.folder, converted.game)["Total steps"])
    segments = list((converted.folder / "segment" / "csv").glob("*.csv"))
    assert sum("are those we cut" in note for note in report.summary.notes) == len(segments)


class PixelTokenizer:
    """Every pixel is a token, so that a batch of tokens is a batch of frames."""

    config = SimpleNamespace(tokens_per_frame=84 * 84)

    def encode(self, frames: torch.Tensor, task_id: torch.Tensor) -> torch.Tensor:
        return rearrange(frames.long(), "b h w -> b (h w)")

    def content_hash(self) -> str:
        return "pixels"


@pytest.mark.parametrize("padding", ["right", "left"])
def test_segments_and_batches_equal_the_recorded_ones(converted: Converted, padding: Any) -> None:
    expected = converted.expected
    sides = (name for name in expected["datasets"] if name.endswith(f"_{padding}_padding"))
    recorded = expected["datasets"].get(next(sides, None))
    if recorded is None:
        pytest.skip(f"{converted.folder.name} has no segments padded on the {padding}")
    batch = recorded["batch"]
    cache = build_token_cache(converted.store, PixelTokenizer(), progress=False)
    rule = SegmentConfig(
        segment_length=expected["sequence_length"],
        stride=expected["tau"],
        padding=padding,
        published_semantics=True,
        raw_rewards=True,
    )
    sampler = SegmentSampler([converted.store], [cache], SamplingConfig(), rule, "all")
    assert len(sampler) == recorded["length"]
    ours = sampler.load(np.array(recorded["indices"]))
    frames = rearrange(ours.tokens, "b l (c h w) -> b l c h w", c=1, h=84)
    assert torch.equal(frames, batch["observations_u8"].long())
    for name, tensor in {"actions": ours.actions, "rewards": ours.rewards, "ends": ours.ends}.items():
        assert tensor.dtype == batch[name].dtype, name
        assert torch.equal(tensor, batch[name]), name
    assert torch.equal(ours.mask, batch["mask_padding"])
    game = find_game(converted.game)
    assert ours.task_id.tolist() == [game.task_id] * len(ours.task_id)
    assert batch["envs"].tolist() == [published_task_id(converted.game)] * len(ours.task_id)
    assert ours.legal_mask[0].tolist() == game.legal_mask.tolist()
