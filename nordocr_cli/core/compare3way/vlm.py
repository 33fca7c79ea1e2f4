"""The VLM of compare3way: one question a line, answers that are kept, and what they cost."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from nordocr_cli.compare.answers import AnswerFile, Question
from nordocr_cli.compare.endpoint import Endpoint
from nordocr_cli.compare.reply import Answer
from nordocr_cli.compare.verdict import ComparedLine
from nordocr_cli.compare.vlm import Answers, ask, estimate_tokens
from nordocr_cli.errors import DataError
from nordocr_cli.progress import Progress

if TYPE_CHECKING:
    from nordocr_cli.data.documents import Document


def questions_of(lines: Sequence[ComparedLine], pages: "Document") -> Iterator[Question]:
    """Yield the question about each line, a crop of its page, in the order of `lines`."""
    from nordocr_cli.compare.answers import question
    from nordocr_cli.data.documents import crop_box

    for index in dict.fromkeys(line.page_index for line in lines):
        page = pages[index]
        yield from (
            question(crop_box(page, line.box), index, line.box)
            for line in lines
            if line.page_index == index
        )


def ask_missing(
    questions: Sequence[Question],
    answers: AnswerFile,
    server: Endpoint | None,
    offline: bool,
    progress: Progress,
) -> Answers:
    """Ask `server` for what `answers` has not recorded, and say what it takes before and after.

    Raises DataError when an answer is missing `offline`, and what `vlm.ask` raises.
    """
    if answers.damaged:
        progress.note(
            f"{answers.path}: {answers.damaged} lines in it are not complete answers and are passed"
            " over"
        )
    unanswered = [
        q for q in {q.key(answers.model): q for q in questions}.values() if q not in answers
    ]
    if offline and unanswered:
        places = [
            f"page {q.page_index + 1} at x {q.box.x:g}, y {q.box.y:g}" for q in unanswered
        ]
        listed = "; ".join(places[:10]) + (
            f"; and {len(places) - 10} more" if len(places) > 10 else ""
        )
        raise DataError(
            f"{answers.path} lacks the answers for {len(places)} lines: {listed}"
        )
    if server and unanswered:
        into, out, counted = estimate_tokens(unanswered, answers)
        if counted:
            basis = "estimated from the recorded answers"
        else:
            basis = "a guess, until there are answers"
        progress.note(
            f"sending {len(unanswered)} line crops to {server.url}"
            f" ({len(questions) - len(unanswered)} already answered): about {into:,} tokens in and"
            f" {out:,} out, {basis}{_cost(server, into, out)}"
        )
    outcome = ask(questions, answers, server, progress)
    if server and outcome.requests:
        answered, into, out = answers.tokens(unanswered)
        failed = ", ".join(f"{count} {what}" for what, count in outcome.failures)
        retried = f" ({failed}, tried again)" if failed else ""
        progress.note(
            f"{outcome.requests} requests{retried}; {into:,} tokens in and {out:,} out, as"
            f" reported by {answered} answers{_cost(server, into, out)}"
        )
    return outcome


def _cost(server: Endpoint, into: int, out: int) -> str:
    if server.price:
        return (
            f", which costs {(into * server.price[0] + out * server.price[1]) / 1000:.2f}"
        )
    return ""


def with_answers(
    lines: Sequence[ComparedLine], answers: Sequence[Answer], progress: Progress
) -> list[ComparedLine]:
    """Add the VLM's readings to those of the engines, and warn of lines without one."""
    read = []
    for line, answer in zip(lines, answers, strict=True):
        text = answer.text if answer.status == "ok" else None
        read.append(
            replace(
                line,
                readings=(*line.readings, text),
                vlm=(answer.status, answer.reason, answer.rules),
            )
        )
    wanting: dict[str, int] = {}
    for answer in answers:
        if answer.status != "ok":
            wanting[answer.status] = wanting.get(answer.status, 0) + 1
    if wanting:
        progress.warn(
            "the VLM has no reading of some lines: "
            + ", ".join(f"{n} {status}" for status, n in wanting.items())
        )
    return read
