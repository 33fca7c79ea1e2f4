"""What the proof measures with torch directly: the peak of matrix products, and networks on the
device against the CPU. Torch is imported inside functions.
"""

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from nordocr_cli.profile import Profile, load_profile

if TYPE_CHECKING:
    import torch
    from torch import nn

    from nordocr_cli.runtime.protocols import Runner

_TRIES = 8
# Profiles whose networks are compared, with what makes them small enough for a CPU. Their layers
# and kernels are those of full size.
_NETWORKS = {
    "svtrv2-1024": ("model.size=tiny",),
    "svtrv2-nano": (),
    "svtr-32x128": (),
    "mamba-320": ("model.layers=2",),
    "parseq-32x128": ("model.size=tiny",),
}
_FP32_TOLERANCE = 2e-3  # of logits, relative to their greatest; TF32 is off by default


def choose(device: str) -> "torch.device":
    """Return the torch device that `auto`, `cpu` or `cuda` means here."""
    from nordocr_cli.runtime.backends.torch.runner import choose_device

    return choose_device(device)


def matrix_peaks(device: "torch.device", size: int) -> dict[str, float]:
    """Return the best of a few products of square matrices in each format, in TFLOP/s."""
    import torch

    peaks = {}
    for name, dtype in (
        ("fp32", torch.float32),
        ("fp16", torch.float16),
        ("bf16", torch.bfloat16),
    ):
        a = torch.ones(size, size, device=device, dtype=dtype)
        best = float("inf")
        for _ in range(_TRIES):
            synchronize(device)
            began = time.perf_counter()
            _ = a @ a
            synchronize(device)
            best = min(best, time.perf_counter() - began)
        peaks[name] = round(2 * size**3 / best / 1e12, 3)
    return peaks


def synchronize(device: "torch.device") -> None:
    """Wait for everything that the device was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe(device: "torch.device") -> dict[str, Any]:
    """Return name, memory and compute capability of a device."""
    import torch

    if device.type != "cuda":
        return {"type": device.type, "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(device)
    return {
        "type": device.type,
        "name": properties.name,
        "memory_gb": round(properties.total_memory / 1e9, 1),
        "capability": f"{properties.major}.{properties.minor}",
        "cuda": torch.version.cuda,
    }


def forward_flops(profile: Profile, width: int) -> float:
    """Return the operations of one line of `width` pixels through the profile's network."""
    from nordocr_cli.core.bench.network import Operations

    contract = SimpleNamespace(
        model=profile.model.model_dump(mode="json"),
        charset=profile.load_charset(),
        geometry=profile.geometry,
    )
    runner = cast("Runner", SimpleNamespace(contract=contract))
    return Operations(runner).of(1, width)


def compare_networks(device: "torch.device") -> Iterator[dict[str, Any]]:
    """Yield for each network how far its logits and gradients on `device` are from the CPU's,
    relative to the greatest, over lines of different widths with a mask.
    """
    import torch

    for name, sets in _NETWORKS.items():
        profile = load_profile(name, sets).profile
        width = min(profile.geometry.max_width, 128)
        torch.manual_seed(1)
        images = torch.randn(3, 3, profile.geometry.height, width)
        widths = torch.tensor([width, width // 2, width // 4])
        here, there = (
            _outputs(profile, place, images, widths) for place in ("cpu", device)
        )
        difference = [
            float((a - b).abs().max() / a.abs().max().clamp(min=1e-6))
            for a, b in zip(here, there, strict=True)
        ]
        yield {
            "profile": name,
            "logits": difference[0],
            "gradient": difference[1],
            "equal": max(difference) <= _FP32_TOLERANCE,
        }


def _outputs(
    profile: Profile,
    place: "torch.device | str",
    images: "torch.Tensor",
    widths: "torch.Tensor",
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Logits, and the gradient of their mean square by the first weight, both on the CPU."""

    network = _network(profile).to(place)
    logits = network(images.to(place), widths.to(place))
    frames = logits[:1]  # the line that fills the batch: no padding to compare
    frames.square().mean().backward()
    gradients = (p.grad for p in network.parameters() if p.grad is not None)
    gradient = next(gradients)
    return frames.detach().float().cpu(), gradient.detach().float().cpu()


def _network(profile: Profile) -> "nn.Module":
    import torch

    from nordocr_cli.models.registry import build_model

    torch.manual_seed(0)
    charset = profile.load_charset()
    network: nn.Module = build_model(profile.model, charset.num_classes, charset).eval()
    return network
