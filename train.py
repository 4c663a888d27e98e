"""Train a world-action model on stored Atari play, from pixels to a playing agent.

    python -m datasets.collect --game Pong --steps 50000 --out data/pong.h5
    python train.py --data data/pong.h5 --run runs/pong
    python -m agents.evaluate --checkpoint runs/pong --game Pong --planner beam

Stage 1 trains the frame tokenizer, then (tokenizer frozen, frames replaced by their tokens) the
world part of the model. Stage 2 joins the Q head. Watch it with `tensorboard --logdir runs`.

    python train.py --run runs/pong --resume                           go on after a kill, bit for bit
    python train.py --from runs/pong --game Breakout --data data/new.h5   fine-tune on another game
    python train.py --size 40M --data a.h5 b.h5 --run runs/two         the published size and recipe
    torchrun --nproc-per-node 8 -- train.py --data a.h5 --run runs/x   many devices: docs/scaling.md
"""

from __future__ import annotations

from dataclasses import replace

from datasets.errors import run_command
from world_model.checkpoint import list_checkpoints
from world_model.distributed import Processes, joined, whole_model
from world_model.optimizer_state import optimizer_tensors, restore_optimizer
from world_model.optimizers import make_optimizer
from world_model.recipes import parse_command_line
from world_model.run_log import RunLog
from world_model.saving import Saver, open_saver
from world_model.starting_embeddings import start_embeddings
from world_model.train_config import TrainConfig
from world_model.training import Optimisation, Phase, train_phase
from world_model.training_data import TrainingData, check_games, make_learner, open_data
from world_model.training_state import TrainingState, begin


def main() -> None:
    """Read the command line and train."""
    train(parse_command_line(description=__doc__))


def train(config: TrainConfig) -> TrainingState:
    """Run every phase that is left of a training run, with all processes that torchrun has started.

    Raises:
        UserError: bad data, a bad checkpoint, a collapsed tokenizer, a non-finite loss, a full disk.
    """
    with joined(config.parallel, config.device) as processes:
        state = begin(config, processes.device)
        data = open_data(config, processes)
        check_games(data.games, state.model)
        print(data.describe(), state.describe(), sep="\n")
        stop = config.total_steps
        if config.max_steps is not None:
            stop = min(stop, state.step + config.max_steps)
        saver = open_saver(config.run, config.keep_checkpoints, processes)
        with RunLog(config.run, state.step, writing=processes.is_first) as log:
            for phase in config.phases():
                if phase.start <= state.step < min(phase.stop, stop):
                    state = run_phase(
                        config, data, state, phase, min(phase.stop, stop), processes, saver, log
                    )
        saver.finish()
        print(f"{state.step} of {config.total_steps} steps done: {list_checkpoints(config.run)[-1]}")
        return state


def run_phase(
    config: TrainConfig,
    data: TrainingData,
    state: TrainingState,
    phase: Phase,
    stop: int,
    processes: Processes,
    saver: Saver,
    log: RunLog,
) -> TrainingState:
    """Train one phase from the state's step to `stop`, saving as it goes."""
    fresh = config.from_checkpoint is None
    if fresh and config.start_embeddings and state.step == config.tokenizer_steps:
        start_embeddings(state.model, state.tokenizer, config.seed)
    learner = make_learner(config, data, state, phase, processes)
    objective = processes.wrap(learner.objective, all_used=learner.objective.all_used)
    optimizer = make_optimizer(learner.module, config.optimizer_of(phase))
    if state.step > phase.start:
        restore_optimizer(optimizer, learner.module, state.optimizer)

    def save(step: int, held_out_loss: float | None) -> None:
        saver.save(
            step,
            tokenizer=state.tokenizer,
            model=None if phase.name == "tokenizer" and fresh else state.plain_model(),
            optimizer=state.resumable(optimizer_tensors(optimizer, learner.module)),
            training=config.to_json(),
            phase=phase.name,
            held_out_loss=held_out_loss,
        )

    how = Optimisation(processes, config.optimizer_of(phase), config.loop, config.seed, config.bf16)
    train_phase(
        learner, objective, optimizer, phase, how, first_step=state.step, last_step=stop, log=log, save=save
    )
    if stop == phase.stop:
        learner.finish(config.allow_collapse)
    return replace(state, step=stop, model=whole_model(state.model))


if __name__ == "__main__":
    run_command(main)
