"""The process of one step: `python -m nordocr_cli.core.gpu_proof.worker STEP FILE.json`, where the
file holds the scene and gets the result, or the reason of a failure.
"""

import json
import sys
from pathlib import Path

from nordocr_cli.atomic import write_json
from nordocr_cli.core.gpu_proof.steps import RUN, Scene, StepFailed


def main() -> None:
    """Run the step; a failure is written, and an unexpected one is raised too."""
    name, file = sys.argv[1], Path(sys.argv[2])
    given = json.loads(file.read_text(encoding="utf-8"))["scene"]
    scene = Scene(
        folder=Path(given["folder"]),
        work=Path(given["work"]),
        device=given["device"],
        tiny=given["tiny"],
        seconds=given["seconds"],
        known=given["known"],
    )
    try:
        result = RUN[name](scene)
    except StepFailed as error:
        write_json(file, {"reason": str(error)})
    except Exception as error:
        write_json(file, {"reason": f"{type(error).__name__}: {error}"})
        raise
    else:
        write_json(file, {"result": result})


if __name__ == "__main__":
    main()
