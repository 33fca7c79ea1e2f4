"""The JSON that each command prints with --json, as types: docs/output.schema.json is made of them,
and tests hold outputs against it.

Where a result is printed field by field, its own class is the type; other results are written down
here. Objects are closed: a key that the schema does not name is an error.
"""

from typing import (
    Any,
    NotRequired,  # pydantic needs these below Python 3.12
)

from pydantic import TypeAdapter
from typing_extensions import (
    TypedDict,
)

from nordocr_cli.core.bench.result import BenchResult
from nordocr_cli.core.champion import ChampionComparison
from nordocr_cli.core.compare3way.result import Compare3wayFile
from nordocr_cli.core.data import (
    StoreExportResult,
    StoreMergeResult,
    StoreStats,
    VerifyResult,
    ViewedLine,
)
from nordocr_cli.core.doctor import Finding, TimedTraining
from nordocr_cli.core.eval.result import EvalFile
from nordocr_cli.core.finetune.result import SetResult
from nordocr_cli.core.merge_lora import LoraMergeResult
from nordocr_cli.core.pixel_waste import PixelWaste
from nordocr_cli.core.prep.run import PrepResult
from nordocr_cli.core.runs import RunSummary
from nordocr_cli.core.train.lr_range import LrRange
from nordocr_cli.core.train.preview import PreviewResult
from nordocr_cli.core.train.result import TrainResult
from nordocr_cli.core.train.selftest import ResumeTest
from nordocr_cli.deploy.parity import ParityPoint
from nordocr_cli.metrics.calibration import Calibration
from nordocr_cli.models.head_transfer import HeadReport

# Content that has its own description: a contract (docs/contract.md), the sidecar of an ONNX file
# or an engine, a model table, an environment.
Open = dict[str, Any]


class ErrorFacts(TypedDict):
    """Why a command ended with an exit code other than 0. `code` names the kind: bug, usage, data,
    artifact, gate, backend, interrupted.
    """

    code: str
    message: str
    hint: str


class Failure(TypedDict):
    """The output of a command that failed. `result` is what was found before, where that is a list;
    an object gets the key `error` instead.
    """

    error: ErrorFacts
    result: NotRequired[Any]


# Reading
# ----------------------------------------


class Bbox(TypedDict):
    """An upright box in pixels of the page."""

    x: float
    y: float
    width: float
    height: float


class PageLine(TypedDict):
    """A line of a page. `polygon` is its outline where it is no upright box."""

    text: str
    confidence: float
    bbox: Bbox
    words: None
    polygon: NotRequired[list[tuple[float, float]]]
    char_confidences: NotRequired[list[float]]


class Page(TypedDict):
    """A page as the Rust pipeline's results have it, with what that does not know."""

    page_index: int
    text: str
    confidence: float
    lines: list[PageLine]
    quarter_turns: NotRequired[int]
    doubts: NotRequired[list[str]]
    error: NotRequired[str]


class ReadDocument(TypedDict):
    """A document."""

    pages: list[Page]
    doubtful_pages: int


class ReadLineImage(TypedDict):
    """The image of one line."""

    image: str
    error: NotRequired[str]
    text: NotRequired[str]
    confidence: NotRequired[float | None]
    char_confidences: NotRequired[list[float]]
    char_edges_px: NotRequired[list[tuple[float, float]]]
    doubts: NotRequired[list[str]]


class WatchOnce(TypedDict):
    """`watch --once`: documents read and failed."""

    read: int
    failed: int


class NamedModelFacts(TypedDict):
    """A recognizer that -m finds by name."""

    name: str
    ships: bool
    megabytes: float
    files: list[str]


class ModelFacts(NamedModelFacts):
    """A recognizer, what it reads and the checksums of its files."""

    charset: str
    classes: int
    network: str
    height_px: int
    max_width_px: int
    sha256: dict[str, str]


class ModelsAdded(TypedDict):
    """The files that were added."""

    added: list[str]


# Charsets and profiles
# ----------------------------------------


class CharsetFacts(TypedDict):
    """A charset; class 0 is the CTC blank, the characters follow in order."""

    name: str
    num_classes: int
    sha256: str
    characters: str


class CharsetEmitted(TypedDict):
    """A charset, and the dictionary file that it was written to (null: none)."""

    path: str | None
    name: str
    num_classes: int
    sha256: str
    characters: str


