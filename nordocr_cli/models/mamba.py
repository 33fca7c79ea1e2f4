"""mamba-320: ResNet34 features, a Mamba encoder along the line, a linear CTC classifier.

A Mamba block reads from left to right without access to what follows; CTC has to place a character
where it ends, so by default each block also reads the line from right to left with weights of its
own. Names under `mamba.layers` follow transformers' MambaModel (Mamba-1), so that the blocks of
state-spaces/mamba-…-hf load.
"""

import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nordocr_cli.errors import ArtifactError
from nordocr_cli.models.base import CtcNetwork
from nordocr_cli.models.checkpoints.fit import require_same_tensors
from nordocr_cli.models.checkpoints.foreign import read_tensors
from nordocr_cli.models.kernels.linear import Linear
from nordocr_cli.models.kernels.selective_scan import selective_scan
from nordocr_cli.models.lora import LoraLinear
from nordocr_cli.models.masking import columns_by_stride
from nordocr_cli.models.resnet import CHANNELS, ResNet34
from nordocr_cli.progress import Progress
from nordocr_cli.settings import MambaModel

_NORM_EPS = 1e-5
_DELTA_RANGE = (1e-3, 1e-1)  # of the step sizes at the start, drawn evenly on a log scale


class RMSNorm(nn.Module):
    """Division by the root mean square over the channels, in float32."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, C) to (…, C)."""
        full = x.float()
        return self.weight * (
            full * (full.square().mean(-1, keepdim=True) + _NORM_EPS).rsqrt()
        ).to(self.weight.dtype)


class MambaMixer(nn.Module):
    """A Mamba-1 mixer: gate, causal depthwise convolution, selective scan. Each frame sees itself
    and those before it.
    """

    def __init__(self, model: MambaModel) -> None:
        super().__init__()
        dim = model.features
        inner = model.expand * model.features
        self.d_state = model.d_state
        self.dt_rank = math.ceil(dim / 16)
        self.in_proj = _projection(dim, 2 * inner, model)
        self.conv1d = nn.Conv1d(
            inner, inner, model.d_conv, groups=inner, padding=model.d_conv - 1
        )
        self.x_proj = _projection(inner, self.dt_rank + 2 * self.d_state, model)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        # S4D-real: state s of every channel decays at rate s + 1.
        self.A_log = nn.Parameter(
            torch.arange(1.0, self.d_state + 1).log().repeat(inner, 1)
        )
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = Linear(inner, dim, bias=False)
        for parameter in (self.A_log, self.D, self.dt_proj.bias):
            parameter.no_decay = True  # type: ignore[attr-defined]
        self._init(model.layers)

    @torch.no_grad()
    def _init(self, layers: int) -> None:
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        low, high = (math.log(bound) for bound in _DELTA_RANGE)
        delta = torch.empty_like(self.dt_proj.bias).uniform_(low, high).exp()
        # The inverse of softplus.
        self.dt_proj.bias.copy_(delta + (-(-delta).expm1()).log())
        # The residual stream adds up over the layers.
        self.out_proj.weight.div_(math.sqrt(layers))

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, L, C) to (N, L, C)."""
        length = x.shape[1]
        x, gate = self.in_proj(x).chunk(2, dim=-1)  # (N, L, D) each
        x = F.silu(self.conv1d(x.transpose(1, 2))[..., :length].transpose(1, 2))
        delta, b, c = self.x_proj(x).split(
            [self.dt_rank, self.d_state, self.d_state], dim=-1
        )
        # The bias outside of mixed precision: step sizes of 1e-3 are the softplus of -7, where
        # bfloat16 has 3 digits.
        # (N, L, D)
        delta = F.softplus(
            F.linear(delta, self.dt_proj.weight).float() + self.dt_proj.bias.float()
        )
        y = selective_scan(x, delta, -self.A_log.float().exp(), b, c) + self.D.float() * x
        return self.out_proj(y.to(gate.dtype) * F.silu(gate))


class MambaBlock(nn.Module):
    """Norm and mixers on a shortcut: one from left to right, one from right to left where the
    profile says so.
    """

    def __init__(self, model: MambaModel) -> None:
        super().__init__()
        self.norm = RMSNorm(model.features)
        self.mixer = MambaMixer(model)
        self.mixer_reverse = MambaMixer(model) if model.bidirectional else None

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Map (N, L, C) to (N, L, C); `lengths` int64 (N,) or None as in `reverse`."""
        normed = self.norm(x)
        mixed = self.mixer(normed)
        if self.mixer_reverse is not None:
            mixed = mixed + reverse(self.mixer_reverse(reverse(normed, lengths)), lengths)
        return x + mixed


