"""Running a fine-tuning: prepare, render, evaluate, train, evaluate again, calibrate, export.

Each stage leaves files in the run's folder and an entry in finetune.json, so that the same command,
or `--resume`, continues after an interruption.
"""

import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.artifact.sealing import read_sealed_json, write_sealed_json
from nordocr_cli.atomic import make_folder
from nordocr_cli.core.finetune.choices import SHARES, keeps_ordinary
from nordocr_cli.core.finetune.plan import (
    FinetunePlan,
    FinetuneRequest,
    charset_of,
)
from nordocr_cli.core.finetune.result import (
    HELD_OUT,
    FinetuneResult,
    SetResult,
    replacement_problem,
)
from nordocr_cli.errors import (
    ArtifactError,
    DataError,
    GateMissed,
    Interrupted,
    OldArtifactWarning,
    UsageError,
)
from nordocr_cli.profile import ResolvedProfile
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from nordocr_cli.core.eval.result import EvalResult

FINETUNE_FILE = "finetune.json"
_SCHEMA = 2
_RESTART = "start again in a new folder"
_GUARD_LINES = 300
_CHECK_LINES = 200  # held-out lines on which the exported files are compared
_GUARD_SEED = 990_001  # no training set is rendered with it
# Lines by which the share of the change is chosen: neither trained on nor judged by.
_ORDINARY_LINES, _ORDINARY_SEED = 300, 990_002
# Before training, labels that fit the images give a lower CER than this even on hard scans.
_MAX_CER_BEFORE = 0.8