class CharsetCheck(TypedDict):
    """A file's characters against a charset's."""

    file: str
    against: str
    same: bool
    differences: list[str]


class CharsetCoverage(TypedDict):
    """Characters by language that a charset cannot write, and those in a text with their counts."""

    charset: str
    missing: dict[str, str]
    in_text: dict[str, int]


class CharsetLocked(TypedDict):
    """A lock that was written."""

    path: str
    charset: str
    sha256: str


class LockedFile(TypedDict):
    """A file against a lock."""

    path: str
    charset: str
    sha256: str
    same: bool
    differences: list[str]


class CharsetLockCheck(TypedDict):
    """Files against a lock."""

    lock: str
    files: list[LockedFile]


class CharsetMoved(TypedDict):
    """Weights whose head was moved to another charset."""

    weights: str
    output: str
    precision: str
    num_classes: tuple[int, int]
    head: HeadReport


class ProfileEntry(TypedDict):
    """A profile that --profile finds by name."""

    name: str
    description: str
    path: str


class ProfileShown(TypedDict):
    """A resolved profile (profiles/schema.json), the origin of each dotted key, wasted pixels."""

    profile: Open
    origins: dict[str, str]
    pixel_waste: PixelWaste


class ProfileCheck(TypedDict):
    """Whether a profile is valid."""

    ok: bool
    problem: str | None


# Data
# ----------------------------------------


class SynthReport(TypedDict):
    """Rendered lines."""

    output: str
    lines: int
    seed: int
    fonts: int
    fonts_left_out: list[str]
    corpus: dict[str, int]
    languages: dict[str, int]
    kinds: dict[str, int]
    damages: dict[str, int]
    widths: dict[str, int]
    least_seen_characters: dict[str, int]
    seconds: float
    lines_per_s: float


class SynthSheet(TypedDict):
    """A preview sheet."""

    output: str
    lines: int
    seed: int


class SynthTexts(TypedDict):
    """Texts alone."""

    output: str
    texts: int
    seed: int


class Fetched(TypedDict):
    """The record of a public data set that was fetched."""

    schema: str
    name: str
    licence: str
    url: str
    sha256: str
    bytes: int
    files: int
    folder: str


class ListedSet(TypedDict):
    """A public data set and the command that fetches it."""

    name: str
    description: str
    languages: str
    licence: str
    size_mb: float
    homepage: str
    url: str
    sha256: str
    use: str
    command: str


class Suspects(TypedDict):
    """Lines whose label is doubtful: the rows, with suggestion, confidence, suspicion, reasons."""

    lines: int
    suspects: list[Open]
    written: list[str]


# Training
# ----------------------------------------


class Finetuned(TypedDict):
    """A finished fine-tuning; `accepted` is false where it got worse, and `share` the part of the
    change from the start that was kept.
    """

    run_dir: str
    sets: list[SetResult]
    steps: int
    minutes: float
    temperature: float | None
    files: list[str]
    problem: str
    share: float
    accepted: bool


class Adapted(TypedDict):
    """A finished adaptation to scans without labels."""

    run_dir: str
    lines: int
    labels: int
    dropped: int
    asked: int
    ask_file: str
    agreement: Open
    estimated_cer: float | None
    shares: dict[str, tuple[float, float]]
    drifting: list[str]
    finetune: Finetuned


class RecipeStage(TypedDict):
    """A stage of a recipe."""

    name: str
    decision: str
    command: list[str]
    creates: list[str]


class StageTook(TypedDict):
    """How a stage ended; the exit code is null where it was done earlier."""

    name: str
    exit_code: int | None
    seconds: float


class RecipeRun(TypedDict):
    """A recipe's stages, and how they ended."""

    recipe: str
    output: str
    stages: list[RecipeStage]
    results: list[StageTook]


class RunDifference(TypedDict):
    """A key in which two runs differ, with its two values."""

    key: str
    one: Any
    other: Any


class Imported(TypedDict):
    """A checkpoint of another program that was imported."""

    output: str
    model: Open
    num_classes: int
    tensors: int
    parameters: int
    dropped: dict[str, int]


class Promoted(TypedDict):
    """Weights that were promoted, with the results that their gates were held against."""

    schema: str
    nordocr: str
    run: str
    weights: str
    sha256: str
    gates: list[str]
    champion: list[ChampionComparison]
    results: list[Open]


class PromotionVerified(TypedDict):
    """A promotion's record and weights that belong together."""

    record: str
    sha256: str
    verified: bool


