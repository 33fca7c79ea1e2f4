"""promote: the best weights of a run replace the promoted weights (the champion) if every gate
holds and they are not worse.
"""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli import __version__, atomic
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.core.champion import ChampionComparison, Judged
from nordocr_cli.core.eval.result import EvalResult
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.core.leakage import leakage_of_run
from nordocr_cli.core.signature import read_key, sign
from nordocr_cli.errors import ArtifactError, DataError, GateMissed, UsageError
from nordocr_cli.metrics.gates import Gate, parse_gate, read_expectations
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.training.runlog import BEST, RUN_FILE, read_run

PROMOTED = Path("promoted")
PROMOTION_SCHEMA = "nordocr.promotion/2"


@dataclass(frozen=True)
class PromotionRequest:
    """Which weights to promote, and how to evaluate them. `stores` are the lines (default: the
    validation stores of the run). The new weights are compared with `champion`: weights, or a
    recorded result of the same lines; by default the weights at `output`, if there are any. `gates`
    are conditions that must hold, in addition to those of the file `expect`. They may be relative
    to the champion. `sign_key_env` names the environment variable with the key of the record's
    signature.
    """

    run: Path
    expect: Path | None = None
    output: Path | None = None
    stores: Sequence[Path] = ()
    champion: Path | None = None
    no_champion: bool = False
    gates: Sequence[str] = ()
    against: Path | None = None
    replace: bool = False
    allow_leakage: bool = False
    sign_key_env: str | None = None
    device: str = "auto"
    threads: int | None = None
    command: Sequence[str] = ()

    @property
    def target(self) -> Path:
        """The file that gets the weights."""
        return _target(self.run, self.output)


@dataclass(frozen=True)
class PromotionPlan:
    """A request that was checked."""

    request: PromotionRequest
    weights: Path
    stores: tuple[Path, ...]
    champion: Path | None
    gates: tuple[Gate, ...]
    key: bytes | None

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        target = self.request.target
        return {
            "weights": str(self.weights),
            "stores": [str(path) for path in self.stores],
            "champion": str(self.champion) if self.champion else None,
            "gates": [gate.text for gate in self.gates],
            "signed": self.key is not None,
            "writes": [str(target), str(_record(target))],
        }


