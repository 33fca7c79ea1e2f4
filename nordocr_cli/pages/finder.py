"""Finding the lines of text on a page: detection, the turn of the page, rows and their pieces,
reading order.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from nordocr_cli.pages.cut import cut_line
from nordocr_cli.pages.detector import TextBox, TextDetector
from nordocr_cli.pages.ink import (
    gray_of,
    ink_areas,
    ink_mask,
    letter_height,
    letters_among,
)
from nordocr_cli.pages.leaders import Leader, find_leaders, painted_over
from nordocr_cli.pages.missed_print import darkened, find_missed_print
from nordocr_cli.pages.order import Span, paragraphs_of, reading_order, rows_of
from nordocr_cli.pages.outline import Outline
from nordocr_cli.pages.specks import find_specks
from nordocr_cli.pixels import Pixels
from nordocr_cli.records import Point, Recognition

Read = Callable[[Sequence[Pixels]], Sequence[Recognition]]  # reads cut lines

# The page is scaled so that its small letters are this high; the detector finds text of 5 px and
# more.
_DETECTED_LETTER_PX = 7.0
_MINIMUM_SCALE = 0.15
_MAXIMUM_SCALE = 2.0
_MAXIMUM_DETECTED_PIXELS = 9_000_000
# Larger pages, as of 600 dpi, are looked at smaller: A4 at 300 dpi has 9 million pixels.
_MAXIMUM_ANALYSED_PIXELS = 10_000_000
_REDUCED_BELOW_FACTOR = 0.85
# Blocks of missed print are looked at again where that makes them this many times larger or darker;
# so many pixels of a page at most.
_CLEARLY_CLOSER = 1.3
_MAXIMUM_MISSED_PIXELS = 4_000_000
# A box shows which way its text runs when one side is this many times as long as the other, and
# how much the text slopes when it is longer still.
_ASPECT_SHOWS_TURN = 1.8
_ASPECT_SHOWS_SLOPE = 4.0
# A piece that runs across the others is at least this many times as high as long, and as its page's
# typical line.
_CROSSWISE = 2.5
# A page that may be upside down has this many lines read both ways; the first few are enough where
# they read well.
_SAMPLED_LINES = 6
_FIRST_SAMPLED = 3
_SAMPLED_ASPECT = 24.0  # a longer line is cut to this many times its height
_UPRIGHT_CONFIDENCE = 0.9  # mean confidence above which the other way round is not tried
# Pieces of one line are joined over gaps of at most so many line heights.
_JOINED_GAP_OVER_TEXT = 5.0  # where text above or below runs across the gap
_JOINED_GAP_ALONE = 0.9  # elsewhere
# A narrow gap is a gutter when no line close by crosses it and several lines begin at its right
# end.
_GUTTER_WIDTH = 0.6  # its minimum width in line heights
_GUTTER_LINES = 4  # how many lines begin there
_GUTTER_REACH = 6.0  # how far away they may be, in line heights
_GUTTER_EDGE = 0.25  # how exactly they begin there, in line heights
_SAME_HEIGHT = 1.6
# A leader of dots joins the pieces on its row that end or begin close to it.
_LEADER_ROW = 0.6  # the row: this share of their height around their middle
_LEADER_REACH = 1.5  # close: so many heights, and a step of the dots
# The slope of a page is refined in these steps.
_SKEW_STEP_DEGREES = 0.05
_SKEW_STEPS = 24
_ROWS_A_LETTER = 6  # rows of the profile for the height of a letter
# A page lies on its side when its letters form columns this many times as clearly as rows.
_SIDEWAYS_RATIO = 1.3
_SEARCHED_DEGREES = 6.0  # the largest skew that is looked for
_FEW_LETTERS = 20  # with fewer the page counts as upright
# Single characters that the detector missed.
_MAXIMUM_RESCUED = 100  # of a page
_RESCUED_LINE_LETTERS = 2.2  # the height of their line in heights of small letters
_RESCUED_CONFIDENCE = 0.85  # the confidence that they must be read with
_DASHES = ("-", "–", "—")
_SPECK_PX = 8
_COARSE = 4  # covered parts of a page are drawn this many times smaller
# Lines share the slope of their page unless their own differs by more.
_OWN_SLOPE_DEGREES = 0.8
_RULE_SHARE = 0.85  # a row or column of a line with more ink is a rule


@dataclass(frozen=True, slots=True)
class PageLine:
    """One line of text on a page. `score` is the detector's, 0 to 1; `is_crosswise` says that it
    runs across the others; lines of one paragraph have one number.
    """

    outline: Outline
    score: float
    is_crosswise: bool = False
    paragraph: int = 0


@dataclass(frozen=True, slots=True)
class PageLines:
    """The lines of a page in reading order.

    `quarter_turns` (0 to 3) is how often the text was turned clockwise by a quarter; `skew_degrees`
    is the rest of its turn, positive where lines fall to the right. `uncovered_share` is the share
    of the ink of letters that lies in no line; a few letters do not count. `leader_dots` and
    `specks`, both (N, 4), are the left, top, width and height in pixels of the dots of leaders and
    of dirt in the lines, which are not text.
    """

    lines: tuple[PageLine, ...]
    quarter_turns: int = 0
    skew_degrees: float = 0.0
    uncovered_share: float = 0.0
    leader_dots: NDArray[np.int32] = field(
        default_factory=lambda: np.empty((0, 4), np.int32)
    )
    specks: NDArray[np.int32] = field(default_factory=lambda: np.empty((0, 4), np.int32))

    def text_only(self, page: Pixels) -> Pixels:
        """Return `page`, uint8 (H, W, 3) or (H, W), with paper in place of the dots of leaders and
        specks.
        """
        if len(self.leader_dots):
            page = painted_over(page, self.leader_dots)
        if len(self.specks):
            # Letters may stand close to a speck.
            page = painted_over(page, self.specks, margin_px=1)
        return page


@dataclass(frozen=True, slots=True)
class _Piece:
    """A box of the detector in the frame of the text: its centre, length and height in pixels,
    slope in degrees.
    """

    x: float
    y: float
    length: float
    height: float
    slope: float
    score: float

    @property
    def span(self) -> Span:
        return Span(
            self.x - self.length / 2,
            self.y - self.height / 2,
            self.x + self.length / 2,
            self.y + self.height / 2,
        )


class _Frame:
    """The frame of a page's text: turned by `degrees` clockwise against the page."""

    def __init__(self, degrees: float) -> None:
        angle = math.radians(degrees)
        self.degrees = degrees
        self._along = np.array([math.cos(angle), math.sin(angle)])
        self._across = np.array([-math.sin(angle), math.cos(angle)])

    def piece(self, box: TextBox) -> _Piece:
        """Return a box of the page in this frame."""
        centre = np.array([box.x, box.y])
        slope = (box.angle_degrees - self.degrees + 45) % 90 - 45
        is_along = round((box.angle_degrees - self.degrees - slope) / 90) % 2 == 0
        length, height = (box.width, box.height) if is_along else (box.height, box.width)
        return _Piece(
            float(centre @ self._along),
            float(centre @ self._across),
            length,
            height,
            slope,
            box.score,
        )

    def outline(self, piece: _Piece) -> Outline:
        """Return the quadrilateral of a piece on the page."""
        angle = math.radians(piece.slope)
        half_along = np.array([math.cos(angle), math.sin(angle)]) * piece.length / 2
        half_across = np.array([-math.sin(angle), math.cos(angle)]) * piece.height / 2
        centre = np.array([piece.x, piece.y])
        corners = centre + np.stack(
            [
                -half_along - half_across,
                half_along - half_across,
                half_along + half_across,
                half_across - half_along,
            ]
        )  # (4, 2)
        on_page = corners[:, :1] * self._along + corners[:, 1:] * self._across
        points: tuple[Point, ...] = tuple((float(x), float(y)) for x, y in on_page)
        return Outline(points)


