"""The processes that train one network together, one a GPU, as torchrun starts them; or this
process alone.
"""

import os
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from nordocr_cli.errors import UsageError
from nordocr_cli.training.freezing import FrozenBatchNorm2d
from nordocr_cli.training.launcher_env import restarts

T = TypeVar("T")

# The other processes wait while the first one evaluates.
_TIMEOUT = timedelta(hours=2)
_groups = count()


@dataclass(frozen=True)
class DistributedContext:
    """This process among the `world_size` processes that train together: its number `rank`, and its
    number on this machine `local_rank`. Every collective operation must be called by all processes.
    `in_group` is true where torchrun started the process, also if it is the only one.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    in_group: bool = False

    @property
    def is_main(self) -> bool:
        """Whether this is the process that logs, evaluates and writes."""
        return self.rank == 0

    def device(self, requested: str) -> str:
        """Return the device that this process takes when the user requested `requested`. Raises
        UsageError when all processes would take the same GPU.
        """
        if not self.in_group or requested == "cpu" or not torch.cuda.is_available():
            return requested
        if ":" in requested:
            if self.world_size == 1:
                return requested
            raise UsageError(
                f"--device {requested}: {self.world_size} processes train together, each on its own"
                " GPU; use --device cuda"
            )
        return f"cuda:{self.local_rank}"

    def wrap(self, network: nn.Module, device: torch.device) -> nn.Module:
        """Return the network with its gradients averaged over the processes; on GPUs, BatchNorm
        uses the lines of all processes.
        """
        if not self.in_group:
            return network
        has_frozen_norms = any(isinstance(m, FrozenBatchNorm2d) for m in network.modules())
        if device.type == "cuda" and not has_frozen_norms:
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            network, device_ids=ids, gradient_as_bucket_view=True
        )

    def all_reduce_max(self, value: float) -> float:
        """Return the maximum of all processes' values."""
        if self.world_size == 1:
            return value
        return self._all_reduce(value, dist.ReduceOp.MAX)

    def all_reduce_sum(self, value: float) -> float:
        """Return the sum of all processes' values."""
        if self.world_size == 1:
            return value
        return self._all_reduce(value, dist.ReduceOp.SUM)

    def all_gather(self, value: T) -> list[T]:
        """Return all processes' values, by rank."""
        values: list[Any] = [value]
        if self.world_size > 1:
            values = [None] * self.world_size
            dist.all_gather_object(values, value)
        return values

    def broadcast(self, value: T) -> T:
        """Return the main process's value."""
        values = [value]
        if self.world_size > 1:
            dist.broadcast_object_list(values, src=0, device=torch.device("cpu"))
        return values[0]

    def close(self) -> None:
        """Leave the process group."""
        if self.in_group:
            dist.destroy_process_group()

    def _all_reduce(self, value: float, operation: Any) -> float:
        # On the CPU: does not wait for a GPU.
        cell = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(cell, operation)
        return float(cell)


def init_distributed() -> DistributedContext:
    """Join the processes that torchrun started; without torchrun, return a context of one process.
    A single process under torchrun joins too: it computes as each of several does. Raises
    UsageError when the processes cannot connect.
    """
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1 and "TORCHELASTIC_RUN_ID" not in os.environ:
        return DistributedContext()
    context = DistributedContext(
        int(os.environ["RANK"]), world_size, int(os.environ["LOCAL_RANK"]), in_group=True
    )
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(context.local_rank)
    try:
        store, rank, world_size = next(rendezvous("env://", timeout=_TIMEOUT))
        # After a restart, or a second group in one process, the store may still hold addresses of
        # processes that are gone.
        fresh = PrefixStore(f"start-{restarts()}-{next(_groups)}", store)
        backend = "cpu:gloo,cuda:nccl" if cuda else "gloo"
        dist.init_process_group(
            backend, store=fresh, rank=rank, world_size=world_size, timeout=_TIMEOUT
        )
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"process {context.rank} of {world_size} cannot reach the others: {error}; start them"
            " with torchrun"
        ) from error
    return context


def is_lost_connection(error: RuntimeError) -> bool:
    """Return whether a process failed only because another one, which it was communicating with,
    has ended.
    """
    return isinstance(error, dist.DistError) or "gloo" in str(error)
