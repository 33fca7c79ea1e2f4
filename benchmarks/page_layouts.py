"""Pages that are laid out and scanned for benchmarks/pages.py: their pixels, and the lines on them
in reading order.

A page is drawn at its resolution (report, invoice, letter, columns, tables with and without rules,
form, typewriter page), scanned (bilevel, gray, fax, photograph) and put under one of CONDITIONS.
"""

import random
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.synth.figures import amount, date, digits
from nordocr_cli.data.synth.phrases import sentence
from nordocr_cli.data.synth.vocabulary import DANISH, NORWEGIAN, SWEDISH

Gray = NDArray[np.uint8]

A4_INCHES = (8.27, 11.69)
SANS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "LiberationSansNarrow-Regular.ttf")
SERIF = ("LiberationSerif-Regular.ttf", "DejaVuSerif.ttf")
MONO = ("LiberationMono-Regular.ttf", "DejaVuSansMono.ttf")
_LONGEST_NUMBER = 10  # characters of an amount in a table
VOCABULARIES = (SWEDISH, NORWEGIAN, DANISH)
CONDITIONS = ("upright", "+2", "-2", "+5", "-5", "90", "180", "270", "specks", "border")


def in_charset(text: str) -> str:
    """The text with single spaces, and é as e and the like: this is about finding lines, and the
    recognizer that ships has the letters of Swedish, Norwegian and Danish only.
    """
    known = set(NORDIC.characters)
    letters = []
    for letter in " ".join(text.split()):
        if letter not in known:
            letter = unicodedata.normalize("NFD", letter)[0]
        letters.append(letter if letter in known else "x")
    return "".join(letters)


@dataclass
class Sheet:
    """A page while it is drawn: points are turned into pixels at its resolution."""

    dpi: int
    font: str
    size_pt: float
    rng: random.Random
    image: Image.Image = field(init=False)
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.image = Image.new(
            "L", tuple(round(side * self.dpi) for side in A4_INCHES), 255
        )
        self.pen = ImageDraw.Draw(self.image)

    def px(self, points: float) -> int:
        """Points as pixels."""
        return round(points * self.dpi / 72)

    def typeface(self, factor: float = 1.0) -> ImageFont.FreeTypeFont:
        """The font of the page, scaled."""
        return ImageFont.truetype(self.font, max(5, self.px(self.size_pt * factor)))

    def width_pt(self, text: str, factor: float = 1.0) -> float:
        """Width of a text in points."""
        return self.typeface(factor).getlength(text) * 72 / self.dpi

    def write(self, text: str, x: float, y: float, factor: float = 1.0) -> None:
        """Write a line, its top left corner in points; lines are read in the order of the calls."""
        text = in_charset(text)
        self.pen.text((self.px(x), self.px(y)), text, font=self.typeface(factor), fill=0)
        self.lines.append(text)

    def write_right(self, text: str, right: float, y: float) -> None:
        """Write a line that ends at `right` points."""
        self.write(text, right - self.width_pt(in_charset(text)), y)

    def rule(self, x0: float, y0: float, x1: float, y1: float) -> None:
        """Draw a rule of two thirds of a point."""
        box = (self.px(x0), self.px(y0), self.px(x1), self.px(y1))
        self.pen.line(box, fill=0, width=max(1, self.px(0.66)))

    def wrapped(self, words: list[str], width: float) -> list[str]:
        """Words as lines of at most `width` points."""
        lines, current = [], ""
        for word in words:
            longer = f"{current} {word}".strip()
            if current and self.width_pt(longer) > width:
                lines.append(current)
                longer = word
            current = longer
        return [*lines, current]

    def prose(self, x: float, y: float, width: float, bottom: float) -> float:
        """Fill a column with paragraphs down to `bottom`; return where it ends."""
        step = self.size_pt * 1.45
        vocabulary = self.rng.choice(VOCABULARIES)
        while y + 3 * step < bottom:
            text = " ".join(
                sentence(self.rng, vocabulary, vocabulary.language)
                for _ in range(self.rng.randint(2, 5))
            )
            for line in self.wrapped(text.split(), width):
                if y + step > bottom:
                    return y
                self.write(line, x, y)
                y += step
            y += step * 0.6
        return y


def report(sheet: Sheet) -> None:
    """Headings and prose over the width of the page."""
    y = 60.0
    for _ in range(3):
        sheet.write(sheet.rng.choice(SWEDISH.headings), 60, y, 1.5)
        y = sheet.prose(60, y + 30, 470, min(760, y + 230)) + 14


