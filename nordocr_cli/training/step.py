"""One optimizer step: its batches through the network, their gradients together, one update of the
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

from nordocr_cli.data.batches import Batch, normalize
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.guidance import CTC_WEIGHT, Guidance
from nordocr_cli.models.parseq.network import Parseq
from nordocr_cli.models.trocr.network import TrOcr
from nordocr_cli.settings import Train
from nordocr_cli.training.distributed import Team
from nordocr_cli.training.objective import ctc_loss, decoding_of, frames_of
from nordocr_cli.training.schedule import build_optimizer, set_learning_rate


@dataclass(frozen=True)
class Stepped:
    """What a step did: loss in nats a character, gradient norm before clipping. A step that is not
    `finite` changed nothing.
    """

    loss: float
    norm: float
    finite: bool


class Stepper:
    """A network, and the branch that guides it, with their optimizer. `model` is the network
    itself, whose weights are saved.
    """

    def __init__(
        self,
        model: nn.Module,
        guidance: Guidance | None,
        geometry: Geometry,
        settings: Train,
        device: torch.device,
        precision: str,
        team: Team | None = None,
    ) -> None:
        self.model, self.geometry, self.settings = model, geometry, settings
        self.by_tokens = decoding_of(model) != "ctc"
        taught: nn.Module = _Taught(model, guidance)
        self.device, self.precision, self.team = device, precision, team or Team()
        self.parameters = [p for p in taught.parameters() if p.requires_grad]
        self.optimizer = build_optimizer(taught, settings.lr, settings.weight_decay)
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")
        if settings.checkpointing:
            checkpoint_blocks(model)
        self.graphs = settings.compile == "reduce-overhead"
        if settings.compile:
            # On a CPU torch 2.13 tries to order the strides of sizes that it does not know, and
            # fails.
            how: dict[str, Any] = (
                {"options": {"layout_optimization": False}} if device.type == "cpu" else {}
            )
            taught = torch.compile(
                taught, **(how or {"mode": "reduce-overhead" if self.graphs else None})
            )  # type: ignore[assignment]
        self.network = self.team.wrap(taught, device)

    def amp(self) -> AbstractContextManager[Any]:
        """Mixed precision as the run wants it."""
        dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.precision)
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)

    def step(self, batches: Sequence[Batch], lr: float) -> Stepped:
        """Train on `batches` as if they were one, at learning rate `lr`."""
        set_learning_rate(self.optimizer, lr)
        buffers = [buffer.clone() for buffer in self.model.buffers()]
        loss = self.backward(batches)
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.grad_clip or math.inf)
        figures: Tensor = torch.stack([loss, norm.detach()])
        loss_value, norm_value = figures.tolist()  # the one synchronization a step
        loss_value = self.team.total(loss_value)
        finite = math.isfinite(loss_value) and math.isfinite(norm_value)
        if finite:
            self.scaler.step(self.optimizer)
        self.scaler.update()  # lowers the scale after gradients that were not finite
        self.optimizer.zero_grad(set_to_none=True)
        if not finite:
            for buffer, before in zip(self.model.buffers(), buffers, strict=True):
                buffer.copy_(before)  # running statistics that a bad batch may have spoilt
        return Stepped(loss_value, norm_value, finite)

    def backward(self, batches: Sequence[Batch]) -> Tensor:
        """Add up the scaled gradients of `batches`; return this process's share of the loss ().

        The loss is that of all the step's batches, of all processes: the sum over their lines
        divided by all their characters. So neither accumulation nor the number of GPUs changes what
        a character weighs.
        """
        characters = sum(batch.shared_characters for batch in batches)
        losses = []
        for number, batch in enumerate(batches, start=1):
            # (N, 3, H, W)
            images = normalize(batch.images.to(self.device, non_blocking=True), self.geometry)
            widths = batch.widths.to(self.device, non_blocking=True)  # (N,)
            targets, lengths = batch.targets.to(self.device), batch.target_lengths.to(self.device)
            # Gradients are exchanged once a step, with those of the last batch.
            waiting = number < len(batches) and isinstance(
                self.network, nn.parallel.DistributedDataParallel
            )
            with self.network.no_sync() if waiting else nullcontext():  # type: ignore[operator]
                if self.settings.compile:
                    self._for_any_size(images, widths, targets, lengths)
                with self.amp():
                    told = widths if batch.masked or self.by_tokens else None
                    # (N, T, C) or None, () or None
                    logits, own = self.network(images, told, targets, lengths)
                # A mean weighs as much as the batch's share of the characters.
                share = int(batch.target_lengths.sum()) / max(1, characters)
                if logits is None:
                    loss = own * share
                else:
                    loss = ctc_loss(
                        logits, frames_of(widths, self.geometry), targets, lengths, characters
                    )
                    loss = loss if own is None else CTC_WEIGHT * loss + own * share
                loss = loss if batch.counted else loss * 0.0
                # the processes' gradients are averaged
                self.scaler.scale(loss * self.team.size).backward()
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def _for_any_size(
        self, images: Tensor, widths: Tensor, targets: Tensor, lengths: Tensor
    ) -> None:
        """Tell the compiler what differs between batches, lines and widths, so that it does not
        compile each one.
        """
        if self.graphs:
            # what the graphs of the batch before gave back is used up
            torch.compiler.cudagraph_mark_step_begin()
        torch._dynamo.maybe_mark_dynamic(images, (0, 3))
        for tensor in (widths, targets, lengths):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)


class _Taught(nn.Module):
    """What trains: the network and, where there is one, the branch that guides it."""

    def __init__(self, model: nn.Module, guidance: Guidance | None) -> None:
        super().__init__()
        self.model, self.guidance = model, guidance

    def forward(
        self, images: Tensor, widths: Tensor | None, targets: Tensor, lengths: Tensor
    ) -> tuple[Tensor | None, Tensor | None]:
        """Return the logits (N, T, C) and the guidance's loss () or None; None and its own loss for
        a network of tokens.
        """
        if isinstance(self.model, Parseq):
            return None, self.model.permuted_loss(images, widths, targets, lengths)
        if isinstance(self.model, TrOcr):
            return None, self.model.token_loss(images, widths, targets, lengths)
        if self.guidance is None:
            return self.model(images, widths), None
        logits, guided = self.guidance(self.model, images, widths, targets, lengths)
        return logits, guided


def checkpoint_blocks(model: nn.Module) -> int:
    """Let the network's blocks keep no activations in training and compute them again going back;
    return how many blocks.

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
