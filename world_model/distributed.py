"""The processes that train one model together: who they are, which share each takes, how they stop.

torchrun starts the processes and restarts them when one dies (`torchrun --nproc-per-node 2 -- train.py ...`).
Every process runs the same program. Of each step's batch it computes its parts: part i of M is the rows i,
i + M, i + 2 M, ... of the batch that a single process would draw. Gradients are averaged, so losses are
divided by counts over all processes (see `loss_counts.py`), and the sum is the loss of the whole batch.

Letters: W processes, M parts of a batch, S numbers to share.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.rendezvous import rendezvous
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from datasets.errors import UserError
from world_model.devices import find_device, keep_freed_memory
from world_model.world_action_model import WorldActionModel

Parallel = Literal["ddp", "fsdp"]

PATIENCE = timedelta(hours=12)
"""Longest wait for another process: the first one may make the tokens of a large store meanwhile. A process
that dies is noticed at once all the same, by its closed connection and by torchrun."""
LAST_WORDS = timedelta(seconds=10)
"""Time for the process that knows why the run stops to say so, before the others end and it is ended."""


class StoppedElsewhere(Exception):
    """The run stops for a reason that another process tells."""


@dataclass(frozen=True)
class Processes:
    """All processes of a run, as one of them sees them; by default it is alone."""

    device: torch.device = torch.device("cpu")
    """Where this process computes."""
    rank: int = 0
    """Number of this process, from 0."""
    size: int = 1
    """How many there are (W)."""
    parallel: Parallel | None = None
    """Copies of the model that average gradients (`ddp`), or shards of it (`fsdp`); None without torchrun."""

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks for all."""
        return self.rank == 0

    def parts(self, batch_size: int, micro_batches: int | None) -> tuple[range, ...]:
        """The parts of a batch that this process computes, as ranges of its rows.

        Args:
            batch_size: rows of a batch; the `stop` of each range.
            micro_batches: parts M of all processes together; by default one each.

        Raises:
            UserError: the parts cannot be shared out evenly, or some would be empty.
        """
        count = self.size if micro_batches is None else micro_batches
        if count % self.size:
            raise UserError(
                f"micro_batches is {count}, which {self.size} processes cannot share evenly; "
                "give a multiple of the number of processes"
            )
        if count > batch_size:
            raise UserError(
                f"a batch of {batch_size} rows cannot be cut into {count} parts; use fewer processes or "
                "micro_batches, or raise the batch size"
            )
        return tuple(range(part, batch_size, count) for part in range(self.rank, count, self.size))

    def wrap(self, objective: nn.Module, *, all_used: bool) -> nn.Module:
        """Prepare what is differentiated: its forward is the loss of one part.

        With `fsdp`, the world-action model within is sharded in place, block by block; anything else is
        small and copied.

        Args:
            objective: a module whose weights are trained.
            all_used: whether its loss depends on all of them.
        """
        if self.parallel is None:
            return objective
        model = getattr(objective, "model", None)
        if self.parallel == "fsdp" and isinstance(model, WorldActionModel):
            for block in model.transformer.blocks:
                fully_shard(block)
            fully_shard(objective)
            return objective
        with warnings.catch_warnings():
            # The name that replaces it is too new.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return DistributedDataParallel(
                objective,
                find_unused_parameters=not all_used,
                broadcast_buffers=False,
                gradient_as_bucket_view=True,
            )

    @contextmanager
    def gradients(self, wrapped: nn.Module, *, complete: bool) -> Iterator[None]:
        """Run forward and backward of a part; gradients are shared out once the last part completes them."""
        if isinstance(wrapped, FSDPModule):
            wrapped.set_requires_gradient_sync(complete)
            yield
            return
        if isinstance(wrapped, DistributedDataParallel) and not complete:
            with wrapped.no_sync():
                yield
        else:
            yield

    def total(self, counts: Shaped[Tensor, "S"]) -> Shaped[Tensor, "S"]:
        """Sum of the numbers over all processes."""
        if self.parallel is None:
            return counts
        total = counts.clone()
        dist.all_reduce(total)
        return total

    def gather(self, values: Float[Tensor, "S"]) -> Float[Tensor, "W S"]:
        """The numbers of every process."""
        if self.parallel is None:
            return values[None]
        rows = [torch.empty_like(values) for _ in range(self.size)]
        dist.all_gather(rows, values)
        return torch.stack(rows)

    @contextmanager
    def first(self) -> Iterator[None]:
        """Let the first process through the block before all others: it makes files that they then find."""
        if self.parallel is not None and not self.is_first:
            dist.barrier()
        yield
        if self.parallel is not None and self.is_first:
            dist.barrier()

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.parallel is not None:
            dist.barrier()

    def stop(self, culprit: int, message: str) -> None:
        """End the run in every process, with one message by the process that is to blame.

        Args:
            culprit: its rank; all processes must name the same.
            message: what it has to say.

        Raises:
            UserError: in the culprit.
            StoppedElsewhere: in all others.
        """
        if self.rank == culprit:
            raise UserError(message)
        raise StoppedElsewhere


