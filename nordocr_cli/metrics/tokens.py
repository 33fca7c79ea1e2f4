"""Token metrics: accuracy and precision of a hypothesis in the tokens of an external tokenizer.

Reference and hypothesis, both canonical, are split by the same tokenizer and aligned by their
Levenshtein distance. A token is a hit where the alignment keeps it. These figures suit a language
model that reads the text afterwards; CER and WER say how well the line was read.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, computed_field

from nordocr_cli.atomic import sha256_of
from nordocr_cli.errors import DataError, UsageError
from nordocr_cli.extras import missing
from nordocr_cli.metrics.report import UNNAMED
from nordocr_cli.metrics.result_model import ResultModel
from nordocr_cli.metrics.score import LineScore
from nordocr_cli.metrics.text import count_edits, rate

TOKENIZER_FILE = "tokenizer.json"

Encode = Callable[[Sequence[str]], list[list[int]]]


class TokenCounts(ResultModel):
    """Counts over a group of lines. Rates are null where there is nothing to divide by."""

    lines: int
    exact: int = Field(description="lines whose tokens are all equal")
    reference_tokens: int
    hypothesis_tokens: int
    substitutions: int
    insertions: int
    deletions: int

    @property
    def hits(self) -> int:
        """Tokens of the references that were read."""
        return self.reference_tokens - self.substitutions - self.deletions

    @computed_field  # type: ignore[prop-decorator]
    @property
    def accuracy(self) -> float | None:
        """Of the tokens of the references, the share that was read."""
        return rate(self.hits, self.reference_tokens)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def precision(self) -> float | None:
        """Of the tokens of the hypotheses, the share that stands in the references."""
        return rate(self.hits, self.hypothesis_tokens)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def error_rate(self) -> float | None:
        """Edits per token of the references."""
        edits = self.substitutions + self.insertions + self.deletions
        return rate(edits, self.reference_tokens)


class TokenReport(ResultModel):
    """Token metrics of an evaluation, and the tokenizer that they were counted with."""

    tokenizer: str
    tokenizer_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    total: TokenCounts
    by_language: dict[str, TokenCounts] = Field(default_factory=dict)
    by_subset: dict[str, TokenCounts] = Field(default_factory=dict)


def find_tokenizer(path: Path) -> Path:
    """Return the tokenizer.json that `path` means: the file, or the one in a folder. Raises
    UsageError.
    """
    file = path / TOKENIZER_FILE if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"--metric-tokenizer {path}: there is no {TOKENIZER_FILE}. Write one with transformers:"
            " AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    return file


def open_tokenizer(file: Path) -> Encode:
    """Return the function that splits texts into token ids, without special tokens.

    Raises MissingBackendError without the library `tokenizers`, DataError for a damaged file.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise missing("tokenizers", "--metric-tokenizer") from error

    try:
        tokenizer: Any = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises a plain Exception for whatever is wrong
        raise DataError(
            f"{file} is not a tokenizer of the library `tokenizers` ({error})"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()

    def encode(texts: Sequence[str]) -> list[list[int]]:
        encodings = tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in encodings]

    return encode


def token_report(file: Path, scores: Sequence[LineScore]) -> TokenReport:
    """Return the token metrics of scored lines, in total, by language and by subset. Raises what
    open_tokenizer raises.
    """
    encode = open_tokenizer(file)
    references = encode([score.reference for score in scores])
    hypotheses = encode([score.hypothesis for score in scores])
    lines = [
        _counts_of_line(reference, hypothesis)
        for reference, hypothesis in zip(references, hypotheses, strict=True)
    ]
    languages = [score.result.language for score in scores]
    subsets = [score.result.subset for score in scores]
    return TokenReport(
        tokenizer=str(file),
        tokenizer_sha256=sha256_of(file),
        total=_summed(lines),
        by_language=_grouped(lines, languages),
        by_subset=_grouped(lines, subsets),
    )


def _counts_of_line(reference: list[int], hypothesis: list[int]) -> TokenCounts:
    edits = count_edits(reference, hypothesis)
    return TokenCounts(
        lines=1,
        exact=int(edits.distance == 0),
        reference_tokens=edits.reference_length,
        hypothesis_tokens=edits.hypothesis_length,
        substitutions=edits.substitutions,
        insertions=edits.insertions,
        deletions=edits.deletions,
    )


def _grouped(lines: Sequence[TokenCounts], names: Sequence[str]) -> dict[str, TokenCounts]:
    """Sum the lines by name; empty when no line has a name."""
    if not any(names):
        return {}
    members: dict[str, list[TokenCounts]] = {}
    for line, name in zip(lines, names, strict=True):
        members.setdefault(name or UNNAMED, []).append(line)
    return {name: _summed(members[name]) for name in sorted(members)}


def _summed(lines: Sequence[TokenCounts]) -> TokenCounts:
    fields = TokenCounts.model_fields
    return TokenCounts(
        **{name: sum(getattr(line, name) for line in lines) for name in fields}
    )
