"""A program of another kind as one more engine: it gets a page image and prints the consumer's
result JSON.
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
    """What a program read: its pages, and seconds for all of them, one value a round."""

    name: str
    pages: tuple[Page, ...]
    runs_s: tuple[float, ...]


def parse_command(command: str) -> list[str]:
    """Return the words of a command with `{page}` in it. Raises UsageError."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--external {command!r}: {error}") from None
    if not any(PAGE in word for word in words):
        raise UsageError(
            f"--external {command!r} names no {PAGE}; write e.g. 'nordocr process {PAGE} --format"
            " json'"
        )
    return words


def require_program(command: str) -> None:
    """Raise MissingBackendError when there is no such program."""
    if shutil.which(program := parse_command(command)[0]) is None:
        raise MissingBackendError(
            f"--external: {program} does not start: no such program on PATH, or it may not be"
            " executed"
        )


def run_external(command: str, document: Path, rounds: int) -> External:
    """Run `command` on every page of a document, `rounds` times; a page is a PNG whose path takes
    the place of `{page}`.

    Raises MissingBackendError when there is no such program, DataError when it fails or prints no
    result.
    """
    import cv2

    from nordocr_cli.data.documents import read_pages

    words = parse_command(command)
    name = Path(words[0]).name
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for index, image in enumerate(read_pages(document)):
            files.append(Path(folder) / f"page{index}.png")
            cv2.imwrite(str(files[-1]), image[:, :, ::-1])
        runs, pages = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            printed = [
                _run(name, [word.replace(PAGE, str(file)) for word in words])
                for file in files
            ]
            runs.append(time.perf_counter() - began)
        for index, text in enumerate(printed):
            result = Path(folder) / f"{name}, page {index}.json"
            result.write_bytes(text)
            try:
                found = read_layout(result)
            except DataError as error:
                told = str(error).replace(str(result), "its output")
                raise DataError(
                    f"{name} printed no result for page {index + 1}: {told}"
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
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise DataError(
            f"{name} ended with {done.returncode} ({said[-1] if said else 'it said nothing'}):"
            f" {shlex.join(words)}"
        )
    return done.stdout


def exact_regions(truth: tuple[Page, ...], read: tuple[Page, ...]) -> int | None:
    """Return how many regions of the truth were read exactly, regions matched by how they overlap;
    None without texts.
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
