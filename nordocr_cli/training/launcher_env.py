"""What a training process and its launcher (torchrun, or `nordocr train --gpus N`) tell each other
through the environment. No torch.
"""

import json
import os
import time
from pathlib import Path

from nordocr_cli.errors import Interrupted

# Set by training/launch.py for the processes that it starts: that it exists, and how often it has
# restarted them.
LAUNCHED = "NORDOCR_LAUNCHED"
RESTARTS = "NORDOCR_RESTARTS"


def restarts() -> int:
    """Return how often the processes were restarted after one of them had failed."""
    by_torchrun = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"))
    by_launch = int(os.environ.get(RESTARTS, "0"))
    return by_torchrun + by_launch


def is_main_process() -> bool:
    """Return whether this is the only process of a run, or the first one."""
    return os.environ.get("RANK", "0") == "0"


def report_to_launcher(error: Exception) -> bool:
    """Leave an error's message where the launcher of this process finds it. Returns whether this
    process should end without printing the error itself: the main process prints its errors unless
    `launch` prints for all, and it always prints an interruption, since `launch` has ended then.
    """
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if not path:
        return False
    message = {"message": str(error), "timestamp": int(time.time())}
    Path(path).write_text(json.dumps(message), encoding="utf-8")
    if not is_main_process():
        return True
    return LAUNCHED in os.environ and not isinstance(error, Interrupted)