class FinetuneRun:
    """The stages of one fine-tuning in its folder."""

    def __init__(
        self, plan: FinetunePlan, progress: Progress, stop: Callable[[], bool]
    ) -> None:
        self.plan, self.request = plan, plan.request
        self.progress, self.stop = progress, stop
        self.folder = plan.request.run_dir
        self.data = self.folder / "data"
        self.own = self.data / "own.lmdb"
        self.held_out = self.data / "own_val.lmdb"
        self.rendered = self.data / "rendered.lmdb"
        self.guard = self.data / "guard.lmdb"
        self.ordinary = self.data / "ordinary.lmdb"
        self.labelled = self.data / "labelled.lmdb"
        self.start = self.folder / "start.safetensors"
        self.done = _read_state(self.folder)

    def run(self) -> FinetuneResult:
        """Run every stage that is not done yet, and return the result."""
        finished = self._finished()
        if finished is not None:
            self.progress.note(f"{self.folder}: already finished")
            return finished
        make_folder(self.data)
        self._save_state()
        self._stage("prepare", self._prepare)
        self._stage("render", self._render)
        self._stage("start", self._make_start)
        self._stage("before", self._evaluate_before)
        self._stage("train", self._train)
        self._stage("ordinary", self._render_ordinary)
        self._stage("choose", self._choose_share)
        weights = self._weights_of(self.done["choose"]["share"])
        sets = tuple(
            self._compare(name, store, weights) for name, store in self._judged().items()
        )
        problem = replacement_problem(sets, self.request.certain_labels)
        temperature, files = (None, ()) if problem else self._finish(weights)
        trained = self.done["train"]
        result = FinetuneResult(
            run_dir=self.folder,
            sets=sets,
            steps=trained["steps"],
            minutes=trained["minutes"],
            temperature=temperature,
            files=files,
            problem=problem,
            share=self.done["choose"]["share"],
        )
        self.done["result"] = result.to_json()
        self._save_state()
        return result

    # stages
    # ----------------------------------------

    def _prepare(self) -> dict[str, Any]:
        """Prepare the line stores; the user's lines are split by document."""
        from nordocr_cli.core.prep.run import prep
        from nordocr_cli.data.split import Split

        charset_of(self.plan)
        profile, request = self.plan.profile, self.request
        if request.val:
            split = Split()
        else:
            split = Split(val_share=request.val_share, seed=request.seed)
        for store in (self.own, self.held_out):
            shutil.rmtree(store, ignore_errors=True)
        result = prep(
            request.data,
            self.own,
            profile,
            split=split,
            oov="skip",
            on_bad="skip",
            threads=request.threads,
            progress=self.progress,
        )
        for sources, store in (
            (request.val, self.held_out),
            (request.judged_by, self.labelled),
        ):
            if sources:
                shutil.rmtree(store, ignore_errors=True)
                prep(
                    sources,
                    store,
                    profile,
                    oov="skip",
                    on_bad="skip",
                    threads=request.threads,
                    progress=self.progress,
                )
        left_out = sum(result.left_out.values())
        if left_out:
            reasons = ", ".join(
                f"{count} {name}" for name, count in result.left_out.items()
            )
            self.progress.warn(f"{left_out} of {result.read} lines are left out: {reasons}")
        return {"read": result.read, "kept": result.kept, "left_out": dict(result.left_out)}

    def _render(self) -> dict[str, Any]:
        """Render lines for training, which prevent forgetting, and the guard set."""
        planned = {self.guard: (_GUARD_SEED, _GUARD_LINES)}
        if self.request.rendered_share:
            planned[self.rendered] = (self.request.seed, self.plan.rendered_lines)
        self._render_stores(planned)
        return {"guard": _GUARD_LINES, "rendered": self.plan.rendered_lines}

    def _render_ordinary(self) -> dict[str, Any]:
        """Render lines by which the share of the change is chosen."""
        self._render_stores({self.ordinary: (_ORDINARY_SEED, _ORDINARY_LINES)})
        return {"lines": _ORDINARY_LINES}

    def _render_stores(self, planned: Mapping[Path, tuple[int, int]]) -> None:
        """Render stores, each from its seed with its number of lines."""
        from nordocr_cli.core.synth.run import RESAMPLERS, prepare_job, synthesize

        charset, geometry = charset_of(self.plan), self.plan.profile.geometry
        job, _ = prepare_job(
            geometry,
            charset,
            seed=self.request.seed,
            fonts=Path(self.request.fonts) if self.request.fonts else None,
            resamplers=RESAMPLERS,
            progress=self.progress,
        )
        for store, (seed, count) in planned.items():
            shutil.rmtree(store, ignore_errors=True)
            synthesize(store, replace(job, seed=seed), count, progress=self.progress)

    def _make_start(self) -> dict[str, Any]:
        """Write the weights to start from, with the head moved to the charset where it differs."""
        from nordocr_cli.core.move_head import move_charset, plan_charset_move

        self.start.unlink(missing_ok=True)
        if self.plan.choice.charset.characters == self.plan.contract.charset.characters:
            shutil.copyfile(self.plan.weights, self.start)
            return {"head": "unchanged"}
        named = self.plan.choice.name or str(self.folder / "charset.txt")
        move = plan_charset_move(self.plan.weights, named, self.start)
        move_charset(move)
        self.progress.note(move.report.line())
        return {"head": "moved", "new": self.plan.choice.new}

    def _evaluate_before(self) -> dict[str, Any]:
        """Read the held-out lines and the guard set with the recognizer as it is."""
        found = {
            name: self._read(self.start, store, self._file("before", name))
            for name, store in self._judged().items()
        }
        held_out = found[HELD_OUT]
        cer = held_out.report.total.rates["cer"]
        if cer is not None and cer > _MAX_CER_BEFORE and not self.request.trust_labels:
            raise DataError(
                f"before training the recognizer reads the held-out lines with a CER of {cer:.0%}:"
                " the labels do not fit the images, or are in another script. Look at them with"
                f" `nordocr data view {self.held_out} -o sheet.png`; --trust-labels trains anyway"
            )
        return {"cer": cer}

    def _train(self) -> dict[str, Any]:
        from nordocr_cli.core.train.request import TrainRequest
        from nordocr_cli.core.train.run import train
        from nordocr_cli.training.runlog import STATE_FILE as TRAIN_STATE

        folder, request = self.folder / "train", self.request
        if (folder / TRAIN_STATE).is_file():
            resumed = TrainRequest(
                resume=folder, device=request.device, threads=request.threads
            )
            result = train(None, resumed, progress=self.progress, stop=self.stop)
        else:
            shutil.rmtree(folder, ignore_errors=True)  # a run that saved nothing yet
            fresh = TrainRequest(
                train=self._mixture(),
                val=(self.held_out,),
                run_dir=folder,
                load=self.start,
                max_steps=self.plan.steps,
                max_minutes=request.minutes,
                device=request.device,
                threads=request.threads,
            )
            resolved = ResolvedProfile(self.plan.profile, {}, folder)
            result = train(resolved, fresh, progress=self.progress, stop=self.stop)
        return {"steps": result.steps, "minutes": result.minutes}

    def _choose_share(self) -> dict[str, Any]:
        """Choose how far the weights go from the start to the trained ones: as far as ordinary
        lines are read as before.

        Neither the held-out lines nor the guard set decide, so that both judge the result.
        """
        before = self._ordinary_cer(0.0)
        tried = []
        for share in SHARES:
            cer = self._ordinary_cer(share)
            tried.append({"share": share, "ordinary_cer": cer})
            if keeps_ordinary(before, cer) or share == SHARES[-1]:
                break
        kept = SHARES[len(tried) - 1]
        if not keeps_ordinary(before, cer):
            self.progress.warn(
                f"even with {kept:.0%} of the change, ordinary lines are read worse than before;"
                " raise --rendered, or lower --lr"
            )
        elif kept < 1:
            self.progress.note(
                f"{kept:.0%} of the change is kept, with which ordinary lines are read as before"
            )
        return {"share": kept, "ordinary_cer_before": before, "tried": tried}

    def _ordinary_cer(self, share: float) -> float | None:
        weights = self._weights_of(share)
        result = self._read(
            weights, self.ordinary, self._file(f"share-{share:g}", "ordinary")
        )
        return result.report.total.rates["cer"]

    def _weights_of(self, share: float) -> Path:
        """Return the weights with a share of the change, made where they do not exist yet."""
        from nordocr_cli.training.blending import blend_weights

        trained = self.folder / "train" / "last.safetensors"
        if share == 1:
            return trained
        if share == 0:
            return self.start
        blended = self.folder / "train" / f"share-{share:g}.safetensors"
        if not blended.is_file():
            blend_weights(self.start, trained, share, blended)
        return blended

    def _mixture(self) -> tuple[Path, ...]:
        """Name the stores to train on with their ratios."""
        share = self.request.rendered_share
        if not share:
            return (self.own,)
        return (
            self.own.with_name(f"{self.own.name}={1 - share:g}"),
            self.rendered.with_name(f"{self.rendered.name}={share:g}"),
        )

    def _compare(self, name: str, store: Path, weights: Path) -> SetResult:
        """Read a set with the trained weights, and compare line by line with the readings from
        before.
        """
        before = self._file("before", name)
        after = self._read(weights, store, self._file("after", name), against=before)
        assert after.against is not None
        comparison = after.against.comparison
        lines = max(1, comparison.lines)
        both = comparison.both_exact
        return SetResult(
            name=name,
            lines=comparison.lines,
            cer_before=comparison.cer_a,
            cer_after=comparison.cer_b,
            exact_before=(both + comparison.only_a_exact) / lines,
            exact_after=(both + comparison.only_b_exact) / lines,
            verdict=comparison.verdict,
        )

    def _finish(self, weights: Path) -> tuple[float | None, tuple[Path, ...]]:
        """Calibrate the confidence and export; the final names appear only here."""
        from nordocr_cli.core.calibrate import calibrate_model, plan_calibration
        from nordocr_cli.core.export.plan import ExportOptions, plan_export
        from nordocr_cli.core.export.run import export

        final = self.folder / "model.safetensors"
        for old in (final, self.folder / "model.onnx", self.folder / "model.int8.onnx"):
            old.unlink(missing_ok=True)
        temperature = None
        try:
            calibrated = calibrate_model(
                plan_calibration(weights, self.held_out, final),
                device=self.request.device,
                threads=self.request.threads,
                progress=self.progress,
            )
            temperature = calibrated.temperature
        except DataError as error:
            self.progress.warn(f"the confidences are not calibrated: {error}")
            shutil.copyfile(weights, final)
        options = ExportOptions(
            precision="fp32",
            int8=True,
            calibration=self.own,
            check_store=self.held_out,
            check_lines=_CHECK_LINES,
            threads=self.request.threads,
        )
        onnx = self.folder / "model.onnx"
        try:
            exported = export(plan_export(final, onnx, options), self.progress)
        except GateMissed as error:
            self.progress.warn(f"no int8 model: {error}")
            options = replace(options, int8=False, calibration=None)
            exported = export(plan_export(final, onnx, options), self.progress)
        return temperature, (final, *(one.file.path for one in exported.files))

    def _finished(self) -> FinetuneResult | None:
        """Return the result of an ended run; None before the end, or if a file is missing."""
        saved = self.done.pop("result", None)
        if saved is None:
            return None
        result = FinetuneResult.from_json(saved)
        if all(file.is_file() for file in result.files):
            self.done["result"] = saved
            return result
        return None

    # helpers
    # ----------------------------------------

    def _judged(self) -> dict[str, Path]:
        """Return the evaluation sets by name."""
        sets = {HELD_OUT: self.held_out, "guard": self.guard}
        if self.request.judged_by:
            sets["labelled"] = self.labelled
        return sets

    def _stage(self, name: str, work: Callable[[], dict[str, Any]]) -> None:
        if name in self.done:
            self.progress.note(f"{name}: already done")
            return
        if self.stop():
            raise Interrupted(
                f"interrupted before the stage {name}. Resume with: nordocr finetune --resume"
                f" {self.folder}"
            )
        try:
            self.done[name] = work()
        except Interrupted:
            raise Interrupted(
                f"interrupted in the stage {name}; what is done is saved. Resume with: nordocr"
                f" finetune --resume {self.folder}"
            ) from None
        self._save_state()

    def _save_state(self) -> None:
        request = asdict(self.request) | {"run_dir": str(self.folder)}
        write_sealed_json(
            self.folder / FINETUNE_FILE,
            {"schema": _SCHEMA, "request": request, "done": self.done},
        )

    def _file(self, when: str, name: str) -> Path:
        return self.folder / "eval" / f"{when}-{name}.json"

    def _read(
        self, weights: Path, store: Path, output: Path, against: Path | None = None
    ) -> "EvalResult":
        from nordocr_cli.core.eval.run import evaluate

        make_folder(output.parent)
        return evaluate(
            str(weights),
            store,
            device=self.request.device,
            threads=self.request.threads,
            output=output,
            against=against,
            # Short texts are in the guard set and among the rendered lines; documents are apart.
            allow_leakage=store in (self.guard, self.ordinary),
            progress=self.progress,
        )


