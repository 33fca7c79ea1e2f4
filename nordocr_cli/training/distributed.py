"""The processes that train one network together, one a GPU, as torchrun starts them; or this
process alone.
"""

import json
import os
import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from nordocr_cli.errors import Interrupted, UsageError
from nordocr_cli.training.freezing import FrozenBatchNorm2d

T = TypeVar("T")

# The others wait while the first process evaluates.
_PATIENCE = timedelta(hours=2)
# Set by training/launch.py for the processes that it starts: that it is there, and how often it
# started them anew.
LAUNCHED, RESTARTS = "NORDOCR_LAUNCHED", "NORDOCR_RESTARTS"
_joins = count()


@dataclass(frozen=True)
class Team:
    """This process's number among `size`; `local` is its number on this machine. What asks the
    others must be called by all.
    """

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the process that logs, evaluates and writes."""
        return self.rank == 0

    def device(self, asked: str) -> str:
        """The device that this process takes when `asked` is the user's. Raises UsageError when all
        would take the same GPU.
        """
        if self.size == 1 or asked == "cpu" or not torch.cuda.is_available():
            return asked
        if ":" in asked:
            raise UsageError(
                f"--device {asked}: {self.size} processes train together, each on its own GPU; use"
                " --device cuda"
            )
        return f"cuda:{self.local}"

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """The network with its gradients averaged over the processes; BatchNorm sees all their
        lines, where there are GPUs.
        """
        if self.size == 1:
            return network
        if device.type == "cuda" and not any(
            isinstance(module, FrozenBatchNorm2d) for module in network.modules()
        ):
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            network, device_ids=ids, gradient_as_bucket_view=True
        )

    def most(self, value: float) -> float:
        """The greatest of all processes' values."""
        return value if self.size == 1 else self._reduced(value, dist.ReduceOp.MAX)

    def total(self, value: float) -> float:
        """The sum of all processes' values."""
        return value if self.size == 1 else self._reduced(value, dist.ReduceOp.SUM)

    def everyones(self, value: T) -> list[T]:
        """All processes' values, in the order of their numbers."""
        values: list[Any] = [value]
        if self.size > 1:
            values = [None] * self.size
            dist.all_gather_object(values, value)
        return values

    def firsts(self, value: T) -> T:
        """The first process's value."""
        values = [value]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def leave(self) -> None:
        """End the conversation."""
        if self.size > 1:
            dist.destroy_process_group()

    def _reduced(self, value: float, how: Any) -> float:
        cell = torch.tensor(value, dtype=torch.float64)  # on the CPU: no GPU is waited for
        dist.all_reduce(cell, how)
        return float(cell)


def join_team() -> Team:
    """Join the processes that torchrun started, or be alone where it did not. Raises UsageError
    when they cannot meet.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team()
    team = Team(int(os.environ["RANK"]), size, int(os.environ["LOCAL_RANK"]))
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(team.local)
    try:
        store, rank, size = next(rendezvous("env://", timeout=_PATIENCE))
        # After a restart, or when they met before, the store may still hold addresses that are
        # gone.
        fresh = PrefixStore(f"start-{_restarts()}-{next(_joins)}", store)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(backend, store=fresh, rank=rank, world_size=size, timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"process {team.rank} of {size} cannot meet the others: {error}; start them with"
            " torchrun"
        ) from error
    return team


def restarted() -> bool:
    """Whether torchrun started the processes anew after one of them had failed."""
    return _restarts() > 0


def tell_launcher(error: Exception) -> bool:
    """Leave an error's message where the launcher of this process finds it; whether that is all
    there is to say here. The first process speaks for itself, unless `launch` speaks for all; an
    interruption it tells itself, as `launch` then is gone.
    """
    if not (path := os.environ.get("TORCHELASTIC_ERROR_FILE")):
        return False
    Path(path).write_text(
        json.dumps({"message": str(error), "timestamp": int(time.time())}), encoding="utf-8"
    )
    first = os.environ.get("RANK", "0") == "0"
    return not first or (LAUNCHED in os.environ and not isinstance(error, Interrupted))


def lost_the_others(error: RuntimeError) -> bool:
    """Whether a process failed only because another one, that it was talking to, is gone."""
    return isinstance(error, dist.DistError) or "gloo" in str(error)


def _restarts() -> int:
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) + int(
        os.environ.get(RESTARTS, "0")
    )
