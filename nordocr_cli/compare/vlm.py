"""A vision-language model as a reader: recorded answers, new ones from a server, and their cost.

Each answer is recorded at once, so an interrupted run asks only for the rest.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from nordocr_cli.compare.answers import PROMPT, AnswerFile, Question
from nordocr_cli.compare.endpoint import Endpoint
from nordocr_cli.compare.reply import Answer
from nordocr_cli.progress import SILENT, Progress


@dataclass(frozen=True)
class Answers:
    """One answer for each question, and what they took: requests sent, and how many failed in which
    way.
    """

    answers: tuple[Answer, ...]
    requests: int = 0
    failures: tuple[tuple[str, int], ...] = ()


def estimate_tokens(
    questions: Sequence[Question], answers: AnswerFile
) -> tuple[int, int, bool]:
    """Return about how many tokens these questions take in and out, and whether that rests on
    recorded answers' counts.

    Without those, a picture counts as a token per 750 pixels and 85 more, a line as half the tokens
    that it may have.
    """
    reported, tokens_in, tokens_out = answers.tokens()
    if reported:
        count = len(questions)
        return (
            round(count * tokens_in / reported),
            round(count * tokens_out / reported),
            True,
        )
    pictures = sum(85 + q.height * q.width // 750 + len(PROMPT) // 3 for q in questions)
    return pictures, sum(q.params["max_tokens"] for q in questions) // 2, False


def ask(
    questions: Sequence[Question],
    answers: AnswerFile,
    server: Endpoint | None,
    progress: Progress = SILENT,
) -> Answers:
    """Return one answer for each question: recorded ones from `answers`, the rest from `server`
    (None: `unanswered`).

    Each reply is recorded as it comes, also one that is no reading: the model would give it again.
    Time-outs and faults are not recorded, so a later run asks again. Identical crops are asked
    once. A line that the server refuses is `failed`. Raises MissingBackendError when the server
    cannot be reached or stops answering, UsageError when it refuses every line.
    """
    missing = {
        question.key(answers.model): question
        for question in questions
        if question not in answers
    }
    if server is None or not missing:
        return Answers(tuple(answers.get(question) for question in questions))

    from nordocr_cli.compare.vlm_client import Client

    failed: dict[str, Answer] = {}
    with Client(server, answers) as client:
        progress.start("asking", len(missing))
        pool = ThreadPoolExecutor(server.workers)
        futures = {
            pool.submit(client.ask, question): key for key, question in missing.items()
        }
        try:
            for future in as_completed(futures):
                answer = future.result()
                if answer is not None:
                    failed[futures[future]] = answer
                progress.advance()
        finally:
            client.stop.set()  # what is being answered now is still recorded
            pool.shutdown(cancel_futures=True)
            progress.finish()
        client.require_some_answer()

    found = (
        failed.get(question.key(answers.model)) or answers.get(question)
        for question in questions
    )
    return Answers(tuple(found), client.requests, tuple(sorted(client.failures.items())))