def two_columns(sheet: Sheet) -> None:
    """A title over two columns, and a footer."""
    sheet.write(sheet.rng.choice(SWEDISH.headings), 60, 50, 1.8)
    sheet.prose(60, 95, 225, 740)
    sheet.prose(310, 95, 225, 740)
    sheet.write(
        f"{sheet.rng.choice(SWEDISH.companies)} sida {sheet.rng.randint(1, 90)}", 240, 780
    )


def three_columns(sheet: Sheet) -> None:
    """A newsletter of three narrow columns."""
    sheet.write(
        f"Nyhetsbrev {sheet.rng.randint(1, 12)}/{sheet.rng.randint(2001, 2024)}", 60, 50, 2
    )
    for left in (50, 222, 394):
        sheet.prose(left, 100, 155, 750)


def letter(sheet: Sheet) -> None:
    """Sender, receiver, date, prose, and a signature."""
    rng, y = sheet.rng, 50.0
    step = sheet.size_pt * 1.45
    for text in (rng.choice(SWEDISH.companies), _street(rng), _town(rng)):
        sheet.write(text, 60, y)
        y += step
    y += 2 * step
    for text in (rng.choice(SWEDISH.people), _street(rng), _town(rng)):
        sheet.write(text, 330, y)
        y += step
    sheet.write(f"{rng.choice(SWEDISH.places)} den {date(rng, SWEDISH)}", 60, y + step)
    y = sheet.prose(60, y + 4 * step, 460, 620)
    sheet.write("Med vänlig hälsning", 60, y + step)
    sheet.write(rng.choice(SWEDISH.people), 60, y + 4 * step)


def invoice(sheet: Sheet) -> None:
    """Company and customer, a table of items with rules, totals."""
    rng, step = sheet.rng, sheet.size_pt * 1.6
    sheet.write("Faktura", 60, 45, 2)
    y = 95.0
    for label in ("Fakturanummer", "Fakturadatum", "Kundnummer", "Er referens"):
        sheet.write(f"{label}:", 60, y)
        sheet.write(
            rng.choice((digits(rng, 6), date(rng, SWEDISH), digits(rng, 4))), 180, y
        )
        y += step
    y += step
    right_edges = (330, 400, 470, 535)
    sheet.rule(55, y - 4, 540, y - 4)
    sheet.write("Benämning", 60, y)
    for text, right in zip(
        ("Antal", "Enhet", "À-pris", "Belopp"), right_edges, strict=True
    ):
        sheet.write_right(text, right, y)
    y += step
    sheet.rule(55, y - 4, 540, y - 4)
    for _ in range(rng.randint(8, 18)):
        sheet.write(rng.choice(SWEDISH.items), 60, y)
        cells = (
            digits(rng, 2),
            rng.choice(("st", "tim", "kg")),
            _number(rng),
            _number(rng),
        )
        for text, right in zip(cells, right_edges, strict=True):
            sheet.write_right(text, right, y)
        y += step
    sheet.rule(55, y - 2, 540, y - 2)
    for label in ("Netto", "Moms 25 %", "Att betala"):
        sheet.write(label, 380, y + 6)
        sheet.write_right(_number(rng), 535, y + 6)
        y += step


def statement(sheet: Sheet) -> None:
    """A balance sheet: accounts, notes and two years, without rules."""
    rng, y, step = sheet.rng, 60.0, sheet.size_pt * 1.5
    sheet.write("Balansräkning", 60, y, 1.6)
    y += 2.5 * step
    sheet.write("Not", 330, y)
    sheet.write_right("2023-12-31", 450, y)
    sheet.write_right("2022-12-31", 535, y)
    y += step
    while y < 760:
        if rng.random() < 0.15:
            y += step * 0.5
            sheet.write(rng.choice(SWEDISH.headings), 60, y)
        else:
            sheet.write(rng.choice(SWEDISH.accounts)[:38], 60, y)
            if rng.random() < 0.3:
                sheet.write(str(rng.randint(1, 30)), 332, y)
            sheet.write_right(_number(rng), 450, y)
            sheet.write_right(_number(rng), 535, y)
        y += step


