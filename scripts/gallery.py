#!/usr/bin/env python3
"""Draw the lines that a recognizer reads worst, as its eval left them: no line is chosen by hand.

    python scripts/gallery.py default-on-dev.lines.jsonl --images data/dev -o docs/worst-lines.png

Each crop is followed by its reference and hypothesis, with the differences marked. `--images` is
the folder that the ids are relative to. The order is by wrong characters, then by their share of
the line, then by id.
"""

import argparse
import io
import json
import re
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from nordocr_cli import atomic
from nordocr_cli.charset import NORDIC
from nordocr_cli.data.synth.fonts import label_font
from nordocr_cli.metrics.text import marked_difference

# Lengths in pixels.
WIDTH = 1100
MARGIN = 10
LINE = 20
TALLEST = 40
# Colours in RGB.
PAPER = (255, 255, 255)
INK = (20, 20, 20)
SOFT = (120, 120, 120)
WRONG = (176, 0, 32)


def worst(lines: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The `count` lines with the most edits, of those that have any."""
    wrong = [line for line in lines if line["edits"]]
    return sorted(
        wrong,
        key=lambda line: (
            -line["edits"],
            -line["edits"] / max(1, line["characters"]),
            line["id"],
        ),
    )[:count]


def card(line: dict[str, Any], images: Path, font: Any) -> Image.Image:
    """One line: its crop, the marked text, and where it is from."""
    with Image.open(images / line["id"]) as opened:
        crop = opened.convert("RGB")
    scale = min(TALLEST / crop.height, (WIDTH - 2 * MARGIN) / crop.width)
    crop = crop.resize(
        (max(1, round(crop.width * scale)), max(1, round(crop.height * scale))),
        Image.Resampling.LANCZOS,
    )
    marked = textwrap.wrap(
        marked_difference(line["reference"], line["hypothesis"]), 150, drop_whitespace=False
    )
    picture = Image.new(
        "RGB", (WIDTH, crop.height + LINE * (len(marked) + 1) + 2 * MARGIN), PAPER
    )
    picture.paste(crop, (MARGIN, MARGIN))
    draw = ImageDraw.Draw(picture)
    y = MARGIN + crop.height + 4
    inside = False
    for row in marked:
        x: float = MARGIN
        for piece in re.split("([⟦⟧])", row):
            inside = inside or piece == "⟦"
            # text faces lack these signs
            shown = {"⟦": "[", "⟧": "]"}.get(
                piece, piece.replace("∅", "-").replace("␣", "_")
            )
            draw.text((x, y), shown, fill=WRONG if inside else INK, font=font)
            x += draw.textlength(shown, font=font)
            inside = inside and piece != "⟧"
        y += LINE
    where = "{id}, {language}, {subset}, {width} px, {edits} of {characters} characters".format_map(
        line
    )
    draw.text((MARGIN, y), where, fill=SOFT, font=font)
    return picture


def main() -> None:
    """Draw the gallery and write it as PNG."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lines", type=Path, help="the .lines.jsonl of an eval")
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12)
    args = parser.parse_args()
    lines = [
        json.loads(line) for line in args.lines.read_text(encoding="utf-8").splitlines()
    ]
    cards = [
        card(line, args.images, label_font(NORDIC, 14)) for line in worst(lines, args.count)
    ]
    sheet = Image.new("RGB", (WIDTH, sum(c.height for c in cards)), PAPER)
    y = 0
    for picture in cards:
        sheet.paste(picture, (0, y))
        y += picture.height
    content = io.BytesIO()
    sheet.quantize(64).save(content, "PNG", optimize=True)
    atomic.write_bytes(args.output, content.getvalue())
    print(
        f"{len(cards)} of {sum(line['edits'] > 0 for line in lines)} wrong lines in {args.output}"
    )


if __name__ == "__main__":
    main()
