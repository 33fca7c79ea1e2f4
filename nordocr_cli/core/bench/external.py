"""Any other program as one more engine: it receives a page image and prints the consumer's result
JSON.
"""

import shlex
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from nordocr_cli.compare.align import align
from nordocr_cli.data.layouts.readers import read_layout
from nordocr_cli.errors import DataError, MissingBackendError, UsageError
from nordocr_cli.metrics.text import canonical
from nordocr_cli.records import Page

PAGE = "{page}"
_PATIENCE_S = 600


@dataclass(frozen=True)
class External:
    """The pages that a program read, and the seconds for all of them, one value per round."""

    name: str
    pages: tuple[Page, ...]
    runs_s: tuple[float, ...]


def parse_command(command: str) -> list[str]:
    """Split a command that contains `{page}` into its words. Raises UsageError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--external {command!r}: {error}") from None
    if not any(PAGE in word for word in words):
        raise UsageError(
            f"--external {command!r} contains no {PAGE}; write e.g. 'nordocr process {PAGE}"
            f" --format"
            " json'"
        )
    return words


def require_program(command: str) -> None:
    """Raise MissingBackendError when the program does not exist."""
    program = parse_command(command)[0]
    if shutil.which(program) is None:
        raise MissingBackendError(
            f"--external: {program} does not start: no such program on PATH, or it may not be"
            " executed"
        )


def run_external(command: str, document: Path, rounds: int) -> External:
    """Run `command` on every page of a document, `rounds` times. Each page is written as a PNG, and
    its path replaces `{page}`. Raises MissingBackendError when there is no such program, DataError
    when it fails or prints no result.
    """
    import cv2

    from nordocr_cli.data.documents import read_pages

    words = parse_command(command)
    name = Path(words[0]).name
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for index, image in enumerate(read_pages(document)):
            file = Path(folder) / f"page{index}.png"
            cv2.imwrite(str(file), image[:, :, ::-1])
            files.append(str(file))
        commands = [[word.replace(PAGE, file) for word in words] for file in files]

        runs = []
        pages = []
        for _ in range(rounds):
            began = time.perf_counter()
            printed = [_run(name, command) for command in commands]
            runs.append(time.perf_counter() - began)
        for index, text in enumerate(printed):
            result = Path(folder) / f"{name}, page {index}.json"
            result.write_bytes(text)
            try:
                found = read_layout(result)
            except DataError as error:
                message = str(error).replace(str(result), "its output")
                raise DataError(
                    f"{name} printed no result for page {index + 1}: {message}"
                ) from error
            regions = tuple(region for page in found.pages for region in page.regions)
            pages.append(Page(index, regions))
    return External(name, tuple(pages), tuple(runs))


def _run(name: str, words: list[str]) -> bytes:
    try:
        done = subprocess.run(words, capture_output=True, timeout=_PATIENCE_S, check=False)
    except OSError as error:
        raise MissingBackendError(
            f"--external: {words[0]} does not start ({error})"
        ) from error
    except subprocess.TimeoutExpired:
        raise DataError(
            f"{name} did not end within {_PATIENCE_S} s: {shlex.join(words)}"
        ) from None
    if done.returncode:
        stderr_lines = done.stderr.decode(errors="replace").strip().splitlines()
        last_line = stderr_lines[-1] if stderr_lines else "no message"
        raise DataError(
            f"{name} ended with {done.returncode} ({last_line}): {shlex.join(words)}"
        )
    return done.stdout


def exact_regions(truth: tuple[Page, ...], read: tuple[Page, ...]) -> int | None:
    """Return how many regions of the reference were read exactly; None without texts. Regions are
    matched by their overlap.
    """
    if not any(region.text for page in truth for region in page.regions):
        return None
    by_index = {page.index: page.regions for page in read}
    groups = [
        group
        for page in truth
        for group in align(page.regions, by_index.get(page.index, ()))
    ]
    texts = [(group.text(0), group.text(1)) for group in groups]
    return sum(
        a is not None and b is not None and canonical(a) == canonical(b) for a, b in texts
    )