def ruled_table(sheet: Sheet) -> None:
    """A table with rules around each cell, some of them empty."""
    rng, y, step = sheet.rng, 70.0, sheet.size_pt * 1.9
    columns = (60, 230, 310, 390, 470, 540)
    sheet.write(rng.choice(SWEDISH.headings), 60, 40, 1.4)
    rows = rng.randint(14, 26)
    for row in range(rows):
        sheet.rule(columns[0], y, columns[-1], y)
        texts = [rng.choice(SWEDISH.accounts)[:24], *(_number(rng) for _ in range(4))]
        if row == 0:
            texts = ["Post", "2023", "2022", "2021", "2020"]
        sheet.write(texts[0], columns[0] + 5, y + step * 0.2)
        for text, right in zip(texts[1:], columns[2:], strict=True):
            if row == 0 or rng.random() < 0.8:
                sheet.write_right(text, right - 5, y + step * 0.2)
        y += step
    sheet.rule(columns[0], y, columns[-1], y)
    for x in columns:
        sheet.rule(x, 70, x, y)


def form(sheet: Sheet) -> None:
    """Boxes with small labels and values below."""
    rng, y = sheet.rng, 60.0
    sheet.write("Ansökan om tillstånd", 60, y, 1.5)
    y += 40
    height = sheet.size_pt * 3.4
    for _ in range(10):
        split = rng.choice((200, 300, 380))
        for left, right in ((60, split), (split, 540)):
            sheet.rule(left, y, right, y)
            sheet.rule(left, y, left, y + height)
            label = rng.choice(SWEDISH.labels)
            sheet.write(label[: max(4, int((right - left) / 7))], left + 4, y + 3, 0.75)
        sheet.rule(540, y, 540, y + height)
        for left in (60, split):
            value = rng.choice(
                (digits(rng, 5), rng.choice(SWEDISH.places), date(rng, SWEDISH))
            )
            sheet.write(value, left + 4, y + sheet.size_pt * 1.6)
        y += height
    sheet.rule(60, y, 540, y)


def typewriter(sheet: Sheet) -> None:
    """Lines of a typewriter, with tabulators."""
    rng, y, step = sheet.rng, 70.0, sheet.size_pt * 1.7
    for label in ("Till:", "Från:", "Datum:", "Ärende:"):
        value = rng.choice((*SWEDISH.people, *SWEDISH.companies))
        sheet.write(f"{label} {value}", 70, y)
        y += step
    sheet.prose(70, y + step, 430, 700)


LAYOUTS: tuple[Callable[[Sheet], None], ...] = (
    report,
    two_columns,
    three_columns,
    letter,
    invoice,
    statement,
    ruled_table,
    form,
    typewriter,
)


def _number(rng: random.Random) -> str:
    """An amount that fits a column."""
    while True:
        text = " ".join(amount(rng, SWEDISH).split())
        if len(text) <= _LONGEST_NUMBER:
            return text


def _street(rng: random.Random) -> str:
    return f"{rng.choice(SWEDISH.streets)} {rng.randint(1, 99)}"


def _town(rng: random.Random) -> str:
    return f"{digits(rng, 3)} {digits(rng, 2)} {rng.choice(SWEDISH.places)}"


# Scanning ------------------------------------------------------------------------------------


def bilevel(page: Gray, rng: np.random.Generator) -> Gray:
    """Black and white at a threshold."""
    soft = cv2.GaussianBlur(page, (0, 0), 0.7)
    noisy = soft + rng.normal(0, 8, page.shape)
    return np.where(noisy > 150, 255, 0).astype(np.uint8)


def gray(page: Gray, rng: np.random.Generator) -> Gray:
    """Gray paper and ink, a little noise."""
    soft = cv2.GaussianBlur(page, (0, 0), 0.8).astype(np.float32)
    shown = 45 + soft * (235 - 45) / 255 + rng.normal(0, 5, page.shape)
    return np.clip(shown, 0, 255).astype(np.uint8)


def fax(page: Gray, rng: np.random.Generator) -> Gray:
    """204 x 98 dots an inch, bilevel."""
    height, width = page.shape
    coarse = cv2.resize(
        page, (width, round(height * 98 / 204)), interpolation=cv2.INTER_AREA
    )
    return bilevel(coarse, rng)


def photograph(page: Gray, rng: np.random.Generator) -> Gray:
    """Uneven light, slight perspective, JPEG."""
    height, width = page.shape
    corners = np.array([(0, 0), (width, 0), (width, height), (0, height)], dtype=np.float32)
    moved = corners + rng.uniform(-0.012, 0.012, corners.shape).astype(np.float32) * width
    transform = cv2.getPerspectiveTransform(corners, moved)
    seen = cv2.warpPerspective(page, transform, (width, height), borderValue=255)
    y, x = np.mgrid[0:height, 0:width]
    light = 0.72 + 0.25 * np.cos((x / width - 0.3) * 1.6) * np.cos((y / height - 0.4) * 1.4)
    shown = (40 + cv2.GaussianBlur(seen, (0, 0), 1.0) * 0.8) * light + rng.normal(
        0, 6, page.shape
    )
    _, data = cv2.imencode(".jpg", np.clip(shown, 0, 255).astype(np.uint8), [1, 75])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


