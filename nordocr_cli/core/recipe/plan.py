"""Read a recipe and decide which of its stages still have to run.

A recipe is a TOML file. Each stage is one `nordocr` command:

    output = "work"                      # folder of everything that the recipe writes

    [[stage]]
    name = "prepare"
    run = "prep lines/ -o {output}/train.lmdb -p svtrv2-nano --val-split 0.1"
    creates = ["{output}/train.lmdb", "{output}/train_val.lmdb"]

    [[stage]]
    name = "train"
    run = "train -p svtrv2-nano --train {output}/train.lmdb --run-dir {output}/run"
    resume = "train --resume {output}/run"      # used when an interrupted run is found
    creates = ["{output}/run/best.safetensors"]

Paths are relative to the current folder, as in the commands themselves.

A stage is done when it ended with exit code 0, what it creates is still there, and neither its
command nor an earlier stage has changed since.
"""

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.limits import read_json, read_toml

STATE_NAME = "recipe-state.json"
RECIPE_SCHEMA = "nordocr.recipe-state/1"
REPORT_NAME = "recipe-report.md"

StageDecision = Literal["run", "resume", "done"]


class RecipeStage(BaseModel):
    """One stage of a recipe, as the TOML file has it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=60)
    run: str = Field(min_length=1)
    resume: str = ""
    # Present only while the stage is unfinished, for example the state of a training run.
    resume_if: str = ""
    creates: tuple[str, ...] = ()
    # A checklist item for people, printed in the report.
    check: str = ""


class Recipe(BaseModel):
    """A recipe file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    output: Path
    stage: tuple[RecipeStage, ...] = Field(min_length=1)


@dataclass(frozen=True)
class PlannedStage:
    """A stage with its decision. `command` is what runs, without the program's name."""

    stage: RecipeStage
    decision: StageDecision
    command: tuple[str, ...]
    fingerprint: str
    creates: tuple[Path, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the stage as plain JSON values."""
        return {
            "name": self.stage.name,
            "decision": self.decision,
            "command": ["nordocr", *self.command],
            "creates": [str(path) for path in self.creates],
        }


@dataclass(frozen=True)
class RecipePlan:
    """Every stage of a recipe in order."""

    recipe: Path
    output: Path
    stages: tuple[PlannedStage, ...]

    @property
    def state_file(self) -> Path:
        """The JSON file that remembers which stages are done."""
        return self.output / STATE_NAME

    @property
    def report_file(self) -> Path:
        """The checklist, as Markdown."""
        return self.output / REPORT_NAME

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        return {
            "recipe": str(self.recipe),
            "output": str(self.output),
            "stages": [stage.to_json() for stage in self.stages],
        }


def plan(recipe_file: Path, *, restart_from: str = "") -> RecipePlan:
    """Read a recipe and decide for each stage: run, resume, or done.

    `restart_from` names a stage from which everything runs again. Raises UsageError for a missing
    file, an unknown key or stage, or a stage that is not a nordocr command; DataError for a damaged
    state file.
    """
    recipe = _read_recipe(recipe_file)
    output = recipe.output
    names = [stage.name for stage in recipe.stage]
    _require_names(recipe_file, names, restart_from)
    finished = _read_state(output / STATE_NAME)

    stages: list[PlannedStage] = []
    earlier = ""
    is_changed = False
    for stage in recipe.stage:
        is_changed = is_changed or stage.name == restart_from
        planned = _plan_stage(stage, output, earlier, finished, is_changed)
        is_changed = is_changed or planned.decision != "done"
        earlier = planned.fingerprint
        stages.append(planned)
    return RecipePlan(recipe_file, output, tuple(stages))


def _read_recipe(path: Path) -> Recipe:
    table = read_toml(path, "recipe")
    try:
        return Recipe.model_validate(table)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        raise UsageError(f"{path}: {key}: {problem['msg']}") from None


def _require_names(path: Path, names: Sequence[str], restart_from: str) -> None:
    repeated = {name for name in names if names.count(name) > 1}
    if repeated:
        raise UsageError(f"{path}: several stages are named {sorted(repeated)[0]!r}")
    if restart_from and restart_from not in names:
        raise UsageError(
            f"{path} has no stage {restart_from!r}; its stages are {', '.join(names)}"
        )


def _plan_stage(
    stage: RecipeStage,
    output: Path,
    earlier: str,
    finished: dict[str, str],
    is_changed: bool,
) -> PlannedStage:
    command = _command(stage, stage.run, output)
    content = "\0".join((earlier, *command))
    fingerprint = hashlib.sha256(content.encode("utf-8")).hexdigest()
    creates = tuple(Path(_filled(path, output)) for path in stage.creates)

    is_done = finished.get(stage.name) == fingerprint and all(
        path.exists() for path in creates
    )
    if is_done and not is_changed:
        return PlannedStage(stage, "done", command, fingerprint, creates)

    if stage.resume_if:
        marker = Path(_filled(stage.resume_if, output))
    else:
        marker = None
    if stage.resume and marker is not None and marker.exists() and not is_done:
        resumed = _command(stage, stage.resume, output)
        return PlannedStage(stage, "resume", resumed, fingerprint, creates)
    return PlannedStage(stage, "run", command, fingerprint, creates)


def _command(stage: RecipeStage, text: str, output: Path) -> tuple[str, ...]:
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UsageError(f"stage {stage.name!r}: {error} in {text!r}") from None

    if words and words[0] == "nordocr":
        words = words[1:]
    if not words or words[0].startswith("-"):
        raise UsageError(
            f"stage {stage.name!r}: {text!r} is not a nordocr command; write for example"
            ' run = "eval {output}/run {output}/val.lmdb"'
        )
    return tuple(_filled(word, output) for word in words)


def _filled(text: str, output: Path) -> str:
    return text.replace("{output}", str(output))


def _read_state(path: Path) -> dict[str, str]:
    """Fingerprints of the stages that are done, by name."""
    if not path.exists():
        return {}
    state = read_json(path, "state of a recipe")
    stages = state.get("stages") if isinstance(state, dict) else None
    if not isinstance(stages, dict) or state.get("schema") != RECIPE_SCHEMA:
        raise DataError(
            f"{path} is not the state of a recipe; delete it to run every stage again"
        )
    return {str(name): str(value) for name, value in stages.items()}