class LineFinder:
    """Finds the lines of pages with the text detector that ships. `threads`: see TextDetector."""

    def __init__(self, threads: int | None = None) -> None:
        self._detector = TextDetector(threads)

    def find(self, page: Pixels, read: Read | None = None) -> PageLines:
        """Return the lines of `page`, uint8 (H, W, 3) RGB or (H, W) gray.

        `read` reads cut lines, to tell a page from one that stands on its head and a dash from a
        speck; without it text is taken to read from left to right, or upwards where it is upright.
        """
        factor = math.sqrt(_MAXIMUM_ANALYSED_PIXELS / (page.shape[0] * page.shape[1]))
        if factor < _REDUCED_BELOW_FACTOR:
            size = (round(page.shape[1] * factor), round(page.shape[0] * factor))
            smaller = np.asarray(
                cv2.resize(page, size, interpolation=cv2.INTER_AREA), np.uint8
            )
            return _enlarged(self.find(smaller, read), page.shape[1] / size[0])

        mask = ink_mask(gray_of(page))
        areas = ink_areas(mask)
        letters = letters_among(areas, min(mask.shape))
        if not len(letters):
            return PageLines(())
        if not is_on_its_side(letters):
            return self._find_without_leaders(page, mask, areas, letters, read)

        # The detector finds level text better.
        width = page.shape[1]
        upright = np.ascontiguousarray(np.rot90(page))
        turned_mask = np.ascontiguousarray(np.rot90(mask))
        areas, letters = turned_letters(areas, width), turned_letters(letters, width)
        found = self._find_without_leaders(upright, turned_mask, areas, letters, read)
        return turned_back(found, width)

    def _find_without_leaders(
        self,
        page: Pixels,
        mask: Pixels,
        areas: NDArray[np.int32],
        letters: NDArray[np.int32],
        read: Read | None,
    ) -> PageLines:
        """Find the lines of a page that does not lie on its side, whose ink is in `areas` (N, 5);
        dots of leaders are painted over first.
        """
        leaders = find_leaders(areas, letter_height(letters))
        if not leaders:
            return self._find(page, mask, areas, letters, (), read)

        dots = np.concatenate([leader.dots[:, :4] for leader in leaders])
        page = painted_over(page, dots)
        mask = ink_mask(gray_of(page))
        areas = ink_areas(mask)
        letters = letters_among(areas, min(mask.shape))
        if not len(letters):
            return PageLines((), leader_dots=dots)
        found = self._find(page, mask, areas, letters, leaders, read)
        return replace(found, leader_dots=dots)

    def _find(
        self,
        page: Pixels,
        mask: Pixels,
        areas: NDArray[np.int32],
        letters: NDArray[np.int32],
        leaders: Sequence[Leader],
        read: Read | None,
    ) -> PageLines:
        letter_px = letter_height(letters)
        scale = detection_scale(letter_px, page.shape[0] * page.shape[1])
        boxes = self._detector.detect(page, scale)
        is_upright_text = _runs_upright(boxes)
        quarter_turns = 3 if is_upright_text else 0
        if is_upright_text:
            measured = turned_letters(letters, page.shape[1])
        else:
            measured = letters
        skew = refined_skew(measured, _skew(boxes))
        frame = _Frame(90 * quarter_turns + skew)
        pieces = [frame.piece(box) for box in boxes]
        if read is not None and _is_upside_down(page, frame, pieces, read):
            quarter_turns = (quarter_turns + 2) % 4
            skew = refined_skew(_flipped(measured), skew)
            frame = _Frame(90 * quarter_turns + skew)
            pieces = [frame.piece(box) for box in boxes]

        pieces, crosswise = _sorted_out(pieces)
        pieces = [_fitted(_level(piece), frame, mask) for piece in pieces]
        pieces = _joined_by_leaders(pieces, leaders, frame)
        outlines = [frame.outline(piece) for piece in (*pieces, *crosswise)]
        missed = uncovered(letters, outlines, mask.shape)
        more = self._missed_print(page, missed, outlines, letter_px, scale)
        if more:
            level = _sorted_out([frame.piece(box) for box in more])[0]
            pieces += [_fitted(_level(piece), frame, mask) for piece in level]
            outlines = [frame.outline(piece) for piece in (*pieces, *crosswise)]
            missed = uncovered(letters, outlines, mask.shape)
        if read is not None:
            pieces += _rescued(page, frame, missed, letter_px, read)
        lines = _in_order(pieces, frame)
        for piece in crosswise:
            line = _read_crosswise(page, frame.outline(piece), piece.score, read)
            paragraph = lines[-1].paragraph + 1 if lines else 0
            lines.append(replace(line, paragraph=paragraph))
        share = uncovered_share(letters, missed, letter_px)
        specks = find_specks(areas, outlines, mask.shape, letter_px)[:, :4]
        return PageLines(tuple(lines), quarter_turns, skew, share, specks=specks)

    def _missed_print(
        self,
        page: Pixels,
        missed: NDArray[np.int32],
        outlines: Sequence[Outline],
        letter_px: float,
        scale: float,
    ) -> list[TextBox]:
        """The text boxes in blocks of small or faint print that were missed at `scale`."""
        found: list[TextBox] = []
        looked_at = 0.0
        for block in find_missed_print(missed, letter_px, page.shape):
            pixels = (block.right - block.left) * (block.bottom - block.top)
            closer = detection_scale(block.letter_px, pixels)
            looked_at += pixels * closer**2
            if looked_at > _MAXIMUM_MISSED_PIXELS:
                continue
            part = page[block.top : block.bottom, block.left : block.right]
            dark = darkened(part)
            if dark is not None:
                part = dark
            elif closer < _CLEARLY_CLOSER * scale:
                continue
            boxes = self._detector.detect(part, closer)
            on_page = [
                replace(box, x=box.x + block.left, y=box.y + block.top) for box in boxes
            ]
            found += [box for box in on_page if not _is_covered(box, outlines)]
        return found


