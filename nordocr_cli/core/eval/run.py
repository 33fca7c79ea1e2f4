"""eval: score a recognizer, or a recorded result, on the lines of a store."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.charset import Charset
from nordocr_cli.core.eval.against import compare_decoders, compare_with
from nordocr_cli.core.eval.files import write_eval_result, write_page
from nordocr_cli.core.eval.fit import require_line_fit
from nordocr_cli.core.eval.lines import (
    check_batch_invariance,
    choose_subset_key,
    expected_line,
    identity,
    known_charset,
    left_out_lines,
    left_out_rows,
    match_recorded,
    open_lines,
    recognize_store,
    recorded_alone,
    require_key,
    store_identity,
)
from nordocr_cli.core.eval.plan import EvalPlan, EvalRequest, plan
from nordocr_cli.core.eval.result import BatchCheck, EvalResult
from nordocr_cli.errors import DataError
from nordocr_cli.metrics.calibration import calibrate
from nordocr_cli.metrics.characters import score_characters
from nordocr_cli.metrics.gates import require_countable
from nordocr_cli.metrics.report import report_of
from nordocr_cli.metrics.score import score_lines
from nordocr_cli.metrics.tokens import find_tokenizer, token_report
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineResult, LineRow
from nordocr_cli.runtime.specs import resolved_decoder

if TYPE_CHECKING:
    from nordocr_cli.data.manifest_lines import ManifestLines
    from nordocr_cli.data.store import LineStore
    from nordocr_cli.runtime.protocols import Recognizer


@dataclass(frozen=True)
class Hypotheses:
    """The lines with their hypotheses, before scoring: by decoder, "" the first one."""

    results: dict[str, list[LineResult]]
    model: dict[str, Any]
    subset_key: str
    charset: Charset | None = None
    store: dict[str, Any] | None = None
    matching: dict[str, int] | None = None
    batches: BatchCheck | None = None


def run(plan: EvalPlan, progress: Progress = SILENT) -> EvalResult:
    """Read the lines of the plan, score them, and write its files. Gates are not judged here; one
    that names what these lines do not have is refused before they are read.

    Raises UsageError for such a gate, ArtifactError when the network does not fit the store,
    DataError for damaged input.
    """
    request = plan.request
    if request.store is None:
        results, model, subset_key = recorded_alone(request.model, request.subset_key)
        _require_gates(request, results[""])
        found = Hypotheses(results, model, subset_key)
    else:
        found = _read_store(plan, request.store, progress)

    result = _score(found, request, progress)
    if request.output:
        result = write_eval_result(result, request.output)
    if request.page:
        result = write_page(result, request.store, request.page, request.crops)
    if request.overlay and request.store:
        from nordocr_cli.core.eval.overlay import write_overlays

        result = write_overlays(result, request.store, request.overlay)
    return result


def evaluate(
    model: str, store: Path | None = None, *, progress: Progress = SILENT, **options: Any
) -> EvalResult:
    """Plan and run an evaluation; `options` are the fields of EvalRequest. Raises what `plan` and
    `run` raise.
    """
    return run(plan(EvalRequest(model, store, **options)), progress)


def _require_gates(request: EvalRequest, lines: Sequence[LineResult]) -> None:
    require_countable(request.gates, lines, compared=request.against is not None)


def _read_store(plan: EvalPlan, store: Path, progress: Progress) -> Hypotheses:
    from nordocr_cli.runtime.recognizers import contract_of

    request = plan.request
    contract = None
    model = request.model
    recognizer = request.recognizer
    if recognizer is None and plan.kind != "recorded":
        recognizer = _open(request, model, request.decoders[0])
        contract = contract_of(recognizer)
    if contract is not None:
        model = str(find_weights(Path(model)))

    with open_lines(store, contract, request.resampler) as lines:
        rows = [lines.row(i) for i in range(len(lines))]
        if not rows:
            raise DataError(f"{store} holds no lines")
        subset_key = _subset_key(request, rows, store)
        expected = [expected_line(row, lines, i, subset_key) for i, row in enumerate(rows)]
        _require_gates(request, expected)
        _warn_of_leakage(plan, store, progress)

        if plan.kind == "recorded":
            # A recording may have hypotheses for lines that this store could not hold.
            rows += left_out_rows(lines)
            left_out = left_out_lines(lines, subset_key)
            expected += [replace(line, not_in_store=None) for line in left_out]
            results, about, matching = match_recorded(model, rows, expected, progress)
            charset = known_charset(lines)
            return Hypotheses(
                results,
                about,
                subset_key,
                charset,
                store_identity(lines),
                matching=matching,
            )

        if contract is not None:
            require_line_fit(lines, contract, model, progress)
        assert recognizer is not None
        found = _recognize(plan, model, contract, recognizer, lines, expected, progress)
        found = _with_left_out(found, lines, subset_key, progress)
        charset = contract.charset if contract else known_charset(lines)
        return replace(
            found, subset_key=subset_key, charset=charset, store=store_identity(lines)
        )


def _warn_of_leakage(plan: EvalPlan, store: Path, progress: Progress) -> None:
    """Warn when the run that the weights belong to has trained on lines of the store."""
    from nordocr_cli.core.leakage import leakage_of_run, run_of
    from nordocr_cli.data.lmdb_source import is_line_store

    run = run_of(Path(plan.request.model)) if plan.kind == "model" else None
    if run is None or plan.request.allow_leakage or not is_line_store(store):
        return
    found = leakage_of_run(run, [store], progress)
    if found:
        progress.warn(
            f"{found}: the result tells nothing about new lines (--allow-leakage)"
        )


def _with_left_out(
    found: Hypotheses,
    lines: "LineStore | ManifestLines",
    subset_key: str,
    progress: Progress,
) -> Hypotheses:
    """Add the lines that the store could not hold, as read empty: without them a geometry that
    loses lines would look better than one that holds them.
    """
    left_out = left_out_lines(lines, subset_key)
    if not left_out:
        return found
    progress.warn(
        f"{lines.path}: {len(left_out)} lines did not fit the store's geometry or charset; they"
        f" count as read empty, e.g. {left_out[0].id!r}"
    )
    results = {name: [*lines_of, *left_out] for name, lines_of in found.results.items()}
    return replace(found, results=results)


def _subset_key(request: EvalRequest, rows: Sequence[LineRow], store: Path) -> str:
    if not request.subset_key:
        return choose_subset_key(rows)
    require_key(request.subset_key, (row.to_json() for row in rows), store)
    return request.subset_key


def _recognize(
    plan: EvalPlan,
    model: str,
    contract: Contract | None,
    recognizer: "Recognizer",
    lines: "LineStore | ManifestLines",
    expected: Sequence[LineResult],
    progress: Progress,
) -> Hypotheses:
    """Read the lines with each decoder; `recognizer` has the first one, and is that of the batch
    check.
    """
    request = plan.request
    first, *others = request.decoders
    results = {
        "": recognize_store(
            recognizer, lines, expected, contract, request.batch_size, progress
        )
    }
    about = identity(model, plan.kind, recognizer, contract) | {
        "decoder": resolved_decoder(first, contract)
    }
    batches = None
    if request.check_batches:
        batches = check_batch_invariance(recognizer, lines, expected, progress)

    for decoder in others:
        recognizer = request.recognizer or _open(request, model, decoder)
        results[decoder] = recognize_store(
            recognizer, lines, expected, contract, request.batch_size, progress
        )
    return Hypotheses(results, about, subset_key="", batches=batches)


def _open(request: EvalRequest, model: str, decoder: str) -> "Recognizer":
    from nordocr_cli.runtime.recognizers import open_recognizer

    return open_recognizer(
        model, device=request.device, threads=request.threads, decoder=decoder
    )


def _score(found: Hypotheses, request: EvalRequest, progress: Progress) -> EvalResult:
    scored = {
        decoder: tuple(score_lines(results, found.charset))
        for decoder, results in found.results.items()
    }
    scores = scored.pop("")
    ablations = [compare_decoders(name, scores, others) for name, others in scored.items()]
    if request.against:
        against = compare_with(request.against, scores, progress)
    else:
        against = None
    if request.metric_tokenizer:
        tokens = token_report(find_tokenizer(request.metric_tokenizer), scores)
    else:
        tokens = None
    return EvalResult(
        report=report_of(scores),
        scores=scores,
        model=found.model,
        store=found.store,
        subset_key=found.subset_key,
        characters=score_characters(
            [(score.reference, score.hypothesis) for score in scores]
        ),
        matching=found.matching,
        against=against,
        ablations=tuple(ablations),
        readings={
            name: tuple(score.result.hypothesis for score in others)
            for name, others in scored.items()
        },
        batches=found.batches,
        tokens=tokens,
        calibration=calibrate((score.result.confidence, score.exact) for score in scores),
        command=tuple(request.command),
    )
