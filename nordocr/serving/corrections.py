"""Corrected lines become a manifest that `nordocr prep` and `nordocr finetune` take."""

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr.serving.library import Stored, page_pixels
from nordocr_cli.errors import DataError, UsageError

MANIFEST = "manifest.jsonl"
_MAX_TEXT = 2_000


@dataclass(frozen=True)
class Corrected:
    """What a person says stands on a line: `page` and `line` count from 0."""

    page: int
    line: int
    text: str


class CorrectionStore:
    """A folder with `manifest.jsonl` and the images of the lines; used from several threads.

    A line that is saved again replaces its earlier row.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()

    @property
    def manifest(self) -> Path:
        """The manifest: one JSON object per line with id, image, text and source."""
        return self.folder / MANIFEST

    def save(self, stored: Stored, lines: list[Corrected]) -> int:
        """Write lines of a document and return how many rows the manifest now has.

        Raises UsageError for a line that the document does not have or a text that is empty or too
        long, DataError for a full disk or a manifest that is damaged.
        """
        from nordocr_cli.atomic import make_folder, write_bytes, write_text
        from nordocr_cli.charset import to_nfc

        rows: dict[str, dict[str, Any]] = {}
        images: dict[Path, bytes] = {}
        for page_number in sorted({line.page for line in lines}):
            on_page = [line for line in lines if line.page == page_number]
            for line in on_page:
                _require_line(stored, line)
            pixels = page_pixels(stored, page_number)
            for line in on_page:
                key = f"{stored.key}-p{line.page + 1:04d}-l{line.line + 1:04d}"
                image = Path("images") / f"{key}.png"
                images[self.folder / image] = _crop_png(stored, line, pixels)
                rows[key] = {
                    "id": key,
                    "image": image.as_posix(),
                    "text": to_nfc(line.text),
                    "source": stored.name,
                }

        with self._lock:
            make_folder(self.folder / "images")
            for path, content in images.items():
                write_bytes(path, content)
            merged = {**self._rows(), **rows}
            text = "".join(
                json.dumps(row, ensure_ascii=False) + "\n" for row in merged.values()
            )
            write_text(self.manifest, text)
        return len(merged)

    def _rows(self) -> dict[str, dict[str, Any]]:
        from nordocr_cli.limits import read_json_lines

        if not self.manifest.exists():
            return {}
        rows = {}
        for number, row in read_json_lines(self.manifest, "manifest"):
            if not isinstance(row, Mapping) or not isinstance(row.get("id"), str):
                raise DataError(f"{self.manifest}:{number}: a row without an id; repair it")
            rows[row["id"]] = dict(row)
        return rows


def _require_line(stored: Stored, line: Corrected) -> None:
    pages = stored.document.pages
    if not 0 <= line.page < len(pages) or not 0 <= line.line < len(pages[line.page].lines):
        raise UsageError(f"{stored.name} has no line {line.line} on page {line.page}")
    if not line.text.strip():
        raise UsageError(f"line {line.line} on page {line.page}: the text is empty")
    if len(line.text) > _MAX_TEXT or "\n" in line.text:
        raise UsageError(
            f"line {line.line} on page {line.page}: one line of at most {_MAX_TEXT} characters"
        )


def _crop_png(stored: Stored, line: Corrected, pixels: Any) -> bytes:
    """Return the line, cut out as it was for reading, as PNG."""
    import cv2

    from nordocr_cli.pages.cut import cut_line

    crop = cut_line(pixels, stored.document.read_pages[line.page].lines[line.line].shape)
    done, content = cv2.imencode(".png", cv2.cvtColor(crop, cv2.COLOR_RGB2BGR))
    if not done:
        raise DataError(f"{stored.name}: line {line.line} cannot be written as PNG")
    return content.tobytes()
