"""The plan of a fine-tuning: facts about the data, and the settings that follow. No torch."""

import random
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import DEFAULT_MODEL, find_weights
from nordocr_cli.atomic import make_folder
from nordocr_cli.charset import Charset, load_charset
from nordocr_cli.core.finetune.choices import CharsetChoice, choose_charset, choose_training
from nordocr_cli.data.entry import Entry
from nordocr_cli.data.formats import Source, open_source, parse_source
from nordocr_cli.data.split import document_of_row
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.profile import Profile, profile_from_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.training.state import duration

MIN_LINES = 20
_SAMPLED_IMAGES = 40  # of a source, looked for before anything is written
VAL_SHARE = 0.2
_EXT_MODEL = f"{DEFAULT_MODEL}-ext"
# Lines a second of a training of nordocr-default on one CPU core, for the expected time.
_CPU_LINES_PER_S = 12.0
# Of the training of nordocr-default with its batches of 32 lines, as measured on Linux.
_CPU_MEMORY_GB = 1.5


@dataclass(frozen=True)
class FinetuneRequest:
    """What the user requested. `data` are sources that prep reads, `val` held-out ones (empty: a
    fifth of the documents of `data`); `rendered_share` is the share of rendered lines in training;
    `judged_by` are more labelled lines for evaluation only.
    """

    data: tuple[str, ...]
    run_dir: Path
    model: str = DEFAULT_MODEL
    val: tuple[str, ...] = ()
    rendered_share: float = 0.5
    minutes: float | None = None
    max_steps: int | None = None
    lr: float | None = None
    seed: int = 1
    device: str = "auto"
    threads: int | None = None
    trust_labels: bool = False
    certain_labels: bool = True  # false: readings on which engines agree
    judged_by: tuple[str, ...] = ()
    val_share: float = VAL_SHARE  # of the lines, held out where `val` names none
    fonts: str | None = None  # of the rendered lines; None: the system's


@dataclass(frozen=True)
class DataFacts:
    """What the labels of sources contain: usable and unusable lines, documents, and how often each
    character occurs.
    """

    lines: int
    unusable: int
    documents: int
    characters: Counter[str]


