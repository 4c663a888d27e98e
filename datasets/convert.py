"""Other programs' data into episode stores, and stores into their formats.

    python -m datasets.convert dqn-replay --root dqn --games Pong Breakout --num-steps 1000000 --out data
    python -m datasets.convert dqn-replay --root dqn --games Phoenix --num-steps 10000000 --out data \\
        --published-semantics
    python -m datasets.convert published --root jowa --out data
    python -m datasets.convert published --root jowa --tokenizer runs/jowa --out data
    python -m datasets.convert minari --dataset atari/pong/expert-v0 --out data
    python -m datasets.convert export-published --store data/Pong.h5 --out jowa
    python -m datasets.convert export-minari --store data/Pong.h5 --dataset worldbeam/pong/collected-v0

A source becomes one store a game, `<out>/<Game>.h5`, and a report beside it of what was read, dropped and
why. The source is streamed: memory holds the longest episode a process, not a file. A run that was killed
goes on after its last whole source file when it is started again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from datasets.conversion.dqn_replay import DqnReplayConfig, plan_dqn_replay
from datasets.conversion.engine import convert
from datasets.conversion.minari_export import ExportMinariConfig, export_minari
from datasets.conversion.minari_source import MinariConfig, plan_minari
from datasets.conversion.plan import Plan
from datasets.conversion.published_export import ExportPublishedConfig, export_published
from datasets.conversion.published_reading import FrameDecoder, RecordedTokens
from datasets.conversion.published_source import PublishedConfig, plan_published, trajectories_path
from datasets.errors import run_command
from datasets.store import EpisodeStore
from datasets.tokens import build_token_cache

Command = (
    Annotated[DqnReplayConfig, tyro.conf.subcommand("dqn-replay")]
    | Annotated[PublishedConfig, tyro.conf.subcommand("published")]
    | Annotated[MinariConfig, tyro.conf.subcommand("minari")]
    | Annotated[ExportPublishedConfig, tyro.conf.subcommand("export-published")]
    | Annotated[ExportMinariConfig, tyro.conf.subcommand("export-minari")]
)


def main() -> None:
    """Run the command line."""
    config = tyro.cli(Command, prog="python -m datasets.convert", description=__doc__)  # type: ignore[arg-type]
    match config:
        case DqnReplayConfig():
            for plan in plan_dqn_replay(config):
                _convert(plan, config.out, config.workers)
        case PublishedConfig():
            convert_published(config)
        case MinariConfig():
            _convert(plan_minari(config), config.out, config.workers)
        case ExportPublishedConfig():
            for game in export_published(config):
                print(game.text())
        case ExportMinariConfig():
            print(f"{config.dataset} is in {export_minari(config)}")


def convert_published(config: PublishedConfig) -> None:
    """Convert published trajectories; of tokens, also write the token cache of each store.

    Raises:
        UserError: see `plan_published` and `convert`.
    """
    if config.tokenizer is None:
        for plan in plan_published(config, None):
            _convert(plan, config.out, config.workers)
        return
    tokenizer = _load_tokenizer(config.tokenizer, config.device)
    for plan in plan_published(config, tokenizer):
        _convert(plan, config.out, workers=1)
        store = EpisodeStore(config.out / f"{plan.game}.h5")
        recorded = RecordedTokens(trajectories_path(config, plan.game), tokenizer)
        print(f"  the tokens are in {build_token_cache(store, recorded).path}")


def _convert(plan: Plan, out: Path, workers: int) -> None:
    outcome = convert(plan, out, workers)
    if outcome.already_there:
        print(f"{out / outcome.report.store} was made from the same files before; its report says:")
    print(outcome.report.text())


def _load_tokenizer(path: Path, device: str) -> FrameDecoder:
    # Only here, and only when asked for, does anything of `datasets` need a model.
    from world_model.checkpoint import load_checkpoint

    return load_checkpoint(path, device).tokenizer


if __name__ == "__main__":
    run_command(main)
