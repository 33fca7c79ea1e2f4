"""What `nordocr train` does instead of training: a picture of the first batches, the learning-rate
range test, the test of --resume.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from nordocr_cli.console import Console
from nordocr_cli.errors import GateMissed

if TYPE_CHECKING:
    from nordocr_cli.core.train.request import TrainRequest
    from nordocr_cli.profile import ResolvedProfile


def words_without(option: str) -> list[str]:
    """The words of this command, `option` and its value left out."""
    words = sys.argv[1:]
    for at, word in enumerate(words):
        if word == option or word.startswith(f"{option}="):
            return words[:at] + words[at + (1 if "=" in word else 2) :]
    return words


def preview(
    console: Console,
    resolved: "ResolvedProfile | None",
    request: "TrainRequest",
    output: Path,
) -> None:
    """Draw the first batches."""
    from nordocr_cli.core.train.preview import preview_batch

    result = preview_batch(resolved, request, output, progress=console)
    if console.as_json:
        console.json(result.to_json())
    else:
        padding = f"{result.padding_share:.1%} of an epoch's pixels are padding"
        console.line(
            f"{output}: {result.samples} samples of {result.batches} batches; {padding}"
        )
    console.next("nordocr", *words_without("--preview-batch"))


def try_rates(
    console: Console,
    resolved: "ResolvedProfile | None",
    request: "TrainRequest",
    output: Path,
) -> None:
    """Find a learning rate. Raises GateMissed when none lowers the loss."""
    from nordocr_cli.core.train.lr_range import lr_range

    result = lr_range(resolved, request, output, progress=console)
    if console.as_json:
        console.json(result.to_json())
    else:
        console.line(
            f"{output}: {len(result.rates)} steps at {result.rates[0]:.0e} to"
            f" {result.rates[-1]:.0e}; {result.verdict}"
        )
    if result.lr is None:
        raise GateMissed(f"learning-rate range test {result.verdict}")
    console.next(
        "nordocr", *words_without("--lr-range"), "--set", f"train.lr={result.lr:g}"
    )


def selftest(
    console: Console, resolved: "ResolvedProfile | None", request: "TrainRequest"
) -> None:
    """Show that a resumed run computes what a run without a stop does. Raises GateMissed when it
    does not.
    """
    from nordocr_cli.core.train.selftest import selftest_resume

    result = selftest_resume(resolved, request, progress=console)
    if console.as_json:
        console.json(result.to_json())
    else:
        losses = zip(result.whole, result.resumed, strict=False)
        rows = []
        for step, (uninterrupted, resumed) in enumerate(losses, start=1):
            remark = "resumed" if step > result.cut else ""
            rows.append((step, f"{uninterrupted:.9f}", f"{resumed:.9f}", remark))
        console.table(
            "losses",
            ("step", "never stopped", "stopped and resumed", ""),
            rows,
            right=(0, 1, 2),
        )
        console.line(result.verdict)
    if result.verdict.startswith("failed"):
        raise GateMissed(f"self-test of --resume {result.verdict}")
    console.next("nordocr", *(word for word in sys.argv[1:] if word != "--selftest-resume"))
