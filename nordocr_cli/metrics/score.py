"""From line results to scored lines: class, flags and edits of each. Lines are scored many at once,
as most of them are exact.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from nordocr_cli.charset import Charset
from nordocr_cli.geometry import frames_needed
from nordocr_cli.metrics.taxonomy import ErrorClass, judge, space_kind
from nordocr_cli.metrics.text import Edits, canonical_all, count_edits, no_edits
from nordocr_cli.records import LineResult

HEADLINE = "canonical"

# Upper ends of the bands of width, in pixels at the geometry's height before squashing, and of the
# squash ratio.
WIDTH_BANDS = (320, 768, 1024, 1792)
WIDTH_NAMES = (*(f"<={end}" for end in WIDTH_BANDS), f">{WIDTH_BANDS[-1]}", "unknown")
SQUASH_BANDS = (1.0, 1.25, 1.5, 2.0)
SQUASH_NAMES = (
    "fits",
    *(f"<={end:g}" for end in SQUASH_BANDS[1:]),
    f">{SQUASH_BANDS[-1]:g}",
)

_CHUNK = 10_000  # lines


class LineScore(NamedTuple):
    """One line, scored: its canonical texts, its class, its flags, and its edits in each view and
    in words. A named tuple, as it is made for every line and a frozen dataclass takes four times as
    long.
    """

    result: LineResult
    reference: str
    hypothesis: str
    error_class: ErrorClass
    space_kind: str
    flags: tuple[str, ...]
    edits: Mapping[str, Edits]
    words: Edits

    @property
    def exact(self) -> bool:
        """Equal in the canonical view."""
        return self.error_class is ErrorClass.EXACT

    @property
    def same_in_raw(self) -> bool:
        """Whether the raw view counts what the canonical view does."""
        return self.edits["raw"] is self.edits[HEADLINE]

    @property
    def has_reference(self) -> bool:
        """Whether the canonical reference has a character; only then the line has a character error
        rate.
        """
        return bool(self.reference)

    @property
    def edge_spaces(self) -> bool:
        """Whether the hypothesis had spaces at an end; they are trimmed in every view."""
        return trimmed(self.result.hypothesis) != self.result.hypothesis

    def to_json(self) -> dict[str, Any]:
        """Return the line result with class, flags and edits (canonical view) as one JSON
        object.
        """
        edits = self.edits[HEADLINE]
        scored = {
            "class": self.error_class.value,
            "space_kind": self.space_kind,
            "flags": list(self.flags),
        }
        known = {key: value for key, value in scored.items() if value}
        counts = {"edits": edits.distance, "characters": edits.reference_length}
        return self.result.to_json() | known | counts


def trimmed(hypothesis: str) -> str:
    """Return a hypothesis without white space at its ends."""
    return hypothesis.strip()


def score_line(result: LineResult, charset: Charset | None = None) -> LineScore:
    """Score one line; see score_lines."""
    return score_lines([result], charset)[0]


def score_lines(
    results: Sequence[LineResult], charset: Charset | None = None
) -> list[LineScore]:
    """Score lines. The flag oov_ref follows from `charset`, and without one from the result's own
    `oov`.
    """
    scores: list[LineScore] = []
    for start in range(0, len(results), _CHUNK):
        chunk = results[start : start + _CHUNK]
        references = canonical_all([result.reference for result in chunk])
        hypotheses = canonical_all([result.hypothesis for result in chunk])
        if charset:
            missing = set(charset.missing("".join(references)))
        else:
            missing = set()

        for result, reference, hypothesis in zip(
            chunk, references, hypotheses, strict=True
        ):
            flags = _flags_of_line(result, reference, missing, charset)
            if reference == hypothesis:
                score = _score_exact
            else:
                score = _score_failure
            scores.append(score(result, reference, hypothesis, flags))
    return scores


def _score_exact(
    result: LineResult, reference: str, hypothesis: str, line_flags: tuple[str, ...]
) -> LineScore:
    edits, words = _edits_of_equal(
        len(reference), reference.count(" ") if reference else -1
    )
    unchanged = len(result.reference) == len(reference)
    if result.reference != result.hypothesis or not unchanged:
        edits = {**edits, "raw": count_edits(result.reference, trimmed(result.hypothesis))}
    flags = line_flags if reference else ("empty_ref", *line_flags)
    return LineScore(
        result, reference, hypothesis, ErrorClass.EXACT, "", flags, edits, words
    )


def _score_failure(
    result: LineResult, reference: str, hypothesis: str, line_flags: tuple[str, ...]
) -> LineScore:
    error_class, text_flags = judge(reference, hypothesis)
    canonical_edits = count_edits(reference, hypothesis)
    raw_edits = canonical_edits
    if result.reference != reference or result.hypothesis != hypothesis:
        raw_edits = count_edits(result.reference, trimmed(result.hypothesis))
    squeezed_edits = canonical_edits
    if " " in reference or " " in hypothesis:
        squeezed_edits = count_edits(
            reference.replace(" ", ""), hypothesis.replace(" ", "")
        )

    is_space_only = error_class is ErrorClass.SPACE_ONLY
    return LineScore(
        result=result,
        reference=reference,
        hypothesis=hypothesis,
        error_class=error_class,
        space_kind=space_kind(reference, hypothesis) if is_space_only else "",
        flags=(*text_flags, *line_flags),
        edits={"raw": raw_edits, "canonical": canonical_edits, "squeezed": squeezed_edits},
        words=count_edits(reference.split(), hypothesis.split()),
    )


@lru_cache(maxsize=8192)
def _edits_of_equal(length: int, spaces: int) -> tuple[Mapping[str, Edits], Edits]:
    """The edits of two equal texts in each view, and in words; `spaces` is -1 for empty texts,
    which have no word.
    """
    same = no_edits(length)
    squeezed = no_edits(length - max(0, spaces))
    return {"raw": same, "canonical": same, "squeezed": squeezed}, no_edits(spaces + 1)


def _flags_of_line(
    result: LineResult, reference: str, missing: set[str], charset: Charset | None
) -> tuple[str, ...]:
    flags: tuple[str, ...] = ()
    if (missing and not missing.isdisjoint(reference)) or (charset is None and result.oov):
        flags = ("oov_ref",)
    if result.not_in_store:
        flags = (*flags, "not_in_store")
    if result.squash_ratio > 1.0:
        flags = (*flags, "over_wide")
    # No text needs more than twice its length.
    few_frames = result.frames is not None and result.frames < 2 * len(reference)
    if few_frames and frames_needed(reference) > (result.frames or 0):
        flags = (*flags, "ctc_infeasible")
    return flags


def width_band(result: LineResult) -> str:
    """Return the band of a line's width before squashing: `<=320`, … `>1792`, or `unknown`."""
    if result.width is None:
        return WIDTH_NAMES[-1]
    return _width_name(result.width, result.squash_ratio)


