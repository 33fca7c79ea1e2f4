"""promote: the best weights of a run get a place of their own, when they are as good as was asked
for.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli import __version__, atomic
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.core.eval.result import EvalResult
from nordocr_cli.core.eval.run import evaluate
from nordocr_cli.core.leakage import leakage_of_run
from nordocr_cli.errors import ArtifactError, DataError, GateMissed, UsageError
from nordocr_cli.metrics.gates import Gate, read_expectations
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.training.runlog import BEST, RUN, read_run

PROMOTED = Path("promoted")


@dataclass(frozen=True)
class Promotion:
    """What was promoted: the weights and where they are now, their SHA-256, and what they were
    judged by: the gates, and the evaluation on each store.
    """

    run: Path
    weights: Path
    record: Path
    sha256: str
    gates: tuple[str, ...]
    results: tuple[EvalResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the promotion as plain JSON values."""
        return {
            "nordocr": __version__,
            "run": str(self.run),
            "weights": str(self.weights),
            "sha256": self.sha256,
            "gates": list(self.gates),
            "results": [result.to_json() for result in self.results],
        }


def plan_promotion(
    run: Path,
    expect: Path,
    output: Path | None = None,
    stores: Sequence[Path] = (),
    *,
    replace: bool = False,
) -> dict[str, Any]:
    """Return what `promote` would do; nothing is evaluated. Raises UsageError for what is missing
    or in the way, ArtifactError for a damaged run.json, DataError for a validation store that has
    changed since.
    """
    if not (run / RUN).is_file():
        raise UsageError(
            f"{run} holds no {RUN}; name the folder of a run (`nordocr runs` lists them)"
        )
    weights = find_weights(run)
    target = _target(run, output)
    atomic.refuse_inputs(target, [run, expect])
    gates = read_expectations(expect)
    if target.exists() and not replace and atomic.sha256_of(target) != atomic.sha256_of(weights):
        raise UsageError(
            f"{target} is there and holds other weights; name another -o, or give --replace"
        )
    return {
        "weights": str(weights),
        "stores": [str(path) for path in stores or _val_stores(run)],
        "gates": [gate.text for gate in gates],
        "writes": [str(target), str(_record(target))],
    }


def promote(
    run: Path,
    expect: Path,
    output: Path | None = None,
    stores: Sequence[Path] = (),
    *,
    against: Path | None = None,
    replace: bool = False,
    allow_leakage: bool = False,
    device: str = "auto",
    threads: int | None = None,
    command: Sequence[str] = (),
    progress: Progress = SILENT,
) -> Promotion:
    """Read `stores` (default: the validation stores of the run) with the best weights of `run`, and
    copy them to `output` when every gate of `expect` holds on each store: a file, a folder, or by
    default promoted/RUN.safetensors, and a record beside it.

    Raises GateMissed naming each gate that was missed and what was found, or when the stores hold
    lines that the run has trained on (unless `allow_leakage`, which warns of them), and what
    `plan_promotion` raises.
    """
    plan = plan_promotion(run, expect, output, stores, replace=replace)
    weights, target, gates = Path(plan["weights"]), _target(run, output), read_expectations(expect)
    sha256 = atomic.sha256_of(weights)
    leakage = leakage_of_run(run, [Path(path) for path in plan["stores"]], progress)
    if leakage and not allow_leakage:
        raise GateMissed(
            f"{run} is not promoted: {leakage}. Judge it by other lines with --on STORE, or give"
            " --allow-leakage"
        )
    if leakage:
        progress.warn(leakage)
    results = tuple(
        evaluate(
            str(weights),
            Path(path),
            device=device,
            threads=threads,
            against=against,
            gates=gates,
            command=command,
            progress=progress,
        )
        for path in plan["stores"]
    )
    if missed := [
        problem
        for path, result in zip(plan["stores"], results, strict=True)
        for problem in _missed(gates, path, result)
    ]:
        raise GateMissed(f"{run} is not promoted: " + "; ".join(missed))
    with atomic.replacing(target) as temporary:
        shutil.copyfile(weights, temporary)
        if atomic.sha256_of(temporary) != sha256:
            raise ArtifactError(
                f"{weights} changed while it was judged; is the run going on? Promote it when it is"
                " finished"
            )
    promotion = Promotion(
        run, target, _record(target), sha256, tuple(gate.text for gate in gates), results
    )
    atomic.write_json(promotion.record, promotion.to_json() | {"training": read_run(run)})
    return promotion


def _missed(gates: Sequence[Gate], store: str, result: EvalResult) -> list[str]:
    comparison = result.against.comparison if result.against else None
    return [
        f"{problem} on {store}"
        for gate in gates
        if (problem := gate.missed(result.report, comparison))
    ]


def _target(run: Path, output: Path | None) -> Path:
    name = f"{run.resolve().name}.safetensors"
    if output is None:
        return PROMOTED / name
    return output if output.suffix == ".safetensors" else output / name


def _record(target: Path) -> Path:
    return target.with_suffix(".promotion.json")


def _val_stores(run: Path) -> list[Path]:
    """The validation stores that run.json names, as long as they hold what they held then."""
    from nordocr_cli.data.store import LineStore

    try:
        named = [(Path(store["path"]), store["content_sha256"]) for store in read_run(run)["val"]]
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"{run / RUN} is damaged: no validation stores ({error!r}); name the lines with --on"
            " STORE"
        ) from error
    for path, content in named:
        if not path.exists():
            raise UsageError(
                f"{path}, on which {run / BEST} was chosen, is not there; name the lines with --on"
                " STORE"
            )
        with LineStore(path) as store:
            if store.header.content_sha256 != content:
                raise DataError(
                    f"{path} is not what it was when {run} was trained; name the lines to judge by"
                    " with --on STORE"
                )
    return [path for path, _ in named]