class CleanedFile(TypedDict):
    """A file that is, or would be, deleted."""

    path: str
    kind: str
    why: str
    bytes: int


class Cleaned(TypedDict):
    """What is left over below a folder."""

    deleted: bool
    files: list[CleanedFile]


# Deployment
# ----------------------------------------


class ParityReport(TypedDict):
    """An exported file against its network, at each input shape."""

    points: list[ParityPoint]
    worst: ParityPoint
    agreement: float


class StoreChecked(TypedDict):
    """An exported file and its network over the lines of a store."""

    store: str
    lines: int
    frames: int
    flips: int
    texts: int
    characters: int
    edits: tuple[int, int]
    seconds: float
    baseline_seconds: float | None
    cer: tuple[float, float]
    cer_loss: float
    speed_up: float | None


class ExportedFileFacts(TypedDict):
    """An ONNX file that was written."""

    path: str
    sha256: str
    size_bytes: int
    opset: int
    precision: str
    input_type: str
    output_type: str
    output_activation: str
    nodes: int
    nodes_before_simplification: int
    simplification: str
    parity: ParityReport
    arithmetic: ParityReport | None
    on_store: StoreChecked | None


class GoldenFacts(TypedDict):
    """A folder of golden lines."""

    folder: str
    lines: int
    characters: int


class Exported(TypedDict):
    """What an export wrote."""

    weights: str
    parameters: int
    files: list[ExportedFileFacts]
    golden: GoldenFacts | None
    simplified_copy: str | None


class ContractComparison(TypedDict):
    """Two artifacts: what differs, and how they descend from each other."""

    a: str
    b: str
    same: bool
    fields_compared: int
    differences: list[str]
    own: list[str]
    lineage: str


class LineConfidence(TypedDict):
    """1 / (1 + (S / nats)^power) of a line's surprise S, in nats."""

    nats: float
    power: float


class Calibrated(TypedDict):
    """Weights with a temperature and a curve, and calibration before and after."""

    output: str
    temperature: float
    line_confidence: LineConfidence
    before: Calibration
    after: Calibration


class Sealed(TypedDict):
    """A file that was sealed: its SHA-256 before and after."""

    path: str
    before: str
    after: str


class ConsumerConfigFile(TypedDict):
    """The keys of the Rust pipeline's config that depend on the model."""

    recognize_model: str
    recognize_engine_path: str
    recognize_max_batch: int
    recognize_input_height: int
    recognize_max_input_width: int
    recognize_max_seq_len: int
    precision: str
    gpu_arch_override: NotRequired[str]


class Preset(TypedDict):
    """How a preset of the pipeline's config fits a model."""

    name: str
    line: int
    arch: str
    verdict: str
    checked: int
    reasons: list[str]


class ConsumerChecked(TypedDict):
    """A file of the Rust pipeline against a model."""

    file: str
    checked: int
    disagreements: list[str]
    presets: list[Preset]
    notes: list[str]


class AdvisedRange(TypedDict):
    """A shape range of an engine, how many of the lines it reads, and memory of activations."""

    min_batch: int
    opt_batch: int
    max_batch: int
    min_width: int
    opt_width: int
    max_width: int
    lines: int
    activation_bytes: int | None


class AdvisedRanges(TypedDict):
    """Shape ranges, and the share of padding that they cost."""

    ranges: list[AdvisedRange]
    padded_share: float


class Advised(TypedDict):
    """Shape ranges for the lines of a store: one, and by bands of width; as TOML of a profile."""

    store: str
    arch: str
    precision: str
    lines: int
    width_quantiles_px: dict[str, int]
    single: AdvisedRanges
    bands: AdvisedRanges
    toml: str


class LineageFile(TypedDict):
    """A file of a lineage."""

    path: str
    kind: str
    sha256: str
    problem: str


class LineageStep(TypedDict):
    """From a parent to its child."""

    parent: str
    child: str
    role: str


class LineageGap(TypedDict):
    """A parent that was not found."""

    path: str
    role: str
    sha256: str


class LineageFacts(TypedDict):
    """Files, what was made from what, and what is missing or broken."""

    files: list[LineageFile]
    steps: list[LineageStep]
    missing: list[LineageGap]
    broken: list[str]


# Comparison and tools
# ----------------------------------------


