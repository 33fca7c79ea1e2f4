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


def run_processes(console: Console, gpus: int, device: str, *, whole: bool) -> None:
    """Run this command once for each GPU; with its run folder named (`whole`), again after one
    died. Raises what they end in.
    """
    from nordocr_cli.runtime.backends.torch.runner import choose_device
    from nordocr_cli.training.launch import launch

    if device != "cpu":
        choose_device(f"cuda:{gpus - 1}")  # is it there?
    # -P: the current folder, and what lies in it, must not come before our packages.
    command = [sys.executable, "-P", "-m", "nordocr_cli", *words_without("--gpus")]
    console.detail(f"{gpus} times: {' '.join(command)}")
    launch(command, gpus, _RESTARTS if whole else 0, console)


def told_by_the_launcher(error: NordocrError) -> None:
    """End one of several processes without a word where its launcher tells the error; go on where
    this process has to.
    """
    if os.environ.get("RANK"):
        from nordocr_cli.training.distributed import tell_launcher

        if tell_launcher(error):
            sys.exit(error.exit_code)


def restart_with_tuned_malloc(console: Console, device: str) -> None:
    """Start this process anew with glibc's malloc tuned, which can only be done before it starts;
    on a GPU it gains nothing.
    """
    from nordocr_cli.core.train.run import malloc_tunables

    tunables = malloc_tunables()
    on_gpu = device.startswith("cuda") or (device == "auto" and Path("/dev/nvidiactl").exists())
    main = getattr(sys.modules["__main__"], "__file__", "") or ""
    ours = Path(main).name in ("nordocr", "nordocr-cli") or Path(main).parent.name == "nordocr_cli"
    if on_gpu or not ours or not tunables or "GLIBC_TUNABLES" in os.environ:
        return
    console.detail(
        f"restarting with GLIBC_TUNABLES={tunables['GLIBC_TUNABLES']} (faster training on this CPU)"
    )
    sys.stdout.flush()
    sys.stderr.flush()
    # The very same command: a `-m` in place of the script would put the current folder, and what
    # lies in it, before our packages.
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **tunables})