@contextmanager
def joined(parallel: Parallel, device: str) -> Iterator[Processes]:
    """Join the other processes that torchrun started, if it did.

    Only the first process prints within. If the run stops, one message names the rank.

    Args:
        parallel: how they share the work.
        device: name of the device; `auto` and `cuda` give each process of a machine its own GPU.

    Raises:
        UserError: no such device, or whatever is raised within a process that is alone.
        SystemExit: with status 2 in place of a UserError in one of several processes.
    """
    chosen = find_device(own_device(device))
    if chosen.type == "cpu":
        keep_freed_memory()
    if "TORCHELASTIC_RUN_ID" not in os.environ and "RANK" not in os.environ:
        yield Processes(chosen)
        return
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    store, rank, size = next(rendezvous("env://"))
    # torchrun keeps its store when it starts the processes again, and with it what the dead ones left there.
    store = PrefixStore(f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}/{size}", store)
    backend = "cpu:gloo,cuda:nccl" if chosen.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    with (
        open(os.devnull, "w") as nowhere,
        redirect_stdout(sys.stdout if rank == 0 else nowhere),
        _stopping_as_one(store, rank),
    ):
        yield Processes(chosen, rank, size, parallel)
    dist.destroy_process_group()


def own_device(device: str) -> str:
    """Name of the device of this process, of those that torchrun started on this machine.

    Args:
        device: what the user asked for; `cuda`, or `auto` where there are GPUs, is a GPU for each process.
    """
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or not (device == "cuda" or (device == "auto" and torch.cuda.is_available())):
        return device
    return f"cuda:{rank}"


@contextmanager
def _stopping_as_one(store: Store, rank: int) -> Iterator[None]:
    """Turn what stops a process into one message of the first that knows why."""
    try:
        yield
    except UserError as error:
        if store.add("knows why", 1) == 1:
            print(f"error: rank {rank}: {error}", file=sys.stderr, flush=True)
            store.set("told why", "")
        else:
            _told_elsewhere(store)
        raise SystemExit(2) from error
    except StoppedElsewhere as error:
        _told_elsewhere(store)
        raise SystemExit(2) from error
    except RuntimeError as error:
        # A process that has ended closes its connections, on which the others then fail.
        if _told_elsewhere(store):
            raise SystemExit(2) from error
        raise


def _told_elsewhere(store: Store) -> bool:
    """Wait until another process has said why the run stops; False if none does."""
    try:
        store.wait(["told why"], LAST_WORDS)
    except dist.DistError:
        return False
    return True


def whole(tensor: Tensor) -> Tensor:
    """A tensor with all its shards, which every process must ask for; itself if it has none."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_model(model: WorldActionModel, into: WorldActionModel | None = None) -> WorldActionModel:
    """A model with all its shards, which every process must ask for; itself if it has none.

    Args:
        model: with shards or without.
        into: an earlier copy, to be filled again.
    """
    if not any(isinstance(parameter, DTensor) for parameter in model.parameters()):
        return model
    if into is None:
        into = WorldActionModel(model.config).to(model.position_embedding.weight.device)
    into.load_state_dict({name: whole(tensor.detach()) for name, tensor in model.state_dict().items()})
    return into.eval()


def sharded_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor of a parameter's shape, sharded as the parameter is; itself if that has no shards."""
    if not isinstance(parameter, DTensor) or tensor.shape != parameter.shape:
        return tensor
    return distribute_tensor(
        tensor.to(parameter.device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