def _is_covered(box: TextBox, outlines: Sequence[Outline]) -> bool:
    """Whether a third of the middle line of a box, at one of its ends or between, is in a line."""
    corners = box.corners()  # (4, 2)
    start = (corners[0] + corners[3]) / 2
    end = (corners[1] + corners[2]) / 2
    points = [start + (end - start) * share for share in (1 / 6, 1 / 2, 5 / 6)]
    for outline in outlines:
        polygon = np.asarray(outline.points, dtype=np.float32)
        for x, y in points:
            if cv2.pointPolygonTest(polygon, (float(x), float(y)), measureDist=False) > 0:
                return True
    return False


def _joined_by_leaders(
    pieces: Sequence[_Piece], leaders: Sequence[Leader], frame: _Frame
) -> list[_Piece]:
    """Join each piece that a leader follows with the piece that the leader leads to."""
    joined = list(pieces)
    for leader in leaders:
        ends = [
            frame.piece(TextBox(x, y, 1.0, 1.0, frame.degrees, 1.0)) for x, y in leader.ends
        ]
        first, last = sorted(ends, key=lambda end: end.x)
        step = leader.step_px
        before = [p for p in joined if p.x < first.x and _reaches(p, first, step)]
        after = [p for p in joined if p.x > last.x and _reaches(p, last, step)]
        if len(before) != 1 or len(after) != 1:
            continue
        joined = [piece for piece in joined if piece not in (before[0], after[0])]
        joined.append(_union(before[0], after[0]))
    return joined