@dataclass(frozen=True)
class Promotion:
    """The result of a promotion: the weights and their new path, their SHA-256, the gates, the
    evaluation on each store, and the comparisons with the champion.
    """

    run: Path
    weights: Path
    record: Path
    sha256: str
    gates: tuple[str, ...]
    results: tuple[EvalResult, ...]
    champion: tuple[ChampionComparison, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the promotion as plain JSON values."""
        return {
            "schema": PROMOTION_SCHEMA,
            "nordocr": __version__,
            "run": str(self.run),
            "weights": str(self.weights),
            "sha256": self.sha256,
            "gates": list(self.gates),
            "champion": [comparison.to_json() for comparison in self.champion],
            "results": [result.to_json() for result in self.results],
        }


def plan(request: PromotionRequest) -> PromotionPlan:
    """Check a request; nothing is evaluated. Raises UsageError for missing or existing files,
    ArtifactError for a damaged run.json, DataError for a validation store that has changed since
    training.
    """
    run = request.run
    target = request.target
    if not (run / RUN_FILE).is_file():
        raise UsageError(
            f"{run} holds no {RUN_FILE}; name the folder of a run (`nordocr runs` lists them)"
        )
    weights = find_weights(run)
    inputs = [run, *(path for path in (request.expect, request.champion) if path)]
    if target not in inputs:
        atomic.refuse_inputs(target, [path for path in inputs if path != target])
    gates = [parse_gate(text, required=True) for text in request.gates]
    if request.expect:
        gates = [*read_expectations(request.expect), *gates]

    holds_others = target.exists() and atomic.sha256_of(target) != atomic.sha256_of(weights)
    if holds_others and not request.replace:
        raise UsageError(
            f"{target} exists and holds other weights; give another -o, or --replace"
        )
    champion = _champion(request, holds_others)
    relative = [gate.text for gate in gates if gate.relative]
    if relative and champion is None:
        raise UsageError(
            f"gate {relative[0]!r} needs a champion, and {target} holds none: give --champion"
        )
    if not gates and champion is None:
        raise UsageError(
            "no condition to check: give --expect FILE.toml, --gate or --champion"
        )
    return PromotionPlan(
        request=request,
        weights=weights,
        stores=tuple(request.stores or _val_stores(run)),
        champion=champion,
        gates=tuple(gates),
        key=read_key(request.sign_key_env) if request.sign_key_env else None,
    )


def _champion(request: PromotionRequest, target_holds_others: bool) -> Path | None:
    if request.no_champion:
        if request.champion:
            raise UsageError("--champion and --no-champion contradict each other")
        return None
    if request.champion is None:
        if target_holds_others:
            return request.target
        return None
    if not request.champion.exists():
        raise UsageError(f"no champion {request.champion}")
    return request.champion


def run(plan: PromotionPlan, progress: Progress = SILENT) -> Promotion:
    """Read the stores with the new weights and with the champion. Copy the new weights when every
    gate holds on each store and they are worse than the champion on none. Raises GateMissed naming
    each missed gate with the value found, or when the stores hold lines on which the run was
    trained (with `allow_leakage`, a warning).
    """
    request = plan.request
    sha256 = atomic.sha256_of(plan.weights)
    _require_unseen_lines(plan, progress)
    results = tuple(
        _evaluate(str(plan.weights), store, plan, progress) for store in plan.stores
    )
    judged = _judge_champion(plan, results, progress)
    comparisons = tuple(each.compare() for each in judged)
    problems = _problems(plan, results, judged, comparisons)
    if problems:
        raise GateMissed(f"{request.run} is not promoted: " + "; ".join(problems))

    _copy_weights(plan.weights, request.target, sha256)
    promotion = Promotion(
        run=request.run,
        weights=request.target,
        record=_record(request.target),
        sha256=sha256,
        gates=tuple(gate.text for gate in plan.gates),
        results=results,
        champion=comparisons,
    )
    record = promotion.to_json() | {"training": read_run(request.run)}
    atomic.write_json(promotion.record, sign(record, plan.key) if plan.key else record)
    return promotion


def promote(run_folder: Path, *, progress: Progress = SILENT, **options: Any) -> Promotion:
    """Plan and run a promotion; `options` are the other fields of PromotionRequest. Raises what
    `plan` and `run` raise.
    """
    return run(plan(PromotionRequest(run_folder, **options)), progress)


def _require_unseen_lines(plan: PromotionPlan, progress: Progress) -> None:
    request = plan.request
    leakage = leakage_of_run(request.run, list(plan.stores), progress)
    if not leakage:
        return
    if not request.allow_leakage:
        raise GateMissed(
            f"{request.run} is not promoted: {leakage}. Evaluate it on other lines with --on"
            f" STORE, or give --allow-leakage"
        )
    progress.warn(leakage)


def _evaluate(
    model: str, store: Path, plan: PromotionPlan, progress: Progress, *, new: bool = True
) -> EvalResult:
    """Evaluate the new weights, or the champion, which has no champion of its own."""
    request = plan.request
    return evaluate(
        model,
        store,
        device=request.device,
        threads=request.threads,
        against=request.against if new else None,
        gates=[gate for gate in plan.gates if new and gate.kind != "letter"],
        allow_leakage=True,  # checked before for all stores
        command=request.command,
        progress=progress,
    )


def _judge_champion(
    plan: PromotionPlan, results: Sequence[EvalResult], progress: Progress
) -> list[Judged]:
    if plan.champion is None:
        return []
    progress.note(f"reading the same lines with the champion {plan.champion}")
    return [
        Judged(
            store, result, _evaluate(str(plan.champion), store, plan, progress, new=False)
        )
        for store, result in zip(plan.stores, results, strict=True)
    ]


def _problems(
    plan: PromotionPlan,
    results: Sequence[EvalResult],
    judged: Sequence[Judged],
    comparisons: Sequence[ChampionComparison],
) -> list[str]:
    """Return every missed gate on every store, then the stores where the champion is better."""
    # Without a champion only absolute gates remain.
    sides = judged or [
        Judged(store, result, result)
        for store, result in zip(plan.stores, results, strict=True)
    ]
    found = []
    for side in sides:
        missed = [side.missed(gate) for gate in plan.gates]
        found += [f"{problem} on {side.store}" for problem in missed if problem]
    worse = [each.problem() for each in comparisons]
    return found + [problem for problem in worse if problem]


def _copy_weights(weights: Path, target: Path, sha256: str) -> None:
    with atomic.replacing(target) as temporary:
        shutil.copyfile(weights, temporary)
        if atomic.sha256_of(temporary) != sha256:
            raise ArtifactError(
                f"{weights} changed during the evaluation; is the run still training? Promote it"
                f" when it is finished"
            )


def _target(run: Path, output: Path | None) -> Path:
    name = f"{Path(os.path.realpath(run)).name}.safetensors"
    if output is None:
        return PROMOTED / name
    if output.suffix == ".safetensors":
        return output
    return output / name


def _record(target: Path) -> Path:
    return target.with_suffix(".promotion.json")


def _val_stores(run: Path) -> list[Path]:
    """Return the validation stores of run.json after checking that their content has not
    changed.
    """
    from nordocr_cli.data.store import LineStore

    try:
        named = [
            (Path(store["path"]), store["content_sha256"]) for store in read_run(run)["val"]
        ]
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{run / RUN_FILE} is damaged: no validation stores ({error!r}); name the lines with"
            " --on STORE"
        ) from error
    for path, content in named:
        if not path.exists():
            raise UsageError(
                f"{path}, on which {run / BEST} was chosen, does not exist; name the lines with"
                f" --on"
                " STORE"
            )
        with LineStore(path) as store:
            if store.header.content_sha256 != content:
                raise DataError(
                    f"{path} has changed since {run} was trained; name the lines to evaluate with"
                    f" --on STORE"
                )
    return [path for path, _ in named]