@lru_cache(maxsize=8192)  # widths are multiples of a few pixels: there are some hundreds
def _width_name(width: int, squash_ratio: float) -> str:
    return WIDTH_NAMES[bisect_left(WIDTH_BANDS, round(width * squash_ratio))]


def squash_band(result: LineResult) -> str:
    """Return the band of how many times a line was too wide: `fits`, `<=1.25`, … `>2`."""
    if result.squash_ratio <= SQUASH_BANDS[0]:
        return SQUASH_NAMES[0]
    return SQUASH_NAMES[bisect_left(SQUASH_BANDS, result.squash_ratio)]


def document_of_source(source: str) -> str:
    """Return the document of a source `document`, `document:page` or `document:page:row`."""
    return source.split(":", 1)[0]


def documents_of(scores: Iterable[LineScore]) -> list[str] | None:
    """Return the source document of each line, None when one of them is not known."""
    documents = [document_of_source(score.result.source) for score in scores]
    if documents and all(documents):
        return documents
    return None


def worst(scores: Iterable[LineScore], count: int) -> list[LineScore]:
    """Return the `count` failures with the most edits (then the highest share of wrong characters),
    worst first.
    """

    def badness(score: LineScore) -> tuple[int, float]:
        edits = score.edits[HEADLINE]
        return edits.distance, edits.distance / max(1, edits.reference_length)

    failures = (score for score in scores if not score.exact)
    return sorted(failures, key=badness, reverse=True)[:count]