def run_finetune(
    plan: FinetunePlan,
    *,
    progress: Progress = SILENT,
    stop: Callable[[], bool] = lambda: False,
) -> FinetuneResult:
    """Run a fine-tuning, or continue it where its folder holds one of the same request.

    Raises UsageError for a folder that holds something else, DataError for labels that do not fit
    the images, and Interrupted when `stop` returns true; then the same call continues.
    """
    from nordocr_cli.training.malloc import limit_primitive_cache

    limit_primitive_cache()  # before the first evaluation opens torch
    folder = plan.request.run_dir
    if folder.is_dir() and any(folder.iterdir()) and not (folder / FINETUNE_FILE).is_file():
        raise UsageError(
            f"-o {folder} is not empty and holds no {FINETUNE_FILE}; name a new folder"
        )
    return FinetuneRun(plan, progress, stop).run()


def resumed_request(folder: Path) -> FinetuneRequest:
    """Return the request of the fine-tuning in `folder`. Raises UsageError when there is none, and
    ArtifactError when finetune.json is damaged.
    """
    file = folder / FINETUNE_FILE
    if not file.is_file():
        raise UsageError(
            f"--resume {folder}: no {FINETUNE_FILE} there; start with: nordocr finetune DATA -o RUN"
        )
    saved = _saved(file, "request")
    try:
        for name in ("data", "val", "judged_by"):
            saved[name] = tuple(saved[name])
        return replace(FinetuneRequest(**saved), run_dir=folder)
    except (KeyError, TypeError) as error:
        raise ArtifactError(f"{file} is damaged ({error}); {_RESTART}") from error


def _read_state(folder: Path) -> dict[str, Any]:
    file = folder / FINETUNE_FILE
    if not file.is_file():
        return {}
    return _saved(file, "done")


def _saved(file: Path, key: str) -> dict[str, Any]:
    """Return one of the tables of finetune.json, whose digest is checked."""
    try:
        # The first schema had no digest.
        with warnings.catch_warnings(action="ignore", category=OldArtifactWarning):
            value = read_sealed_json(file, "state of a fine-tuning", _SCHEMA)
    except ArtifactError as error:
        raise ArtifactError(f"{error}; {_RESTART}") from error
    saved = value.get(key)
    if not isinstance(saved, dict):
        raise ArtifactError(f"{file} is damaged (no table {key!r}); {_RESTART}")
    return saved
