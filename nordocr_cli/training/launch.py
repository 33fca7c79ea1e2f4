"""`nordocr train --gpus N`: several processes of one command, one a GPU of this machine.

The processes are started with `elastic_launch`, the function behind the torchrun command. Calling
it directly keeps what the command loses: each error is printed once, in this program's words, and
the exit code is the kind of error.
"""

import logging
import os
import signal
from collections.abc import Sequence
from uuid import uuid4

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import (
    ChildFailedError,
    ProcessFailure,
)
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from nordocr_cli.errors import (
    DataError,
    GateMissed,
    Interrupted,
    MissingBackendError,
    NordocrError,
    UsageError,
)
from nordocr_cli.progress import Progress
from nordocr_cli.training.launcher_env import LAUNCHED, RESTARTS

# Errors that a restarted process would end with again: they end the run.
_FINAL = {
    kind.exit_code: kind
    for kind in (UsageError, DataError, GateMissed, MissingBackendError, Interrupted)
}


def launch(
    command: Sequence[str], processes: int, restarts: int, progress: Progress
) -> None:
    """Run `command` in `processes` processes; if one dies, restart all of them up to `restarts`
    times. Raises the error that a process ended with, and NordocrError when the restarts are used
    up.
    """
    logging.disable(logging.ERROR)  # torch's own log of the errors that are reported here
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[LAUNCHED] = "1"
    for attempt in range(restarts + 1):
        os.environ[RESTARTS] = str(attempt)
        failures = _run_once(command, processes)
        if not failures:
            return

        for _, failure in failures:
            kind = _FINAL.get(failure.exitcode)
            if kind:
                raise kind(failure.message)

        died = _description(*failures[0])
        if attempt == restarts:
            raise NordocrError(
                f"{died}; see its output above. If the run was saved, continue it with: nordocr"
                " train --resume RUN"
            )
        progress.warn(
            f"{died}; restarting all processes from the last saved step"
            f" ({attempt + 1} of {restarts})"
        )


def _run_once(command: Sequence[str], processes: int) -> list[tuple[int, ProcessFailure]]:
    """Run the processes to their end; return the failed ones with their ranks, the first failure
    first. Raises Interrupted when a signal stopped them.
    """
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        elastic_launch(config, command[0])(*command[1:])
    except SignalException as stopped:
        # The signal was passed on: within half a minute the processes save, and the main one prints
        # how to resume.
        raise Interrupted(f"{stopped.sigval.name} stopped all processes") from None
    except ChildFailedError as error:
        return sorted(error.failures.items(), key=lambda item: item[1].timestamp)
    return []


def _description(rank: int, failure: ProcessFailure) -> str:
    if failure.exitcode < 0:
        return f"process {rank} was killed by {signal.Signals(-failure.exitcode).name}"
    return f"process {rank} ended with exit code {failure.exitcode}"