class LeaderboardEntry(TypedDict):
    """A result of a leaderboard, ranked among those on the same lines."""

    path: str
    name: str
    store: str
    lines_sha256: str
    lines: int
    rates: dict[str, float | None]
    cer_by_language: dict[str, float | None]
    ece: float | None
    size_mb: float | None
    lines_per_s: float | None
    exact_lines_per_s: float | None
    rank: int
    efficiency: float | None


class WeakGroup(TypedDict):
    """A group of lines in a report of limitations."""

    grouping: str
    name: str
    lines: int
    cer: float
    exact: float
    failures: dict[str, int]
    weak: bool
    small: bool


class LimitationsOf(TypedDict):
    """What a model reads badly, by an evaluation."""

    result: str
    model: str
    model_sha256: str
    store: str
    lines: int
    cer: float
    exact: float
    groups: list[WeakGroup]
    confusions: dict[str, int]


class DoctorReport(TypedDict):
    """What this machine has and lacks; `train` is a timed training step."""

    findings: list[Finding]
    train: NotRequired[TimedTraining]


class GpuProof(TypedDict):
    """`doctor --prove`: the steps as they went, and the targets with what was measured."""

    schema: str
    nordocr: str
    began: str
    device: str
    tiny: bool
    minutes: float
    steps: list[Open]
    targets: NotRequired[Open]


Read = ReadDocument | list[ReadLineImage]
# Commands without a key print no result of their own: `serve` runs until it is stopped.
OUTPUTS: dict[str, Any] = {
    "read": Read,
    "predict": Read,
    "watch": WatchOnce,
    "models list": list[NamedModelFacts],
    "models show": ModelFacts,
    "models get": ModelsAdded,
    "charset show": CharsetFacts,
    "charset emit": CharsetEmitted,
    "charset check": CharsetCheck,
    "charset coverage": CharsetCoverage,
    "charset lock": CharsetLocked | CharsetLockCheck,
    "charset move": CharsetMoved,
    "profiles list": list[ProfileEntry],
    "profiles show": ProfileShown,
    "profiles check": dict[str, ProfileCheck],
    "prep": PrepResult,
    "synth": SynthReport | SynthSheet | SynthTexts,
    "data stats": StoreStats,
    "data view": list[ViewedLine],
    "data verify": VerifyResult,
    "data merge": StoreMergeResult,
    "data export": StoreExportResult,
    "data sets": list[ListedSet],
    "data fetch": Fetched,
    "data suspects": Suspects,
    "train": TrainResult | PreviewResult | LrRange | ResumeTest,
    "finetune": Finetuned,
    "adapt": Adapted,
    "recipe": RecipeRun,
    "runs": list[RunSummary] | list[RunDifference],
    "import": Imported,
    "merge-lora": LoraMergeResult,
    "promote": Promoted | PromotionVerified,
    "clean": Cleaned,
    "export": Exported,
    "build-engine": list[Open] | dict[str, str],
    "advise": Advised,
    "consumer config": ConsumerConfigFile,
    "consumer check": ConsumerChecked,
    "contract show": Open,
    "contract attach": Open,
    "contract verify": ContractComparison,
    "contract calibrate": Calibrated,
    "contract seal": list[Sealed],
    "lineage": LineageFacts,
    "eval": EvalFile,
    "bench": BenchResult,
    "compare3way": Compare3wayFile,
    "leaderboard": list[LeaderboardEntry],
    "report limitations": list[LimitationsOf],
    "doctor": DoctorReport | GpuProof,
}


def output_schema() -> dict[str, Any]:
    """Return one JSON Schema with a definition for each command, and for a failure."""
    kinds = {**OUTPUTS, "failure": Failure}
    inputs = [(name, "serialization", TypeAdapter(kind)) for name, kind in kinds.items()]
    found, document = TypeAdapter.json_schemas(inputs, ref_template="#/$defs/{model}")
    types = document.get("$defs", {})
    for schema in types.values():
        _close(schema)
    commands = {name: schema for (name, _), schema in found.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What nordocr commands print with --json",
        "description": (
            "Take the schema of a command by #/$defs/commands/…; a command that fails prints"
            " #/$defs/commands/failure, or its result with the key `error`. With --dry-run a"
            " command prints its plan, an object."
        ),
        "$defs": {**types, "commands": commands},
    }


def _close(schema: dict[str, Any]) -> None:
    """Refuse keys that an object's schema does not name."""
    if "properties" in schema and "additionalProperties" not in schema:
        schema["additionalProperties"] = False
