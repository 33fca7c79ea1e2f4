"""Run the stages of a recipe that are not done, and write the checklist."""

import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from nordocr_cli.atomic import OutputLock, make_folder, write_json, write_text
from nordocr_cli.core.recipe.plan import RECIPE_SCHEMA, PlannedStage, RecipePlan
from nordocr_cli.errors import DataError, Interrupted, NordocrError
from nordocr_cli.progress import SILENT, Progress

_INTERRUPTED = 130


@dataclass(frozen=True)
class StageResult:
    """How a stage ended. `exit_code` is None when it did not have to run."""

    name: str
    exit_code: int | None
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "name": self.name,
            "exit_code": self.exit_code,
            "seconds": round(self.seconds, 1),
        }


class StageFailed(NordocrError):
    """A stage ended with an error; the recipe ends with the exit code of that stage."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def run(
    plan: RecipePlan, progress: Progress = SILENT, *, stages_print_to_stderr: bool = False
) -> tuple[StageResult, ...]:
    """Run each stage that is not done, in order, and stop at the first that fails.

    With `stages_print_to_stderr` stdout stays free for the caller's own result. The state is saved
    after every stage, so that the same command continues after an interruption. Raises UsageError
    when the recipe runs already, also when one of its stages starts it again, StageFailed with the
    exit code of the stage that failed, Interrupted after Ctrl-C, and DataError when a
    stage did not create what it promises.
    """
    make_folder(plan.output)
    lock = OutputLock(plan.state_file)
    finished: dict[str, str] = {}
    results: list[StageResult] = []
    try:
        for number, planned in enumerate(plan.stages, start=1):
            heading = f"stage {number} of {len(plan.stages)}, {planned.stage.name}"
            if planned.decision == "done":
                progress.note(f"{heading}: already done")
                results.append(StageResult(planned.stage.name, None, 0.0))
            else:
                progress.note(f"{heading}: nordocr {' '.join(planned.command)}")
                results.append(_run_stage(planned, stages_print_to_stderr))
                _require_success(planned, results[-1])
            finished[planned.stage.name] = planned.fingerprint
            write_json(plan.state_file, {"schema": RECIPE_SCHEMA, "stages": finished})
    finally:
        lock.release()
        write_text(plan.report_file, checklist(plan, results))
    return tuple(results)


def _run_stage(planned: PlannedStage, prints_to_stderr: bool) -> StageResult:
    began = time.monotonic()
    command = [sys.executable, "-m", "nordocr_cli", *planned.command]
    process = subprocess.Popen(command, stdout=sys.stderr if prints_to_stderr else None)
    try:
        code = process.wait()
    except KeyboardInterrupt:
        # The stage got the same Ctrl-C; it saves its work and ends by itself.
        process.wait()
        code = _INTERRUPTED
    return StageResult(planned.stage.name, code, time.monotonic() - began)


def _require_success(planned: PlannedStage, result: StageResult) -> None:
    name = planned.stage.name
    if result.exit_code == _INTERRUPTED:
        raise Interrupted(
            f"interrupted in stage {name!r}; the same command continues from there"
        )
    if result.exit_code:
        raise StageFailed(
            f"stage {name!r} ended with exit code {result.exit_code}; fix what it reports and run"
            " the same command again",
            max(1, result.exit_code),
        )

    missing = [path for path in planned.creates if not path.exists()]
    if missing:
        raise DataError(
            f"stage {name!r} ended without writing {missing[0]}; correct `creates` or the command"
        )


def checklist(plan: RecipePlan, results: list[StageResult]) -> str:
    """Return the checklist as Markdown: each stage with its outcome, command and time."""
    ended = {result.name: result for result in results}
    lines = [f"# Checklist of {plan.recipe.name}", ""]
    for planned in plan.stages:
        result = ended.get(planned.stage.name)
        lines.append(_checklist_item(planned, result))
        lines.append(f"  `nordocr {' '.join(planned.command)}`")
        if planned.stage.check:
            lines.append(f"  Check: {planned.stage.check}")
    return "\n".join(lines) + "\n"


def _checklist_item(planned: PlannedStage, result: StageResult | None) -> str:
    name = planned.stage.name
    if result is None:
        return f"- [ ] {name}: not run yet"
    if result.exit_code is None:
        return f"- [x] {name}: done earlier"
    if result.exit_code:
        return f"- [ ] {name}: failed with exit code {result.exit_code}"
    return f"- [x] {name}: done in {result.seconds:.0f} s"
