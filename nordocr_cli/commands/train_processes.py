"""How `nordocr train` becomes other processes: one for each of several GPUs, itself with malloc
tuned.
"""

import os
import sys
from pathlib import Path

from nordocr_cli.commands.train_checks import words_without
from nordocr_cli.console import Console
from nordocr_cli.errors import NordocrError

_RESTARTS = 3  # of several processes, after one died


def run_processes(console: Console, gpus: int, device: str, *, resumable: bool) -> None:
    """Run this command once for each GPU; restart all processes after one died, where the run's
    folder is named (`resumable`). Raises the error that they end with.
    """
    from nordocr_cli.runtime.backends.torch.runner import choose_device
    from nordocr_cli.training.launch import launch

    if device != "cpu":
        choose_device(f"cuda:{gpus - 1}")  # is it there?
    # -P: the current folder, and what lies in it, must not come before our packages.
    command = [sys.executable, "-P", "-m", "nordocr_cli", *words_without("--gpus")]
    console.detail(f"{gpus} times: {' '.join(command)}")
    launch(command, gpus, _RESTARTS if resumable else 0, console)


def end_if_launcher_reports(error: NordocrError) -> None:
    """End one of several processes silently where its launcher prints the error; return where this
    process has to print it.
    """
    from nordocr_cli.training.launcher_env import report_to_launcher

    if os.environ.get("RANK") and report_to_launcher(error):
        sys.exit(error.exit_code)


def restart_with_tuned_malloc(console: Console, device: str) -> None:
    """Restart this process with glibc's malloc tuned, which can only be done before it starts; on a
    GPU it gains nothing.
    """
    from nordocr_cli.training.malloc import malloc_tunables

    tunables = malloc_tunables()
    on_gpu = device.startswith("cuda") or (
        device == "auto" and Path("/dev/nvidiactl").exists()
    )
    main = getattr(sys.modules["__main__"], "__file__", "") or ""
    ours = (
        Path(main).name in ("nordocr", "nordocr-cli")
        or Path(main).parent.name == "nordocr_cli"
    )
    if on_gpu or not ours or not tunables or "GLIBC_TUNABLES" in os.environ:
        return
    console.detail(
        f"restarting with GLIBC_TUNABLES={tunables['GLIBC_TUNABLES']} (training takes less memory)"
    )
    sys.stdout.flush()
    sys.stderr.flush()
    # The very same command: a `-m` in place of the script would put the current folder, and what
    # lies in it, before our packages.
    os.execve(
        sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **tunables}
    )