@dataclass(frozen=True)
class FinetunePlan:
    """A checked fine-tuning. `weights` is the file to start from, `profile` how it is trained,
    `steps` the length without `--minutes`.
    """

    request: FinetuneRequest
    weights: Path
    contract: Contract
    choice: CharsetChoice
    profile: Profile
    steps: int
    facts: DataFacts

    @property
    def rendered_lines(self) -> int:
        """Lines to render for training: as many as the steps take, each seen about twice."""
        seen = self.steps * self.profile.train.batch_size * self.request.rendered_share
        return int(min(20_000, max(500, seen / 2)))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON values."""
        request = self.request
        train = self.profile.train
        facts = self.facts
        charset = self.choice.charset
        lines_seen = self.steps * train.batch_size
        expected = duration(lines_seen / _CPU_LINES_PER_S)
        if request.minutes:
            expected = f"{expected}, cut at {duration(request.minutes * 60)}"
        return {
            "data": {
                "sources": list(request.data),
                "lines": facts.lines,
                "unusable": facts.unusable,
                "documents": facts.documents,
                "held_out": list(request.val)
                or f"{request.val_share:.0%} of the lines, by document",
            },
            "start": str(self.weights),
            "charset": {
                "name": self.choice.name or f"{request.run_dir / 'charset.txt'}",
                "classes": charset.num_classes,
                "new": self.choice.new,
            },
            "train": {
                "steps": self.steps,
                "lines_a_step": train.batch_size,
                "lr": train.lr,
                "rendered_share": request.rendered_share,
                "rendered_lines": self.rendered_lines,
                "time_on_one_cpu_core": f"about {expected}",
                "memory_on_cpu": f"about {_CPU_MEMORY_GB} GB",
            },
            "run_dir": str(request.run_dir),
            "files": [
                "model.safetensors",
                "model.onnx",
                "model.int8.onnx",
                "finetune.json",
            ],
        }


def plan_finetune(request: FinetuneRequest, progress: Progress = SILENT) -> FinetunePlan:
    """Read the labels and some images, choose charset and length, and check what can be
    checked without torch.

    Raises UsageError for options and files, and DataError for too few lines, one document, or
    labels in another script.
    """
    if not 0 <= request.rendered_share < 1:
        raise UsageError(
            f"--rendered {request.rendered_share}: give a share from 0 to below 1"
        )
    is_resumed = (request.run_dir / "finetune.json").is_file()
    facts = read_facts(request.data, progress, look_for_images=not is_resumed)
    if facts.lines < MIN_LINES:
        raise DataError(_too_few(facts))
    if facts.documents < 2 and not request.val:
        raise DataError(
            f"all {facts.lines} lines come from one document, so that none can be held out to judge"
            " by; add lines of another document, or name held-out ones with --val"
        )
    characters = facts.characters
    for others in (request.val, request.judged_by):
        if others:
            characters = characters + read_facts(others, progress).characters

    weights, contract = _start(request.model, characters)
    choice = choose_charset(contract.charset, characters)
    if not contract.profile:
        raise ArtifactError(
            f"{weights} does not hold the profile that it was trained with; fine-tune it with"
            " `nordocr train --profile NAME --load`"
        )
    base = profile_from_json(contract.profile, str(weights))
    if request.val:
        own_lines = facts.lines
    else:
        own_lines = int(facts.lines * (1 - request.val_share))
    train, steps = choose_training(base, own_lines, request.rendered_share)
    changed: dict[str, Any] = {"seed": request.seed}
    if request.lr:
        changed["lr"] = request.lr
    charset_name = choice.name or str(request.run_dir / "charset.txt")
    profile = base.model_copy(
        update={
            "name": request.run_dir.name,
            "charset": charset_name,
            "train": train.model_copy(update=changed),
        }
    )
    return FinetunePlan(
        request=request,
        weights=weights,
        contract=contract,
        choice=choice,
        profile=profile,
        steps=request.max_steps or steps,
        facts=facts,
    )


def _too_few(facts: DataFacts) -> str:
    """Say how many lines there are, and what else to do."""
    found = f"{facts.lines} usable labelled lines"
    if facts.unusable:
        found = f"{found} (and {facts.unusable} rows that have no text or are damaged)"
    remedy = (
        f"fine-tuning needs at least {MIN_LINES}, and some hundreds to show a difference"
    )
    if facts.lines == 0 and facts.unusable:
        remedy = f"{remedy}. For scans without texts: nordocr adapt"
    return f"{found}: {remedy}"


def _start(model: str, characters: Counter[str]) -> tuple[Path, Contract]:
    """Return the weights to start from. A shipped recognizer is replaced by the one with the larger
    charset if the labels need it.
    """
    weights = find_weights(Path(model))
    if weights.suffix != ".safetensors":
        raise UsageError(
            f"--model {model}: fine-tuning starts from weights, not {weights.suffix}"
        )
    contract = read_contract(weights)
    if model != DEFAULT_MODEL:
        return weights, contract
    missing = contract.charset.missing("".join(characters))
    if not missing:
        return weights, contract
    larger = find_weights(Path(_EXT_MODEL))
    other = read_contract(larger)
    if len(other.charset.missing("".join(characters))) < len(missing):
        return larger, other
    return weights, contract


def read_facts(
    sources: Sequence[str], progress: Progress = SILENT, *, look_for_images: bool = False
) -> DataFacts:
    """Count lines, documents and characters of sources, by their labels. With `look_for_images` it
    raises DataError for a source of which no image can be read.
    """
    documents: set[str] = set()
    characters: Counter[str] = Counter()
    lines = unusable = 0
    for number, text in enumerate(sources):
        with closing(open_source(parse_source(text), progress)) as source:
            sample = _RowSample()
            for entry in source.entries():
                if entry.row is None or not entry.row.text.strip():
                    unusable += 1
                    continue
                lines += 1
                sample.add(entry)
                documents.add(f"{number}:{document_of_row(entry.row)}")
                characters.update(entry.row.text)
            if look_for_images:
                _require_images(source, sample.entries)
    return DataFacts(lines, unusable, len(documents), characters)


class _RowSample:
    """At most `_SAMPLED_IMAGES` rows of a source of unknown length, each with the same probability
    (reservoir sampling); the same ones in each run. Rows at even distances would miss every image
    of a source whose rows name two folders by turns, one of which is missing.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._seen = 0
        self._random = random.Random(0)

    def add(self, entry: Entry) -> None:
        """Look at the next row of the source, and keep it or not."""
        self._seen += 1
        if len(self.entries) < _SAMPLED_IMAGES:
            self.entries.append(entry)
            return
        place = self._random.randrange(self._seen)
        if place < _SAMPLED_IMAGES:
            self.entries[place] = entry


def _require_images(source: Source, entries: Sequence[Entry]) -> None:
    """Refuse a source of which none of these images can be read. Where only some are missing,
    `prep` skips and names them.
    """
    first_problem = ""
    for entry in entries:
        try:
            source.crop_size(entry)
        except (FileNotFoundError, DataError) as error:
            first_problem = first_problem or f"{entry.where}: {error}"
            continue
        return
    if not first_problem:
        return
    raise DataError(
        f"none of {len(entries)} images from all parts of {source.path} can be read:"
        f" {first_problem}"
    )


def charset_of(plan: FinetunePlan) -> Charset:
    """Return the charset of the run. A new charset is written to the run's folder."""
    if plan.choice.name:
        return plan.choice.charset
    path = plan.request.run_dir / "charset.txt"
    make_folder(path.parent)
    path.write_text(plan.choice.charset.to_dict_text(), encoding="utf-8")
    return load_charset(str(path))
