"""Running an adaptation: find lines, read them with every engine, take labels from agreement,
fine-tune on them, and judge.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rapidfuzz.distance import Levenshtein

from nordocr_cli.atomic import make_folder, write_bytes, write_json, write_text
from nordocr_cli.compare.agreement import agreement
from nordocr_cli.core.adapt.agreement import LabelChoice, LineReadings, choose_labels
from nordocr_cli.core.adapt.engines import OWN, VLM, VlmRecognizer, open_labelling_engine
from nordocr_cli.core.adapt.lines import (
    LINES_FILE,
    FoundLine,
    read_found_lines,
    write_lines,
)
from nordocr_cli.core.adapt.plan import AdaptPlan
from nordocr_cli.core.adapt.questions import read_answers, write_questions
from nordocr_cli.core.adapt.result import AdaptResult
from nordocr_cli.core.finetune.plan import MIN_LINES, FinetuneRequest, plan_finetune
from nordocr_cli.core.finetune.result import FinetuneResult
from nordocr_cli.core.finetune.run import run_finetune
from nordocr_cli.errors import ArtifactError, DataError, Interrupted, UsageError
from nordocr_cli.limits import read_json, read_json_lines
from nordocr_cli.metrics.text import canonical
from nordocr_cli.progress import SILENT, Progress

if TYPE_CHECKING:
    from nordocr_cli.records import Recognition
    from nordocr_cli.runtime.protocols import Recognizer

LABELS = "labels.jsonl"
ASK = "ask.tsv"
ADAPT_FILE = "adapt.json"
REQUEST = "request.json"
# Agreement is a weak judge, so that fewer of the labels are held out than in a fine-tuning.
_VAL_SHARE = 0.1
_READ_AGAIN = "delete it and run the same command again, which reads these lines again"
_AT_ONCE = 64  # lines that an engine gets in one call


def run_adapt(
    plan: AdaptPlan,
    *,
    progress: Progress = SILENT,
    stop: Callable[[], bool] = lambda: False,
) -> AdaptResult:
    """Adapt a recognizer to scans without labels. The same call continues after an interruption.

    Raises DataError when no text is found or the engines agree on too few lines, and Interrupted
    when `stop` returns true.
    """
    from nordocr_cli.training.malloc import limit_primitive_cache

    limit_primitive_cache()  # before the first reading opens torch
    request = plan.request
    folder = plan.request.run_dir
    _claim_folder(plan)
    lines = _find_lines(plan, progress)
    _require_lines(lines)
    model = plan.weights
    finetuned: FinetuneResult | None = None
    choice: LabelChoice | None = None
    readings: list[LineReadings] = []
    estimates: list[float | None] = []
    for number in range(1, request.rounds + 1):
        _require_running(stop, folder)
        readings = _read_all(plan, lines, model, number, progress, stop)
        estimates.append(estimated_cer(readings))
        choice = choose_labels(readings, OWN, request.seed)
        _write_labels(plan, choice, readings)
        _report_choice(choice, len(lines), progress)
        _require_enough(choice, lines)
        result_of_round = _finetune(plan, model, number, progress, stop)
        if result_of_round.problem and finetuned is not None:
            progress.warn(
                f"round {number} is left out, and the recognizer of round {number - 1} is kept:"
                f" {result_of_round.problem}"
            )
            break
        finetuned = result_of_round
        if finetuned.problem:
            break
        model = finetuned.files[0]
    assert finetuned is not None
    assert choice is not None
    asked = write_questions(folder / ASK, choice.open_lines, request.ask)
    result = AdaptResult(
        run_dir=folder,
        lines=len(lines),
        labels=len(choice.labels),
        dropped=choice.dropped,
        asked=asked,
        ask_file=folder / ASK,
        agreement=_agreement(plan.engines, readings),
        estimated_cer=tuple(estimates),
        shares=choice.shares,
        drifting=choice.drifting,
        unconfirmed=choice.unconfirmed,
        finetuned=finetuned,
    )
    write_json(folder / ADAPT_FILE, result.to_json())
    return result


def estimated_cer(readings: Sequence[LineReadings]) -> float | None:
    """Estimate the CER of our recognizer without labels, from its distances to the other engines,
    as if no two made the same error. None without readings.

    With such engines a distance is the sum of two error rates, so that three engines give three
    sums, hence each rate (J. E. Gray, D. W. Allan, "A method for estimating the frequency stability
    of an individual oscillator", 1974: the three-cornered hat). With one other engine half of the
    distance is taken, as if both made as many errors.
    """
    if not readings:
        return None
    others = [engine for engine in readings[0].texts if engine != OWN]
    to_own = [_distance(readings, OWN, other) for other in others]
    if len(others) < 2:
        return sum(to_own) / (2 * max(1, len(others)))
    between = [_distance(readings, one, two) for one, two in combinations(others, 2)]
    estimated = sum(to_own) / len(to_own) - sum(between) / len(between) / 2
    return max(0.0, estimated)


def _distance(readings: Sequence[LineReadings], one: str, other: str) -> float:
    """Return the edits between the readings of two engines, a character of the longer reading."""
    edits = characters = 0
    for line in readings:
        first = canonical(line.texts[one])
        second = canonical(line.texts[other])
        edits += Levenshtein.distance(first, second)
        characters += max(len(first), len(second))
    return edits / max(1, characters)


def _claim_folder(plan: AdaptPlan) -> None:
    """Write down whose folder it is. Raises UsageError when it holds another adaptation, whose
    lines and readings would be mixed with these, or something else.
    """
    request = plan.request
    folder = plan.request.run_dir
    own = {
        "scans": [str(path) for path in request.scans],
        "model": str(plan.weights),
        "engines": list(plan.engines),
        "languages": request.languages,
    }
    file = folder / REQUEST
    if not file.is_file():
        has_lines = (folder / "lines" / LINES_FILE).is_file()
        if folder.is_dir() and any(folder.iterdir()) and not has_lines:
            raise UsageError(
                f"-o {folder} is not empty and holds no {REQUEST}; name a new folder"
            )
        make_folder(folder)
        write_json(file, own)
        return
    before = read_json(file, "request of an adaptation", error=ArtifactError)
    if not isinstance(before, dict):
        raise ArtifactError(f"{file} is damaged (no table); start again in a new folder")
    changed = [name for name, value in own.items() if before.get(name) != value]
    if changed:
        raise UsageError(
            f"-o {folder} holds an adaptation with other {', '.join(changed)}; name a new folder,"
            " or repeat its command"
        )


def _find_lines(plan: AdaptPlan, progress: Progress) -> list[FoundLine]:
    folder = plan.request.run_dir / "lines"
    if (folder / LINES_FILE).is_file():
        progress.note("lines: already found")
        return read_found_lines(folder)
    return write_lines(plan.request.scans, folder, plan.request.threads, progress)


def _read_all(
    plan: AdaptPlan,
    lines: Sequence[FoundLine],
    model: Path,
    number: int,
    progress: Progress,
    stop: Callable[[], bool],
) -> list[LineReadings]:
    """Read every line with every engine. Readings are kept in files, so that an interrupted run
    does not read again; from the second round on only our recognizer has changed.
    """
    by_engine = {}
    for engine in plan.engines:
        _require_running(stop, plan.request.run_dir)
        suffix = f"-{number}" if engine == OWN else ""
        path = plan.request.run_dir / "readings" / f"{engine}{suffix}.jsonl"
        if not path.is_file():
            _read_with(plan, engine, model, lines, path, progress, stop)
        by_engine[engine] = _read_file(path, lines)
    found = []
    for line in lines:
        texts = {engine: by_engine[engine][line.id][0] for engine in plan.engines}
        confidence = by_engine[OWN][line.id][1]
        found.append(LineReadings(line.id, line.image, line.document, texts, confidence))
    return found


def _read_with(
    plan: AdaptPlan,
    engine: str,
    model: Path,
    lines: Sequence[FoundLine],
    path: Path,
    progress: Progress,
    stop: Callable[[], bool],
) -> None:
    """Read the lines with one engine into `path`. What is read so far is in `path`.part, from which
    an interrupted reading continues.
    """
    from nordocr_cli.data.resize import read_image

    request = plan.request
    make_folder(path.parent)
    part_file = path.with_suffix(".part")
    done = _complete_rows(part_file)
    recognizer: Recognizer
    if engine == VLM and request.vlm:
        progress.note(f"sending {len(lines) - done} line crops to {request.vlm.url}")
        recognizer = VlmRecognizer(request.vlm, path.with_name("vlm-answers.jsonl"))
    else:
        recognizer = open_labelling_engine(
            engine, model, request.languages, request.device, request.threads
        )
    images = request.run_dir / "lines"
    progress.start(f"reading with {engine}", len(lines), "lines")
    progress.advance(done)
    try:
        for start in range(done, len(lines), _AT_ONCE):
            _require_running(stop, request.run_dir)
            part = lines[start : start + _AT_ONCE]
            crops = [read_image(images / line.image) for line in part]
            readings: Sequence[Recognition] = recognizer.recognize(crops)
            rows = []
            for line, reading in zip(part, readings, strict=True):
                row = {
                    "id": line.id,
                    "text": reading.text,
                    "confidence": reading.confidence,
                }
                rows.append(json.dumps(row, ensure_ascii=False) + "\n")
            with part_file.open("a", encoding="utf-8") as file:
                file.write("".join(rows))
            progress.advance(len(part))
    finally:
        progress.finish()
    part_file.replace(path)


def _complete_rows(part_file: Path) -> int:
    """Return the number of rows in the file of an interrupted reading, and cut off what follows the
    last complete one.
    """
    if not part_file.is_file():
        return 0
    written = part_file.read_bytes()
    complete = written[: written.rfind(b"\n") + 1]
    write_bytes(part_file, complete)
    return complete.count(b"\n")


def _read_file(path: Path, lines: Sequence[FoundLine]) -> dict[str, tuple[str, float]]:
    """Return text and confidence by line id. Raises DataError when one of `lines` is missing."""
    found = {}
    try:
        for _, row in read_json_lines(path):
            found[row["id"]] = (str(row["text"]), float(row["confidence"] or 0.0))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} is damaged ({error}); {_READ_AGAIN}") from error
    missing = next((line.id for line in lines if line.id not in found), None)
    if missing is not None:
        raise DataError(f"{path} is damaged (no line {missing!r}); {_READ_AGAIN}")
    return found


def _write_labels(
    plan: AdaptPlan, choice: LabelChoice, readings: Sequence[LineReadings]
) -> None:
    """Write the labels as a manifest; texts by a person replace what engines agree on."""
    folder = plan.request.run_dir
    if plan.request.answers:
        answers = read_answers(plan.request.answers)
    else:
        answers = {}
    texts = {label.line.id: label.text for label in choice.labels} | answers
    rows = []
    for line in readings:
        text = texts.get(line.id)
        if text:
            row = {
                "id": line.id,
                "image": f"lines/{line.image}",
                "text": text,
                "source": line.document,
            }
            rows.append(json.dumps(row, ensure_ascii=False))
    write_text(folder / LABELS, "\n".join(rows) + ("\n" if rows else ""))


def _report_choice(choice: LabelChoice, lines: int, progress: Progress) -> None:
    progress.note(
        f"{len(choice.labels):,} of {lines:,} lines become labels: those of which two engines read"
        " each character"
    )
    if choice.drifting:
        progress.warn(
            f"the share of {', '.join(choice.drifting)} in the labels differs from that in the"
            " lines. The lines to read by a person help most there"
        )
    if choice.unconfirmed:
        progress.warn(
            f"no other engine confirms most of the {', '.join(choice.unconfirmed)} that our"
            " recognizer reads: it invents them, or the others cannot read them (--languages names"
            " Tesseract's)"
        )


def _require_lines(lines: Sequence[FoundLine]) -> None:
    """Raise DataError, before any engine reads, for so few lines that no labels can be enough."""
    if len(lines) < MIN_LINES:
        raise DataError(
            f"these scans hold {len(lines)} lines, and {MIN_LINES} with a label are needed, some"
            " hundreds to show a difference: add scans"
        )


def _require_enough(choice: LabelChoice, lines: Sequence[FoundLine]) -> None:
    if len(choice.labels) < MIN_LINES:
        raise DataError(
            f"the engines agree on {len(choice.labels)} of {len(lines)} lines, and {MIN_LINES} are"
            " needed: these scans are too hard for them. Label some lines by hand and use `nordocr"
            " finetune`"
        )
    documents = {label.line.document for label in choice.labels}
    if len(documents) < 2:
        raise DataError(
            f"all {len(choice.labels)} labels come from one document, so that none can be held out"
            " to judge by; add scans of another document"
        )


def _finetune(
    plan: AdaptPlan,
    model: Path,
    number: int,
    progress: Progress,
    stop: Callable[[], bool],
) -> FinetuneResult:
    request = plan.request
    # Texts by a person are a new start: the rounds before were trained without them.
    name = f"answered-{number}" if request.answers else f"round-{number}"
    finetune = FinetuneRequest(
        data=(str(request.run_dir / LABELS),),
        run_dir=request.run_dir / name,
        model=str(model),
        rendered_share=request.rendered_share,
        minutes=request.minutes,
        max_steps=request.max_steps,
        seed=request.seed,
        device=request.device,
        threads=request.threads,
        judged_by=request.labelled,
        val_share=_VAL_SHARE,
        trust_labels=True,  # engines agree on them
        certain_labels=False,
    )
    try:
        result = run_finetune(
            plan_finetune(finetune, progress), progress=progress, stop=stop
        )
    except Interrupted:
        raise Interrupted(_how_to_continue(request.run_dir)) from None
    names = {"held-out": "held-out (agreed on)"}
    sets = tuple(replace(one, name=names.get(one.name, one.name)) for one in result.sets)
    return replace(result, sets=sets)


def _agreement(engines: Sequence[str], readings: Sequence[LineReadings]) -> dict[str, Any]:
    texts = [[line.texts[engine] for engine in engines] for line in readings]
    return agreement(engines, texts).to_json()


def _require_running(stop: Callable[[], bool], folder: Path) -> None:
    if stop():
        raise Interrupted(_how_to_continue(folder))


def _how_to_continue(folder: Path) -> str:
    return f"interrupted; what is done is saved in {folder}. The same command continues"