SCANS = {"bilevel": bilevel, "gray": gray, "fax": fax, "photo": photograph}


@dataclass(frozen=True)
class Scan:
    """A scanned page: its pixels, lines in reading order, and dots an inch across and down."""

    name: str
    kind: str
    pixels: Gray
    lines: tuple[str, ...]
    dpi: tuple[int, int]


def pages(every: int = 1) -> list[Scan]:
    """The 42 pages of the benchmark, always the same, or every so many of them."""
    plan = [
        *(("bilevel", 300, at) for at in range(9)),
        *(("gray", 300, at) for at in range(9)),
        *(("gray", 200, at) for at in (0, 1, 4, 5)),
        *(("bilevel", 200, at) for at in (2, 3, 6, 7)),
        *(("gray", 150, at) for at in (0, 4, 5, 8)),
        *(("bilevel", 600, at) for at in (1, 5)),
        *(("gray", 400, at) for at in (3, 6)),
        *(("fax", 204, at) for at in (0, 3, 4, 8)),
        *(("photo", 300, at) for at in (0, 3, 5, 6)),
    ]
    return [_page(number, *row) for number, row in enumerate(plan) if number % every == 0]


def _page(number: int, kind: str, dpi: int, layout: int) -> Scan:
    rng = random.Random(1000 + number)
    draw = LAYOUTS[layout]
    fonts = MONO if draw is typewriter else rng.choice((SANS, SERIF))
    size = rng.choice((9, 10, 11)) if dpi >= 200 else rng.choice((10, 11, 12))
    sheet = Sheet(dpi, rng.choice(fonts), size, rng)
    draw(sheet)
    pixels = SCANS[kind](np.asarray(sheet.image), np.random.default_rng(number))
    name = f"{number:02}-{draw.__name__}-{kind}-{dpi}"
    across, down = (204, 98) if kind == "fax" else (dpi, dpi)
    return Scan(name, f"{kind}-{dpi}", pixels, tuple(sheet.lines), (across, down))


def under(pixels: Gray, condition: str, dpi: tuple[int, int], seed: int) -> Gray:
    """Return the page as it lies under one of CONDITIONS."""
    if condition in ("90", "180", "270"):
        return np.ascontiguousarray(np.rot90(pixels, -int(condition) // 90))
    if condition in ("+2", "-2", "+5", "-5"):
        return _skewed(pixels, float(condition), dpi)
    if condition == "specks":
        return _with_specks(pixels, seed)
    return _with_border(pixels) if condition == "border" else pixels


def _skewed(pixels: Gray, degrees: float, dpi: tuple[int, int]) -> Gray:
    """Turned clockwise on paper, in the shape of the page on paper; still bilevel if it was."""
    height, width = pixels.shape
    shape = np.diag([1.0, dpi[0] / dpi[1], 1.0])  # square dots and back
    square_height = height * dpi[0] / dpi[1]
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D((width / 2, square_height / 2), -degrees, 1)
    matrix = np.linalg.inv(shape) @ turn @ shape
    paper = int(np.median(pixels))
    turned = cv2.warpAffine(pixels, matrix[:2], (width, height), borderValue=paper)
    is_bilevel = set(np.unique(pixels).tolist()) <= {0, 255}
    return np.where(turned > 127, 255, 0).astype(np.uint8) if is_bilevel else turned


def _with_specks(pixels: Gray, seed: int) -> Gray:
    """Dirt of one to four pixels, one in 2,500 pixels."""
    rng = np.random.default_rng(seed)
    speckled = pixels.copy()
    count = pixels.size // 2500
    xs, ys = (
        rng.integers(0, pixels.shape[1], count),
        rng.integers(0, pixels.shape[0], count),
    )
    sizes = rng.integers(1, 5, count)
    for x, y, size in zip(xs, ys, sizes, strict=True):
        speckled[y : y + size, x : x + size] = int(pixels.min())
    return speckled


def _with_border(pixels: Gray) -> Gray:
    """The dark edge of a scanner's lid on two sides."""
    height, width = pixels.shape
    bordered = pixels.copy()
    bordered[: height // 60] = int(pixels.min())
    bordered[:, -width // 40 :] = int(pixels.min())
    return bordered
