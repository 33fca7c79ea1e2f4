"""Several processes of one command, one a GPU of this machine, watched until they end: what
torchrun does, with one error told once, in this program's words and exit codes.
"""

import logging
import os
import signal
from collections.abc import Sequence
from uuid import uuid4

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
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
from nordocr_cli.training.distributed import LAUNCHED, RESTARTS

# Ended so, a process would end so again: it is not started anew.
_FINAL = {
    kind.exit_code: kind
    for kind in (UsageError, DataError, GateMissed, MissingBackendError, Interrupted)
}


def launch(command: Sequence[str], processes: int, restarts: int, progress: Progress) -> None:
    """Run `command` in so many processes, and up to `restarts` times anew after one of them died.
    Raises the error that one of them ended with, and NordocrError when one died for good.
    """
    logging.disable(logging.ERROR)  # torch's log of what is told here
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ[LAUNCHED] = "1"
    for attempt in range(restarts + 1):
        os.environ[RESTARTS] = str(attempt)
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
            return
        except SignalException as stopped:
            # It was passed on: within half a minute the processes save, and the first one tells how
            # to go on.
            raise Interrupted(f"all processes are stopped by {stopped.sigval.name}") from None
        except ChildFailedError as error:
            told = sorted(error.failures.items(), key=lambda one: one[1].timestamp)
        for _, failure in told:
            if kind := _FINAL.get(failure.exitcode):
                raise kind(failure.message)
        died = _told(*told[0])
        if attempt == restarts:
            raise NordocrError(
                f"{died}; look at what it wrote above. A run that saved goes on with: nordocr train"
                " --resume RUN"
            )
        progress.warn(
            f"{died}; all are started again from the last saved step ({attempt + 1} of {restarts})"
        )


def _told(rank: int, failure: ProcessFailure) -> str:
    if failure.exitcode < 0:
        return f"process {rank} was killed by {signal.Signals(-failure.exitcode).name}"
    return f"process {rank} ended with exit code {failure.exitcode}"
