"""One optimizer step: its batches through the network, their gradients summed, one update of the
weights.
"""

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nordocr_cli.data.batches import Batch, normalize_tensor
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.base import AuxiliaryBranch, LineNetwork
from nordocr_cli.settings import Train
from nordocr_cli.training.distributed import DistributedContext
from nordocr_cli.training.schedule import build_optimizer, set_learning_rate

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class StepResult:
    """The outcome of a step: loss in nats a character, gradient norm before clipping. A step that
    is not `finite` changed nothing.
    """

    loss: float
    norm: float
    finite: bool


class TrainableModule(nn.Module):
    """What trains: the network and, where there is one, its auxiliary branch. Its forward is the
    part of their loss that is compiled; the rest is `loss_from`.
    """

    def __init__(self, model: LineNetwork, branch: AuxiliaryBranch | None) -> None:
        super().__init__()
        self.model, self.branch = model, branch

    def forward(
        self, images: Tensor, widths: Tensor, targets: Tensor, lengths: Tensor, masked: bool
    ) -> Any:
        """Compute what `loss_from` needs; arguments as of `LineNetwork.loss`."""
        if self.branch is None:
            return self.model.compiled_part(images, widths, targets, lengths, masked)
        return self.branch.compiled_part(
            self.model, images, widths, targets, lengths, masked
        )

    def loss_from(
        self, part: Any, widths: Tensor, targets: Tensor, lengths: Tensor
    ) -> Tensor:
        """Return the loss (), in nats a character."""
        trained = self.model if self.branch is None else self.branch
        return trained.loss_from(part, widths, targets, lengths)


class Stepper:
    """A network and its auxiliary branch with their optimizer. `model` is the network itself, whose
    weights are saved.
    """

    def __init__(
        self,
        model: LineNetwork,
        branch: AuxiliaryBranch | None,
        geometry: Geometry,
        settings: Train,
        device: torch.device,
        precision: str,
        context: DistributedContext | None = None,
    ) -> None:
        self.model, self.geometry, self.settings = model, geometry, settings
        self.device, self.precision = device, precision
        self.context = context or DistributedContext()
        trainable = TrainableModule(model, branch)
        self.loss_from = trainable.loss_from
        self.parameters = [p for p in trainable.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(trainable, settings.lr, settings.weight_decay)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        if settings.checkpointing:
            checkpoint_blocks(model)
        self.uses_cuda_graphs = settings.compile == "reduce-overhead"
        self.network = self.context.wrap(self._compiled(trainable), device)

    def _compiled(self, trainable: nn.Module) -> nn.Module:
        if not self.settings.compile:
            return trainable
        if self.device.type == "cpu":
            # On a CPU torch 2.13 tries to order the strides of unknown sizes, and fails.
            options: dict[str, Any] = {"options": {"layout_optimization": False}}
        else:
            options = {"mode": "reduce-overhead" if self.uses_cuda_graphs else None}
        compiled: Any = torch.compile(trainable, **options)
        network: nn.Module = compiled
        return network

    def amp(self) -> AbstractContextManager[Any]:
        """Return the context of mixed precision."""
        dtype = _DTYPES.get(self.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def step(self, batches: Sequence[Batch], lr: float) -> StepResult:
        """Train on `batches` as if they were one, at learning rate `lr`."""
        set_learning_rate(self.optimizer, lr)
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        loss = self.backward(batches)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(
            self.parameters, self.settings.grad_clip or math.inf
        )

        values: Tensor = torch.stack([loss, norm.detach()])
        loss_value, norm_value = values.tolist()  # the only synchronization of a step
        loss_value = self.context.all_reduce_sum(loss_value)
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)

        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()  # lowers the scale after gradients that were not finite
        self.optimizer.zero_grad(set_to_none=True)
        if not finite:
            # Running statistics that a bad batch may have corrupted.
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)
        return StepResult(loss_value, norm_value, finite)

    def backward(self, batches: Sequence[Batch]) -> Tensor:
        """Sum the scaled gradients of `batches`; return this process's share of the loss ().

        The loss is that of all batches of the step in all processes: the sum over their lines
        divided by all their characters. So neither accumulation nor the number of GPUs changes what
        a character weighs.
        """
        losses = []
        for number, batch in enumerate(batches, start=1):
            with self._synchronization(last=number == len(batches)):
                loss = self._share_of_loss(batch, batches)
                # Gradients are averaged over the processes, and should be summed.
                self.scaler.scale(loss * self.context.world_size).backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    @torch.no_grad()
    def loss(self, batches: Sequence[Batch]) -> float:
        """Return the loss of `batches` in nats a character, as a step sees it, without a step. The
        running statistics of the norms change.
        """
        losses = [self._share_of_loss(batch, batches) for batch in batches]
        return torch.stack(losses).sum().item()

    def _share_of_loss(self, batch: Batch, batches: Sequence[Batch]) -> Tensor:
        """Compute what `batch` adds to the loss of its step's `batches` ()."""
        images = batch.images.to(self.device, non_blocking=True)
        images = normalize_tensor(images, self.geometry)  # (N, 3, H, W)
        widths = batch.widths.to(self.device, non_blocking=True)  # (N,)
        targets = batch.targets.to(self.device)
        lengths = batch.target_lengths.to(self.device)  # (N,)
        if self.settings.compile:
            self._mark_dynamic(images, widths, targets, lengths)

        with self.amp():
            part = self.network(images, widths, targets, lengths, batch.masked)
        loss = self.loss_from(part, widths, targets, lengths)
        # The mean over the batch counts as its share of the step's characters.
        own_characters = max(1, int(batch.target_lengths.sum()))
        characters = max(1, sum(one.shared_characters for one in batches))
        loss = loss * (own_characters / characters)
        if not batch.counted:
            loss = loss * 0.0
        return loss

    def _synchronization(self, *, last: bool) -> AbstractContextManager[Any]:
        """Exchange gradients between processes once a step, with those of the last batch."""
        distributed = isinstance(self.network, nn.parallel.DistributedDataParallel)
        if last or not distributed:
            return nullcontext()
        no_sync: AbstractContextManager[Any] = self.network.no_sync()  # type: ignore[operator]
        return no_sync

    def _mark_dynamic(
        self, images: Tensor, widths: Tensor, targets: Tensor, lengths: Tensor
    ) -> None:
        """Mark the dimensions that differ between batches, so that each shape is not compiled
        again.
        """
        if self.uses_cuda_graphs:
            # The outputs of the previous batch's graphs are no longer needed.
            torch.compiler.cudagraph_mark_step_begin()
        torch._dynamo.maybe_mark_dynamic(images, (0, 3))
        for tensor in (widths, targets, lengths):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)


def checkpoint_blocks(model: nn.Module) -> int:
    """Let the network's blocks keep no activations in training and compute them again in the
    backward pass; return the number of blocks.

    About a third more time for a fraction of the memory. Copies of the network must be made before.
    """
    blocks = [
        block
        for parent in model.modules()
        if isinstance(parent, nn.ModuleList)
        for block in parent
        if not any(isinstance(part, nn.ModuleList) for part in block.modules())
    ]
    for block in blocks:
        _checkpoint(block)
    return len(blocks)


def _checkpoint(block: nn.Module) -> None:
    forward = block.forward

    def computed_again(*inputs: Any, **named: Any) -> Any:
        if block.training and torch.is_grad_enabled():
            return checkpoint(forward, *inputs, use_reentrant=False, **named)
        return forward(*inputs, **named)

    block.forward = computed_again
