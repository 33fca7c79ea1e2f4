"""Every branch of the package for GPUs, and the steps of the proof that run it.

A test finds the branches in the source - CUDA calls, questions for the kind of a device, streams,
graphs, pinned memory, fused optimizers - and compares them with this table, so that a new branch
needs a step. Under each file stand `function: expression  <- steps`.
"""

from collections.abc import Iterable, Mapping
from typing import Any

_TABLE = """
commands/train_processes.py
    restart_with_tuned_malloc: /dev/nvidiactl  <- train_losses
    restart_with_tuned_malloc: device.startswith('cuda')  <- train_losses
    run_processes: device != 'cpu'  <- torchrun
core/doctor.py
    _gpu: nvidia-smi  <- doctor
    _training_advice: device.startswith('cuda')  <- doctor
core/engine/run.py
    EngineResult.classic_tensorrt: self.plan.backend == 'tensorrt'  <- tensorrt, tensorrt_rtx
    EngineResult.consumer_config: self.plan.backend != 'tensorrt'  <- tensorrt, tensorrt_rtx
core/train/run.py
    _prepare_device: device.type == 'cpu'  <- train_losses
core/train/selftest.py
    selftest_resume: read_run(whole)['device'] == 'cpu'  <- resume
core/train/setup.py
    facts_at_start: device.type == 'cpu'  <- train_losses
    facts_at_start: torch.cuda.get_device_name  <- train_losses
    precision_of: device.type == 'cpu'  <- train_losses
core/train/stores.py
    _common_options: device.type == 'cuda'  <- train_losses
    _common_options: pin=device.type == 'cuda'  <- train_losses
    lines_per_batch: device.type != 'cuda'  <- train_losses
    lines_per_batch: torch.cuda.get_device_capability  <- train_losses
data/batches.py
    LineBatches._load: images.pin_memory  <- loader, train_speed
models/kernels/attention.py
    _in_pieces: q.device.type == 'cpu'  <- networks, train_losses
    attention: q.device.type == 'cpu'  <- networks, train_losses
models/kernels/linear.py
    _in_bfloat16: x.device.type == weight.device.type == 'cpu'  <- networks, train_losses
    on_onednn: x.device.type == weight.device.type == 'cpu'  <- networks, train_losses
models/kernels/selective_scan.py
    _steps: x.device.type != 'cuda'  <- networks
    associative: decays.is_cuda  <- networks
    associative: pointwise  <- networks
models/trocr/folder.py
    require_quantization: torch.cuda.is_available  <- gpu_tests
models/trocr/network.py
    _quantization: torch.cuda.current_device  <- gpu_tests
    _quantization: torch.cuda.is_available  <- gpu_tests
runtime/backends/onnxruntime/runner.py
    OnnxRuntimeRunner.replicas: self.device != 'cpu'  <- inference, accuracy
    _open_session: requested.kind == 'cpu'  <- inference, accuracy
    _open_session: requested.kind == 'cuda'  <- inference, accuracy
    _open_session: requested.kind == 'tensorrt'  <- inference
    module: CUDAExecutionProvider  <- inference, accuracy
    module: TensorrtExecutionProvider  <- inference
runtime/backends/tensorrt/builder.py
    require_backend: backend == 'tensorrt'  <- tensorrt, tensorrt_rtx
    require_release: backend == 'tensorrt'  <- tensorrt, tensorrt_rtx
runtime/backends/tensorrt/cuda_driver.py
    module: libcuda  <- tensorrt, tensorrt_rtx
runtime/backends/tensorrt/engine_file.py
    parse_header: backend == 'tensorrt'  <- tensorrt, tensorrt_rtx
runtime/backends/tensorrt/gpu_arch.py
    local_arch: nvidia-smi  <- tensorrt, tensorrt_rtx
runtime/backends/tensorrt/runner.py
    EngineRunner._execute: self._context.execute_async_v3  <- tensorrt, tensorrt_rtx
    EngineRunner._rtx_config: config.cuda_graph_strategy  <- tensorrt_rtx
    EngineRunner.run: self._context.set_optimization_profile_async  <- tensorrt, tensorrt_rtx
    open_engine: requested.kind == 'cpu'  <- tensorrt, tensorrt_rtx
runtime/backends/torch/runner.py
    TorchRunner.__init__: reduce-overhead  <- inference, gpu_tests
    TorchRunner.__init__: self.device.type == 'cuda'  <- inference, gpu_tests
    choose_device: requested.kind == 'cpu'  <- inference, gpu_tests
    choose_device: parse_device(device).kind == 'tensorrt'  <- inference, gpu_tests
    choose_device: torch.cuda.device_count  <- inference, gpu_tests
    choose_device: torch.cuda.is_available  <- inference, gpu_tests
runtime/specs.py
    default_model: device.startswith('cuda')  <- inference
settings.py
    Train: reduce-overhead  <- train_losses, train_speed
training/batch_fit.py
    _tried.fits: torch.cuda.OutOfMemoryError  <- batch_memory
    _tried.fits: torch.cuda.empty_cache  <- batch_memory
    largest_batch: device.type == 'cuda'  <- train_speed, batch_memory
training/checkpoint.py
    restore_rng: device.type == 'cuda'  <- resume
    restore_rng: torch.cuda.set_rng_state  <- resume
    rng_state: device.type == 'cuda'  <- resume
    rng_state: torch.cuda.get_rng_state  <- resume
training/distributed.py
    DistributedContext.device: requested == 'cpu'  <- torchrun
    DistributedContext.device: torch.cuda.is_available  <- torchrun
    DistributedContext.wrap: device.type == 'cuda'  <- torchrun
    DistributedContext.wrap: device_ids=ids  <- torchrun
    DistributedContext.wrap: nn.SyncBatchNorm.convert_sync_batchnorm  <- torchrun
    DistributedContext.wrap: nn.parallel.DistributedDataParallel  <- torchrun
    init_distributed: nccl  <- torchrun
    init_distributed: torch.cuda.is_available  <- torchrun
    init_distributed: torch.cuda.set_device  <- torchrun
training/loop.py
    Trainer._train_one_step: self.job.device.type == 'cpu'  <- train_losses, train_speed
training/schedule.py
    build_optimizer: fused=True  <- train_losses, train_speed
training/step.py
    Stepper.__init__: reduce-overhead  <- train_losses, train_speed
    Stepper.__init__: torch.amp.GradScaler  <- train_losses, train_speed
    Stepper._compiled: reduce-overhead  <- train_losses, train_speed
    Stepper._compiled: self.device.type == 'cpu'  <- train_losses, train_speed
    Stepper._mark_dynamic: torch.compiler.cudagraph_mark_step_begin  <- train_losses, train_speed
    Stepper._share_of_loss: non_blocking=True  <- train_losses, train_speed
    Stepper._synchronization: nn.parallel.DistributedDataParallel  <- torchrun
training/usage.py
    gpu_busy: nvidia-smi  <- train_speed
    gpu_busy: torch.cuda.get_device_properties  <- train_speed
    gpu_busy: torch.cuda.get_device_properties(device).uuid  <- train_speed
    gpu_memory: torch.cuda.get_device_properties  <- train_speed
    gpu_memory: torch.cuda.get_device_properties(device).total_memory  <- train_speed
    gpu_memory: torch.cuda.max_memory_reserved  <- train_speed
    memory_shown: device.type == 'cuda'  <- train_speed
    memory_used: device.type == 'cuda'  <- train_speed
training/watchdogs.py
    SpeedWatch._check_cores: self._device.type != 'cpu'  <- train_speed
    SpeedWatch.check: self._device.type == 'cuda'  <- train_speed
"""


def _parsed(table: str) -> dict[str, tuple[str, ...]]:
    """Return the steps of each branch `file:function: expression`."""
    branches = {}
    file = ""
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            file = line
            continue
        branch, _, steps = line.strip().partition("  <- ")
        branches[f"{file}:{branch}"] = tuple(steps.split(", "))
    return branches


BRANCHES: Mapping[str, tuple[str, ...]] = _parsed(_TABLE)


def branch_status(steps: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return for each branch "run" when one of its steps ended well, else the status of its first
    step: "skipped", "failed", "timed out", or "not run".
    """
    status = {step["name"]: step["status"] for step in steps}
    found = {}
    for branch, names in BRANCHES.items():
        states = [status.get(name, "not run") for name in names]
        found[branch] = "run" if "ok" in states else states[0]
    return found
