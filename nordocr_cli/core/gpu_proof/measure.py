"""What the proof measures with torch directly: the peak of matrix products, networks and scans on
the device against the CPU, and the pace of the network alone. Torch is imported inside functions.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
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
_FP32_TOLERANCE = 2e-3  # of logits and gradients, relative to their maximum
_SCAN_TOLERANCE = 1e-4  # of a scan in float32 against float64, relative to its maximum
_SCAN_LENGTHS = (1, 80, 257)  # steps; mamba-320 has 80
_CALLS = 10  # of a network, timed together


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
        # Random values: a GPU multiplies ones with less power, hence faster.
        a = torch.randn(size, size, device=device).to(dtype)
        product = partial(torch.matmul, a, a)
        seconds = min(_timed(product, device) for _ in range(_TRIES))
        peaks[name] = round(2 * size**3 / seconds / 1e12, 6)
    return peaks


def _timed(work: Callable[[], object], device: "torch.device") -> float:
    """Return the seconds that `work` takes until the device has done it."""
    synchronize(device)
    began = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - began


def synchronize(device: "torch.device") -> None:
    """Wait for everything that the device was given."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


def describe_device(device: "torch.device") -> dict[str, Any]:
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
    relative to the maximum, over lines of different widths with a mask; TF32 is off.
    """
    import torch

    torch.backends.cudnn.allow_tf32 = (
        False  # convolutions; of products it is off by default
    )

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


def compare_scans(device: "torch.device") -> Iterator[dict[str, Any]]:
    """Yield for each form of Mamba's scan, and each length, how far its result and its gradients on
    `device` are from the step-by-step form in float64 on the CPU, relative to their maximum.
    """
    import torch

    for length in _SCAN_LENGTHS:
        torch.manual_seed(length)
        n = 2
        channels = 8
        states = 16
        inputs = (
            torch.randn(n, length, channels),
            torch.rand(n, length, channels) * 0.1 + 1e-3,
            -torch.rand(channels, states) * states - 0.1,
            torch.randn(n, length, states),
            torch.randn(n, length, states),
        )
        forms = _scan_forms(device)
        reference = _scanned(
            forms["step by step"], inputs, torch.device("cpu"), double=True
        )
        for name, form in forms.items():
            found = _scanned(form, inputs, device)
            differences = [
                float((a - b).abs().max() / b.abs().max().clamp(min=1e-6))
                for a, b in zip(found, reference, strict=True)
            ]
            yield {
                "scan": name,
                "steps": length,
                "difference": max(differences),
                "equal": max(differences) <= _SCAN_TOLERANCE,
            }


def _scan_forms(device: "torch.device") -> dict[str, Callable[..., Any]]:
    """Every form of the scan that this machine has, over tensors (N, L, ...)."""
    from nordocr_cli.models.kernels import selective_scan as scans

    forms: dict[str, Callable[..., Any]] = {
        "step by step": scans.step_by_step_scan,
        "chunked": scans.chunked_scan,
        "selective_scan": scans.selective_scan,  # the form that this device takes
    }
    if device.type == "cuda":  # a CPU would compile it for minutes
        forms["associative"] = scans.all_at_once_scan
    return forms


def _scanned(
    form: Callable[..., Any],
    inputs: "tuple[torch.Tensor, ...]",
    device: "torch.device",
    *,
    double: bool = False,
) -> "list[torch.Tensor]":
    """The result and the gradients of its squared mean by all inputs, float64 on the CPU."""
    import torch

    dtype = torch.float64 if double else torch.float32
    leaves = [tensor.to(device, dtype, copy=True).requires_grad_() for tensor in inputs]
    y = form(*leaves)
    gradients = torch.autograd.grad(y.square().mean(), leaves)
    return [tensor.detach().double().cpu() for tensor in (y, *gradients)]


def network_pace(
    profile: Profile, device: "torch.device", batch: int, width: int, *, compiled: bool
) -> Iterator[tuple[str, float]]:
    """Yield (form, lines a second) of the profile's network alone, its input on the device
    already, in 16-bit formats; `compiled` adds the compiled form with CUDA graphs.
    """
    import torch

    network = _network(profile).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    shape = (batch, 3, profile.geometry.height, width)
    images = torch.rand(shape, device=device).contiguous(memory_format=torch.channels_last)
    widths = torch.full((batch,), width, device=device)

    def in_format(model: Callable[..., Any], dtype: "torch.dtype") -> float:
        def call() -> None:
            with torch.inference_mode(), torch.autocast(device.type, dtype):
                model(images, widths)

        for _ in range(3):  # kernels are chosen, graphs captured
            call()

        def calls() -> None:
            for _ in range(_CALLS):
                call()

        return batch * _CALLS / _timed(calls, device)

    yield "bf16", in_format(network, torch.bfloat16)
    if device.type == "cuda":
        yield "fp16", in_format(network, torch.float16)
    if compiled:
        faster = torch.compile(network, mode="reduce-overhead", dynamic=False)
        yield "fp16 compiled", in_format(faster, torch.float16)


def batch_in_little_memory(profile: Profile, device: "torch.device") -> dict[str, Any]:
    """Let the batch search run into the end of the memory: of a GPU a small share is allowed."""
    import torch

    from nordocr_cli.models.registry import build_model
    from nordocr_cli.training.batch_fit import largest_batch
    from nordocr_cli.training.step import Stepper

    if device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(0.08, device)
    charset = profile.load_charset()
    model = build_model(profile.model, charset.num_classes, charset).to(device).train()
    stepper = Stepper(model, None, profile.geometry, profile.train, device, "bf16")
    maximum = 4096 if device.type == "cuda" else 16
    lines, how = largest_batch(stepper, profile.geometry, charset.num_classes, maximum)
    return {"lines": lines, "how": how}


def _network(profile: Profile) -> "nn.Module":
    import torch

    from nordocr_cli.models.registry import build_model

    torch.manual_seed(0)
    charset = profile.load_charset()
    network: nn.Module = build_model(profile.model, charset.num_classes, charset).eval()
    return network
