"""The process of one step: `python -m nordocr_cli.core.gpu_proof.worker STEP FILE.json`, where the
file holds the scene and gets the result, or the reason of a failure.
"""

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from nordocr_cli.atomic import write_json
from nordocr_cli.core.gpu_proof.scene import Scene, StepFailed, StepSkipped
from nordocr_cli.core.gpu_proof.steps import RUN


def main() -> None:
    """Run the step; a failure is written, and an unexpected one is raised too."""
    _end_with_parent()
    name = sys.argv[1]
    file = Path(sys.argv[2])
    given = json.loads(file.read_text(encoding="utf-8"))["scene"]
    scene = Scene(
        folder=Path(given["folder"]),
        work=Path(given["work"]),
        device=given["device"],
        tiny=given["tiny"],
        seconds=given["seconds"],
        known=given["known"],
        at_once=given["at_once"],
        file=file,
    )
    try:
        result = RUN[name](scene)
    except StepSkipped as skipped:
        write_json(file, {"skipped": str(skipped)})
    except StepFailed as error:
        _write_failure(file, str(error))
    except Exception as error:
        _write_failure(file, f"{type(error).__name__}: {error}")
        raise
    else:
        write_json(file, {"result": result})


def _write_failure(file: Path, reason: str) -> None:
    """Write the reason next to what the step had found."""
    written = json.loads(file.read_text(encoding="utf-8"))
    kept = {key: value for key, value in written.items() if key == "partial"}
    write_json(file, {**kept, "reason": reason})


def _end_with_parent() -> None:
    """End this step and its commands when the proof is killed, so that none stays on the GPU."""
    if os.name != "posix" or os.getpgrp() != os.getpid():
        return
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main()