def _reaches(piece: _Piece, dot: _Piece, step: float) -> bool:
    """Whether a piece stands on the row of a dot and close to it: a step of its leader and the
    space between two words.
    """
    is_on_row = abs(piece.y - dot.y) < _LEADER_ROW * piece.height
    gap = max(piece.span.left - dot.x, dot.x - piece.span.right)
    return is_on_row and gap < _LEADER_REACH * piece.height + step


def _enlarged(found: PageLines, factor: float) -> PageLines:
    """The lines of a page that was looked at so many times smaller."""
    lines = tuple(
        replace(line, outline=line.outline.scaled(factor, factor)) for line in found.lines
    )
    dots, specks = (
        np.rint(places * factor).astype(np.int32)
        for places in (found.leader_dots, found.specks)
    )
    return replace(found, lines=lines, leader_dots=dots, specks=specks)


def turned_letters(letters: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """Return areas (N, 5), see `letters_among`, on a page `width` pixels wide turned
    counterclockwise by a quarter.
    """
    left, top, box_width, box_height, ink = letters.T
    return np.stack([top, width - left - box_width, box_height, box_width, ink], axis=1)


def turned_back(found: PageLines, width: int) -> PageLines:
    """Return the lines of a page that was turned counterclockwise by a quarter in the pixels of the
    page itself, which is `width` pixels wide.
    """
    lines = []
    for line in found.lines:
        points = tuple((width - y, x) for x, y in line.outline.points)
        lines.append(replace(line, outline=Outline(points)))
    return replace(
        found,
        lines=tuple(lines),
        quarter_turns=(found.quarter_turns + 1) % 4,
        leader_dots=_places_turned_back(found.leader_dots, width),
        specks=_places_turned_back(found.specks, width),
    )


def _places_turned_back(places: NDArray[np.int32], width: int) -> NDArray[np.int32]:
    """Places (N, 4), left, top, width and height, on the page before `turned_back`."""
    left, top, place_width, place_height = places.T
    return np.stack([width - top - place_height, left, place_height, place_width], axis=1)


def detection_scale(letter_px: float, pixels: int) -> float:
    """Return how many times its size a page of so many pixels is looked at, whose small letters are
    `letter_px` high.
    """
    scale = _DETECTED_LETTER_PX / max(letter_px, 1.0)
    largest = math.sqrt(_MAXIMUM_DETECTED_PIXELS / max(1, pixels))
    return min(max(scale, _MINIMUM_SCALE), _MAXIMUM_SCALE, largest)


def is_on_its_side(letters: NDArray[np.int32]) -> bool:
    """Whether lines run up or down the page, as the feet of its `letters` (N, 5) stand: in few
    rows, or in few columns.
    """
    if len(letters) < _FEW_LETTERS:
        return False
    degrees = np.arange(-_SEARCHED_DEGREES, _SEARCHED_DEGREES + 1, 0.5)
    as_it_is = _agreement(letters, degrees).max()
    # Feet are where descenders and dots are not, on either side: heads count as well.
    turned = max(
        _agreement(side, degrees).max()
        for side in (turned_letters(letters, 0), _flipped(turned_letters(letters, 0)))
    )
    as_it_is = max(as_it_is, _agreement(_flipped(letters), degrees).max())
    return bool(turned > _SIDEWAYS_RATIO * as_it_is)


def _flipped(letters: NDArray[np.int32]) -> NDArray[np.int32]:
    """Areas (N, 5) on a page that was turned by half."""
    left, top, width, height, ink = letters.T
    return np.stack([-left - width, -top - height, width, height, ink], axis=1)


def _agreement(
    letters: NDArray[np.int32], degrees: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """How well the feet of letters (N, 5) stand in rows of each slope: the sum of the squares of
    their numbers by row.
    """
    left, top, width, height = (letters[:, at].astype(np.float64) for at in range(4))
    x = left + width / 2
    y = top + height
    row_px = max(1.0, float(np.median(height)) / _ROWS_A_LETTER)
    scores = []
    for angle in np.radians(degrees):
        rows = np.rint((y * math.cos(angle) - x * math.sin(angle)) / row_px).astype(
            np.int64
        )
        scores.append(float((np.bincount(rows - rows.min()).astype(np.float64) ** 2).sum()))
    return np.array(scores)


def _runs_upright(boxes: Sequence[TextBox]) -> bool:
    """Whether most of the text runs up or down: long boxes tell."""
    level = sum(box.width for box in boxes if box.width > _ASPECT_SHOWS_TURN * box.height)
    upright = sum(
        box.height for box in boxes if box.height > _ASPECT_SHOWS_TURN * box.width
    )
    return upright > level


def _skew(boxes: Sequence[TextBox]) -> float:
    """The slope of the page in degrees: the median of its long boxes', weighed by their length."""
    if not boxes:
        return 0.0
    sides = np.array([(box.width, box.height, box.angle_degrees) for box in boxes])
    longer = sides[:, :2].max(axis=1)
    shorter = np.maximum(1.0, sides[:, :2].min(axis=1))
    tells = longer > _ASPECT_SHOWS_SLOPE * shorter
    if not tells.any():
        return 0.0
    order = np.argsort(sides[tells, 2])
    weights = np.cumsum(longer[tells][order])
    return float(sides[tells, 2][order][np.searchsorted(weights, weights[-1] / 2)])


def refined_skew(letters: NDArray[np.int32], skew: float) -> float:
    """Return the slope of the page in degrees, to a twentieth, near the `skew` that the detector's
    boxes show.

    At the right slope the feet of `letters` (N, 5; see `letters_among`) stand in few rows.
    """
    candidates = skew + np.arange(-_SKEW_STEPS, _SKEW_STEPS + 1) * _SKEW_STEP_DEGREES
    scores = _agreement(letters, candidates)
    # Of equal ones the middle: few letters agree over a range.
    best = candidates[scores >= 0.999 * scores.max()]
    return float(best.mean())


def _is_upside_down(
    page: Pixels, frame: _Frame, pieces: Sequence[_Piece], read: Read
) -> bool:
    """Whether the text reads better the other way round."""
    along = [
        piece
        for piece in pieces
        if piece.length > piece.height and piece.length < _SAMPLED_ASPECT * piece.height
    ]
    sample = sorted(along or pieces, key=lambda piece: -piece.length)[:_SAMPLED_LINES]
    crops = [cut_line(page, frame.outline(piece)) for piece in sample]
    readings = list(read(crops[:_FIRST_SAMPLED]))
    if mean_confidence(readings) >= _UPRIGHT_CONFIDENCE:
        return False
    readings += read(crops[_FIRST_SAMPLED:])
    upright = mean_confidence(readings)
    if upright >= _UPRIGHT_CONFIDENCE:
        return False
    turned = [np.ascontiguousarray(crop[::-1, ::-1]) for crop in crops]
    return mean_confidence(read(turned)) > upright


def mean_confidence(readings: Sequence[Recognition]) -> float:
    """Mean confidence of readings, weighed by their length; nothing read counts as no confidence.
    0.0 for no readings.
    """
    weights = [max(1, len(reading.text)) for reading in readings]
    sure = [
        reading.confidence or 0.0 if reading.text.strip() else 0.0 for reading in readings
    ]
    total = sum(weights)
    if total:
        return (
            sum(weight * value for weight, value in zip(weights, sure, strict=True)) / total
        )
    return 0.0


def _sorted_out(pieces: Sequence[_Piece]) -> tuple[list[_Piece], list[_Piece]]:
    """The pieces that run along the lines of the page, and those that run across."""
    if not pieces:
        return [], []
    typical = float(np.median([min(piece.length, piece.height) for piece in pieces]))
    along: list[_Piece] = []
    crosswise: list[_Piece] = []
    for piece in pieces:
        is_crosswise = piece.height > _CROSSWISE * max(piece.length, typical)
        (crosswise if is_crosswise else along).append(piece)
    return along, crosswise


def _in_order(pieces: Sequence[_Piece], frame: _Frame) -> list[PageLine]:
    joined = _joined(pieces)
    order = reading_order([piece.span for piece in joined])
    ordered = [joined[number] for number in order]
    paragraphs = paragraphs_of([piece.span for piece in ordered])
    return [
        PageLine(frame.outline(piece), piece.score, paragraph=paragraph)
        for piece, paragraph in zip(ordered, paragraphs, strict=True)
    ]


def _read_crosswise(
    page: Pixels, outline: Outline, score: float, read: Read | None
) -> PageLine:
    """A line that runs across the others: upwards, or downwards where that reads better."""
    # Upwards the text begins at the lower end of the left side.
    upwards = Outline(outline.points[3:] + outline.points[:3])
    downwards = Outline(outline.points[1:] + outline.points[:1])
    if read is None:
        return PageLine(upwards, score, is_crosswise=True)
    first, second = (
        mean_confidence(read([cut_line(page, way)])) for way in (upwards, downwards)
    )
    return PageLine(upwards if first >= second else downwards, score, is_crosswise=True)


def uncovered(
    letters: NDArray[np.int32], outlines: Sequence[Outline], shape: tuple[int, ...]
) -> NDArray[np.int32]:
    """Return those of the areas (N, 5), see `letters_among`, whose middle lies in none of the
    outlines on a page of `shape`.
    """
    covered = np.zeros((-(-shape[0] // _COARSE), -(-shape[1] // _COARSE)), dtype=np.uint8)
    for outline in outlines:
        corners = np.asarray(outline.points) / _COARSE
        cv2.fillPoly(covered, [np.rint(corners).astype(np.int32)], 1)
    x = (letters[:, 0] + letters[:, 2] // 2) // _COARSE
    y = (letters[:, 1] + letters[:, 3] // 2) // _COARSE
    return letters[covered[y, x] == 0]


def uncovered_share(
    letters: NDArray[np.int32], missed: NDArray[np.int32], letter_px: float
) -> float:
    """Return the share of the ink of `letters` that is in those `missed`, both (N, 5), specks
    aside.
    """
    lowest = max(_SPECK_PX, 0.6 * letter_px)
    missed = missed[missed[:, 3] >= lowest]
    if len(missed) < _FEW_LETTERS:
        return 0.0
    of_all = letters[letters[:, 3] >= lowest]
    return float(missed[:, 4].sum()) / float(of_all[:, 4].sum())


def _rescued(
    page: Pixels, frame: _Frame, missed: NDArray[np.int32], letter_px: float, read: Read
) -> list[_Piece]:
    """Single characters that the detector does not see, as a dash or a digit that stands alone: ink
    of a letter's size that reads well.
    """
    if not len(missed):
        return []
    width = missed[:, 2]
    height = missed[:, 3]
    is_letter = (
        (height >= 0.8 * letter_px) & (height <= 3 * letter_px) & (width <= 3 * letter_px)
    )
    is_dash = (
        (width >= 0.4 * letter_px)
        & (width <= 2.5 * letter_px)
        & (height <= 0.35 * letter_px)
        & (width >= 2 * height)
    )
    candidates = missed[is_letter | is_dash]
    if not 0 < len(candidates) <= _MAXIMUM_RESCUED:
        return []

    pieces = []
    for left, top, box_width, box_height, _ in candidates.tolist():
        tall = max(float(box_height), _RESCUED_LINE_LETTERS * letter_px)
        box = TextBox(
            left + box_width / 2,
            top + box_height / 2,
            box_width + letter_px,
            tall,
            frame.degrees,
            1.0,
        )
        pieces.append(frame.piece(replace(box, angle_degrees=frame.degrees)))
    readings = read([cut_line(page, frame.outline(piece)) for piece in pieces])
    return [
        piece for piece, reading in zip(pieces, readings, strict=True) if _is_text(reading)
    ]


def _is_text(reading: Recognition) -> bool:
    """Whether a single character was read with confidence; which dash a dash is, is never sure."""
    text = reading.text.strip()
    return text in _DASHES or (
        bool(text) and (reading.confidence or 0.0) >= _RESCUED_CONFIDENCE
    )


def _level(piece: _Piece) -> _Piece:
    """A piece takes the slope of its page, unless it is long and clearly has its own."""
    has_its_own = (
        piece.length > 2 * _ASPECT_SHOWS_SLOPE * piece.height
        and abs(piece.slope) > _OWN_SLOPE_DEGREES
    )
    if has_its_own:
        return piece
    return replace(piece, slope=0.0)


def _fitted(piece: _Piece, frame: _Frame, mask: Pixels) -> _Piece:
    """The piece with its top and bottom at its ink, and a margin: the detector's boxes are the
    looser the smaller it looks.
    """
    cut = cut_line(mask, frame.outline(piece))[:, :, 0]  # (height, length), 1 is ink
    height, length = cut.shape
    if height < 8:
        return piece
    upright_rules = cut.mean(axis=0) > _RULE_SHARE
    rows = cut[:, ~upright_rules].sum(axis=1, dtype=np.int64)
    has_ink = (rows > max(1.0, 0.004 * length)) & (rows < _RULE_SHARE * length)
    core = has_ink.copy()
    core[: height // 4] = False
    core[height - height // 4 :] = False
    if not core.any():
        return piece
    gap = max(2, round(0.14 * height))
    first = int(core.argmax())
    last = height - 1 - int(core[::-1].argmax())
    first, last = _extended(has_ink, first, -1, gap), _extended(has_ink, last, 1, gap)
    margin = max(1.0, 0.1 * (last - first + 1))
    top = max(0.0, first - margin)
    bottom = min(float(height), last + 1 + margin)
    if bottom - top >= height:
        return piece
    move = (top + bottom) / 2 - height / 2
    angle = math.radians(piece.slope)
    scale = piece.height / height
    move *= scale
    return replace(
        piece,
        x=piece.x - math.sin(angle) * move,
        y=piece.y + math.cos(angle) * move,
        height=(bottom - top) * scale,
    )


def _extended(has_ink: NDArray[np.bool_], start: int, step: int, gap: int) -> int:
    """The last row of ink from `start` in the direction of `step`, over gaps of at most `gap` empty
    rows: å ä ö have dots.
    """
    last = start
    at = start
    while 0 <= at < len(has_ink) and abs(at - last) <= gap:
        if has_ink[at]:
            last = at
        at += step
    return last


def _joined(pieces: Sequence[_Piece]) -> list[_Piece]:
    """Join the pieces of one line, which the detector splits at wide gaps, but not over the gutters
    of columns and tables.
    """
    spans = [piece.span for piece in pieces]
    edges = np.array([(s.left, s.top, s.right, s.bottom) for s in spans]).reshape(-1, 4)
    joined: list[_Piece] = []
    for row in rows_of(spans):
        current = pieces[row[0]]
        for number in row[1:]:
            piece = pieces[number]
            if _belongs(current, piece, edges):
                current = _union(current, piece)
            else:
                joined.append(current)
                current = piece
        joined.append(current)
    return joined


def _belongs(left: _Piece, right: _Piece, edges: NDArray[np.float64]) -> bool:
    gap = right.span.left - left.span.right
    height = max(left.height, right.height)
    alike = height <= _SAME_HEIGHT * min(left.height, right.height)
    if not alike or gap > _JOINED_GAP_OVER_TEXT * height:
        return False
    middle = (left.y + right.y) / 2
    distance = np.abs((edges[:, 1] + edges[:, 3]) / 2 - middle)
    is_other_row = distance > 0.5 * height
    crosses = (edges[:, 0] < left.span.right) & (edges[:, 2] > right.span.left)
    is_crossed = bool((crosses & is_other_row & (distance < 2.5 * height)).any())
    if gap > _JOINED_GAP_ALONE * height:
        return is_crossed
    begins_there = np.abs(edges[:, 0] - right.span.left) < _GUTTER_EDGE * height
    below = begins_there & is_other_row & (distance < _GUTTER_REACH * height)
    is_gutter = gap > _GUTTER_WIDTH * height and int(below.sum()) >= _GUTTER_LINES
    return is_crossed or not is_gutter


def _union(left: _Piece, right: _Piece) -> _Piece:
    """One piece around two of a row; its slope is that between their middles, or theirs."""
    weight = left.length + right.length
    slope = (left.slope * left.length + right.slope * right.length) / weight
    angle = math.radians(slope)
    along = np.array([math.cos(angle), math.sin(angle)])
    across = np.array([-math.sin(angle), math.cos(angle)])
    ends = []
    for piece in (left, right):
        centre = np.array([piece.x, piece.y])
        a = float(centre @ along)
        b = float(centre @ across)
        ends.append(
            (
                a - piece.length / 2,
                b - piece.height / 2,
                a + piece.length / 2,
                b + piece.height / 2,
            )
        )
    (l0, t0, r0, b0), (l1, t1, r1, b1) = ends
    start = min(l0, l1)
    top = min(t0, t1)
    end = max(r0, r1)
    bottom = max(b0, b1)
    centre = along * (start + end) / 2 + across * (top + bottom) / 2
    score = (left.score * left.length + right.score * right.length) / weight
    return _Piece(
        float(centre[0]), float(centre[1]), end - start, bottom - top, slope, score
    )
