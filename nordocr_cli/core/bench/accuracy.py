"""Which recognizer of a bench reads better: the verdict of eval, compare3way and promote, by
document.
"""

from collections.abc import Sequence

from nordocr_cli.core.bench.lines import Lines
from nordocr_cli.core.bench.result import Accuracy
from nordocr_cli.core.eval.against import compare_scores
from nordocr_cli.metrics.score import LineScore, score_lines
from nordocr_cli.records import LineResult, Recognition


def compare_accuracy(
    source: Lines,
    names: Sequence[str],
    readings: Sequence[Sequence[Recognition]],
    reference: int,
) -> tuple[Accuracy, ...]:
    """Compare what each recognizer read with what the recognizer number `reference` read, on the
    lines whose text is known; () where no text is.

    `names` and `readings` have one entry for each recognizer; a reading has one for each line.
    """
    if not any(source.texts):
        return ()

    scores = [_score(source, of_recognizer) for of_recognizer in readings]
    return tuple(
        Accuracy(
            name=name,
            other=names[reference],
            comparison=compare_scores(scores[reference], scores[number]),
        )
        for number, name in enumerate(names)
        if number != reference
    )


def _score(source: Lines, readings: Sequence[Recognition]) -> list[LineScore]:
    rows = zip(source.texts, readings, source.documents, strict=True)
    return score_lines(
        [
            LineResult(str(number), text, reading.text, source=document)
            for number, (text, reading, document) in enumerate(rows)
        ]
    )