class MambaEncoder(nn.Module):
    """Blocks and a last norm: (N, L, C) to (N, L, C)."""

    def __init__(self, model: MambaModel) -> None:
        super().__init__()
        self.layers = nn.ModuleList(MambaBlock(model) for _ in range(model.layers))
        self.norm_f = RMSNorm(model.features)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Map (N, L, C) to (N, L, C); `lengths` int64 (N,) or None as in `reverse`."""
        for layer in self.layers:
            x = layer(x, lengths)
        return self.norm_f(x)

    def load_pretrained(self, path: Path, key: str) -> int:
        """Load as many blocks as there are here from a file of MambaModel or MambaForCausalLM, the
        mixers from right to left as copies of those from left to right; return how many blocks the
        file has.

        The last norm is taken only with the last block, which it belongs to. Raises UsageError when
        there is no such file and ArtifactError when its blocks have other sizes.
        """
        state = {}
        for name, tensor in read_tensors(path, key).items():
            found = re.search(r"(?:^|\.)(layers\.\d+\..*|norm_f\.weight)$", name)
            if found:
                state[found[1]] = tensor
        blocks = 1 + max(
            (int(name.split(".")[1]) for name in state if name.startswith("layers.")),
            default=-1,
        )
        if blocks < len(self.layers):
            problem = "holds no Mamba blocks (layers.0.mixer.A_log, …)"
            if blocks:
                problem = (
                    f"has {blocks} Mamba blocks, model.layers asks for {len(self.layers)}: --set"
                    f" model.layers={blocks}"
                )
            raise ArtifactError(f"{key}: {path} {problem}")
        taken = {f"layers.{index}." for index in range(len(self.layers))}
        own = self.state_dict()
        kept = {
            name: own[name]
            for name in own
            if ".lora_" in name or (name == "norm_f.weight" and blocks != len(self.layers))
        }
        chosen = {
            name: t
            for name, t in state.items()
            if name.startswith(tuple(taken)) or name == "norm_f.weight"
        } | kept
        if self.layers[0].mixer_reverse is not None:
            chosen |= {
                n.replace(".mixer.", ".mixer_reverse."): t
                for n, t in chosen.items()
                if n not in kept
            }
        require_same_tensors(
            self,
            chosen,
            f"{key}: {path}",
            f"Set model.{_sizes(state)}, which are the file's",
        )
        self.load_state_dict(chosen)
        return blocks


def _sizes(state: Mapping[str, Tensor]) -> str:
    """The options of the blocks that a file's tensors tell."""
    rates = state.get("layers.0.mixer.A_log")
    kernel = state.get("layers.0.mixer.conv1d.weight")
    features = state.get("layers.0.norm.weight")
    if rates is None or kernel is None or features is None:
        return "features, d_state, d_conv and expand"
    dim = len(features)
    return (
        f"features={dim}, d_state={rates.shape[1]}, d_conv={kernel.shape[-1]},"
        f" expand={len(rates) // dim}"
    )


class MambaOcr(CtcNetwork):
    """Backbone, last convolution, Mamba encoder, classifier."""

    options: MambaModel

    def __init__(self, model: MambaModel, num_classes: int) -> None:
        super().__init__(model)
        self.backbone = ResNet34(model.adapter_rank)
        self.last_conv = nn.Conv2d(CHANNELS[-1], model.features, kernel_size=1)
        self.mamba = MambaEncoder(model)
        self.classifier = nn.Linear(model.features, num_classes)

    def features(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Return (N, features, 1, T), T = ceil(W / 4), for normalized images (N, 3, H, W)."""
        return self.last_conv(self.backbone(images, widths).mean(dim=2, keepdim=True))

    def forward(self, images: Tensor, widths: Tensor | None = None) -> Tensor:
        """Return logits (N, T, C), T = ceil(W / 4), for normalized images (N, 3, H, W).

        `widths` int64 (N,), 1…W, are the pixels of each line without its padding; given, padding
        changes nothing.
        """
        x = self.features(images, widths)[:, :, 0].transpose(1, 2)  # (N, T, features)
        return self.classifier(self.mamba(x, frames(images.shape[3], widths)))

    def load_pretrained(self, progress: Progress) -> None:
        """Load the weights files that the profile names, and say so; warn of every part that stays
        random for want of one.

        Raises UsageError for a file that is not there and ArtifactError for one that does not fit.
        """
        if self.options.backbone_weights:
            self.backbone.load_imagenet(
                Path(self.options.backbone_weights), "model.backbone_weights"
            )
            progress.note(f"backbone: ImageNet weights of {self.options.backbone_weights}")
        else:
            progress.warn(
                "model.backbone_weights is empty: ResNet34 starts from RANDOM weights, and what"
                " train.trainable leaves out stays random. Give a file: --set"
                " model.backbone_weights=resnet34.safetensors (torchvision's or transformers'), or"
                " train everything: --set 'train.trainable=[]'"
            )
        if self.options.pretrained:
            blocks = self.mamba.load_pretrained(
                Path(self.options.pretrained), "model.pretrained"
            )
            progress.note(
                f"mamba: the first {self.options.layers} of {blocks} blocks of"
                f" {self.options.pretrained}"
            )

    def warn_of_frozen(self, progress: Progress) -> None:
        """Warn where Mamba blocks that start from random weights are frozen in part."""
        if self.options.pretrained:
            return
        frozen = sum(
            weight.numel() for weight in self.mamba.parameters() if not weight.requires_grad
        )
        if frozen:
            progress.warn(
                f"model.pretrained is empty, and train.trainable freezes {frozen:,} parameters of"
                " its blocks: they stay RANDOM. Give a file: --set"
                ' model.pretrained=mamba-130m-hf.safetensors, or put "mamba" into train.trainable'
            )


def frames(width: int, widths: Tensor | None) -> Tensor | None:
    """Return the frames of each line, int64 (N,); None without widths."""
    valid = columns_by_stride(width, widths)[2]
    if valid is None:
        return None
    return valid.sum(dim=1)


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Reverse each line (N, L, C) within its own length, int64 (N,), its padding left where it is;
    all of it without lengths.
    """
    if lengths is None:
        return x.flip(1)
    index = torch.arange(x.shape[1], device=x.device)
    mirrored = lengths[:, None] - 1 - index  # (N, L)
    return x.gather(1, torch.where(mirrored >= 0, mirrored, index)[..., None].expand_as(x))


def _projection(in_features: int, out_features: int, model: MambaModel) -> nn.Linear:
    if model.use_lora:
        return LoraLinear(in_features, out_features, model.lora_rank, bias=False)
    return Linear(in_features, out_features, bias=False)
