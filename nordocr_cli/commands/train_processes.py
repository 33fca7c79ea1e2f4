"""How `nordocr train` becomes other processes: torchrun for several GPUs, itself with malloc tuned."""

import os
import sys
from pathlib import Path

from nordocr_cli.commands.train_checks import words_without
from nordocr_cli.console import Console


def start_processes(console: Console, gpus: int, device: str, *, whole: bool) -> None:
    """Become torchrun, which starts this command once for each GPU; with its run folder named (`whole`) also after a failure."""
    from nordocr_cli.runtime.torch_runner import choose_device

    if device != "cpu":
        choose_device(f"cuda:{gpus - 1}")  # is it there?
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}", f"--max-restarts={3 if whole else 0}"]
    # -P: the current folder, and what lies in it, must not come before our packages.
    ours = ["-P", "-m", "nordocr_cli", *words_without("--gpus")]
    words = [sys.executable, *launcher, "--no-python", sys.executable, *ours]
    console.detail(" ".join(words))
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, words, {"OMP_NUM_THREADS": "1", **os.environ})


def restart_with_tuned_malloc(console: Console, device: str) -> None:
    """Start this process anew with glibc's malloc tuned, which can only be done before it starts; on a GPU it gains nothing."""
    from nordocr_cli.core.train import malloc_tunables

    tunables = malloc_tunables()
    on_gpu = device.startswith("cuda") or (device == "auto" and Path("/dev/nvidiactl").exists())
    main = getattr(sys.modules["__main__"], "__file__", "") or ""
    ours = Path(main).name in ("nordocr", "nordocr-cli") or Path(main).parent.name == "nordocr_cli"
    if on_gpu or not ours or not tunables or "GLIBC_TUNABLES" in os.environ:
        return
    console.detail(f"restarting with GLIBC_TUNABLES={tunables['GLIBC_TUNABLES']} (faster training on this CPU)")
    sys.stdout.flush()
    sys.stderr.flush()
    # The very same command: a `-m` in place of the script would put the current folder, and what lies in it, before our packages.
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **tunables})
