"""`nordocr synth`: render lines of text into a line store or a folder of images.

Line `index` of `seed` is the same whatever the number of workers: it is drawn from a generator of
its own.
"""

import hashlib
import json
import math
import random
from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from multiprocessing import get_context
from pathlib import Path
from time import monotonic
from typing import Any

import cv2
import numpy as np

from nordocr_cli import atomic
from nordocr_cli.charset import Charset
from nordocr_cli.data.line_record import EncodedLine, encode_line
from nordocr_cli.data.resize import resize_line
from nordocr_cli.data.store import LineStoreWriter
from nordocr_cli.data.synth.damage import strength_ranges
from nordocr_cli.data.synth.fonts import FontFace, FontPicker, find_faces
from nordocr_cli.data.synth.render import (
    RenderedLine,
    Style,
    look_weights,
    recipe_weights,
    render_line,
)
from nordocr_cli.data.synth.texts import Corpus, TextSource, read_corpus
from nordocr_cli.data.text_band import tightened
from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.geometry import Geometry, Resampler
from nordocr_cli.limits import parse_json
from nordocr_cli.progress import SILENT, Progress
from nordocr_cli.records import LineRow

# Training sees the resamplers that serving and other preparations use, the profile's most often.
RESAMPLERS: Mapping[Resampler, float] = {
    "linear": 0.55,
    "area": 0.2,
    "corner-bilinear": 0.15,
    "cubic": 0.1,
}

_CHUNK_LINES = 128
_CHARACTERS_PER_HEIGHT = (
    3.2  # narrow letters: a line as wide as `height` holds about this many
)
_IMAGES_PER_FOLDER = 1000
_ID_PREFIX = "synth-"  # of a row's id: by it a folder that synth has written is known


@dataclass(frozen=True)
class Job:
    """Everything that a line depends on besides its index. Sent to the workers as one object."""

    seed: int
    geometry: Geometry
    charset: Charset
    faces: tuple[FontFace, ...]
    texts: Path | None = None
    style: Style = field(default_factory=Style)
    resamplers: Mapping[Resampler, float] | None = None
    max_characters: int | None = None
    min_characters: int = 1

    def __getstate__(self) -> dict[str, Any]:
        """What a worker gets: the corpus that was read, but not the sources drawn from it."""
        return {
            key: value
            for key, value in self.__dict__.items()
            if key not in ("source", "fonts")
        }

    def to_json(self) -> dict[str, Any]:
        """Return what lines are drawn with, for a store's header: with it and a row's id the line
        can be drawn again.
        """
        fonts = "\n".join(
            sorted(
                f"{Path(face.path).name} {face.index} {face.instance}".strip()
                for face in self.faces
            )
        )
        return {
            "seed": self.seed,
            "fonts": len(self.faces),
            "fonts_sha256": hashlib.sha256(fonts.encode()).hexdigest(),
            "texts": str(self.texts) if self.texts else None,
            "style": asdict(self.style),
            "resamplers": dict(self.resamplers or {self.geometry.resampler: 1.0}),
            **({"max_characters": self.max_characters} if self.max_characters else {}),
            **({"min_characters": self.min_characters} if self.min_characters > 1 else {}),
        }

    @cached_property
    def corpus(self) -> Corpus:
        """The corpus read from `texts`, empty without one."""
        if self.texts:
            return read_corpus(self.texts, self.charset)
        return Corpus()

    @cached_property
    def source(self) -> TextSource:
        """Where the texts come from."""
        longest = round(
            self.geometry.max_width / self.geometry.height * _CHARACTERS_PER_HEIGHT
        )
        longest = min(longest, self.max_characters or longest)
        if self.min_characters > longest:
            raise UsageError(
                f"--min-characters {self.min_characters}: a line of at most"
                f" {self.geometry.max_width} px holds about {longest} characters; give a smaller"
                " minimum, or a wider profile"
            )
        return TextSource(
            self.charset, self.corpus.phrases, max(1, longest), self.min_characters
        )

    @cached_property
    def fonts(self) -> FontPicker:
        """Where the faces come from."""
        return FontPicker(self.faces)

    def line(self, index: int) -> tuple[RenderedLine, LineRow]:
        """Render line `index` as it stands on the page, before any resize."""
        drawn = render_line(
            random.Random(f"{self.seed}:{index}"),
            self.source,
            self.fonts,
            self.geometry,
            self.style,
        )
        extra = {key: value for key, value in drawn.made.items() if key != "damage"}
        name = f"{_ID_PREFIX}{self.seed}-{index:07d}"
        row = LineRow(
            id=name,
            image="",
            text=drawn.text.label,
            language=drawn.text.language,
            subset=str(drawn.made["damage"]),
            source=name,  # a document of its own: a split may put any line on either side
            extra=extra,
        )
        return drawn, row

    def stored_line(self, index: int) -> tuple[EncodedLine, LineRow]:
        """Render line `index`, scaled to the geometry's height with one of the resamplers, as a
        store keeps it.
        """
        drawn, row = self.line(index)
        mix = self.resamplers or {self.geometry.resampler: 1.0}
        # Not from the line's own generator: the same line comes with any mix.
        resampler = random.Random(f"{self.seed}:{index}:resampler").choices(
            list(mix), list(mix.values())
        )[0]
        crop = tightened(drawn.crop, self.geometry)
        image = resize_line(crop, replace(self.geometry, resampler=resampler))
        return encode_line(image), replace(row, extra={**row.extra, "resampler": resampler})

    def image_line(self, index: int) -> tuple[EncodedLine, LineRow]:
        """Render line `index` as a PNG of the crop itself."""
        drawn, row = self.line(index)
        if index >= _IMAGES_PER_FOLDER:
            folder = f"images/{index // _IMAGES_PER_FOLDER:03d}/"
        else:
            folder = "images/"
        return encode_line(drawn.crop), replace(row, image=f"{folder}{row.id}.png")


@dataclass(frozen=True)
class SynthResult:
    """What was rendered and where it lies. `widths` are quantiles of the widths in pixels at the
    geometry's height.
    """

    output: Path
    lines: int
    seed: int
    fonts: int
    fonts_left_out: tuple[str, ...]
    corpus: Mapping[str, int]
    languages: Mapping[str, int]
    kinds: Mapping[str, int]
    damages: Mapping[str, int]
    widths: Mapping[str, int]
    least_seen: Mapping[str, int]
    seconds: float

    @property
    def lines_per_s(self) -> float:
        """Lines rendered a second, all workers together, start-up included."""
        return self.lines / max(self.seconds, 1e-9)

    def to_json(self) -> dict[str, Any]:
        """Return the result as plain JSON values."""
        return {
            "output": str(self.output),
            "lines": self.lines,
            "seed": self.seed,
            "fonts": self.fonts,
            "fonts_left_out": list(self.fonts_left_out),
            "corpus": dict(self.corpus),
            "languages": dict(self.languages),
            "kinds": dict(self.kinds),
            "damages": dict(self.damages),
            "widths": dict(self.widths),
            "least_seen_characters": dict(self.least_seen),
            "seconds": round(self.seconds, 1),
            "lines_per_s": round(self.lines_per_s, 1),
        }


def read_style(
    strength: float,
    damage: Sequence[str],
    often: Sequence[str],
    looks: Sequence[str] = (),
    blank: float = 0.0,
) -> Style:
    """Read what the options say: `damage` NAME[=WEIGHT] of kinds of scan, `often` NAME=FACTOR of
    one damage, or of what may stand around a line, `looks` NAME[=WEIGHT] of sorts of paper, `blank`
    the share of the lines without text. Raises UsageError naming the wrong one.
    """
    style = Style(strength=strength, blank=blank)
    if damage:
        style = replace(style, recipes=recipe_weights(damage))
    if looks:
        style = replace(style, looks=look_weights(looks))
    operations = [operation.__name__ for operation, *_ in strength_ranges()]
    chances = {
        name: value
        for name, value in vars(style).items()
        if isinstance(value, float) and name != "strength"
    }
    factors: dict[str, float] = {}
    for item in often:
        name, _, factor = item.partition("=")
        if name not in (*operations, *chances):
            raise UsageError(
                f"--often {item}: no damage is called {name!r};"
                f" {nearest(name, [*operations, *chances])}"
            )
        try:
            factors[name] = float(factor)
        except ValueError:
            raise UsageError(
                f"--often {item}: expected NAME=FACTOR, e.g. {name}=2, or {name}=0 for never"
            ) from None
        if not 0 <= factors[name] < math.inf:
            raise UsageError(f"--often {item}: a factor is zero or more")
    of_fields: dict[str, Any] = {
        name: min(1.0, chance * factors[name])
        for name, chance in chances.items()
        if name in factors
    }
    return replace(
        style,
        often={name: value for name, value in factors.items() if name in operations},
        **of_fields,
    )


def prepare_job(
    geometry: Geometry,
    charset: Charset,
    *,
    seed: int,
    texts: Path | None = None,
    fonts: Path | None = None,
    style: Style | None = None,
    resamplers: Mapping[Resampler, float] | None = None,
    progress: Progress = SILENT,
) -> tuple[Job, tuple[str, ...]]:
    """Find the fonts and check them; return the job and one line per font file that was left out.

    Raises UsageError and DataError where fonts or texts are not there or not usable.
    """
    if texts is not None and not texts.is_dir():
        raise UsageError(
            f"--texts {texts}: no such folder; it holds LANGUAGE.NAME.txt files, one phrase a line"
        )
    faces, left_out = find_faces(fonts, charset)
    progress.note(
        f"{len(faces)} font faces"
        + (f", {len(left_out)} files left out (-v or --json shows why)" if left_out else "")
    )
    return Job(
        seed, geometry, charset, tuple(faces), texts, style or Style(), resamplers
    ), tuple(left_out)


def synthesize(
    output: Path,
    job: Job,
    count: int,
    *,
    workers: int = 1,
    left_out: Sequence[str] = (),
    progress: Progress = SILENT,
) -> SynthResult:
    """Render lines 0…count-1 of `job` to `output`: a line store when its name ends in .lmdb, else a
    folder.

    The folder holds images/*.png (crops as cut from the page), labels.tsv and manifest.jsonl.
    Either is written in the folder of `output` and renamed. Raises UsageError when something else
    exists at `output`.
    """
    began = monotonic()
    tally = _Tally()
    # Read here too: a bad corpus is reported at once, not by a worker, and its counts go into the
    # result.
    if job.texts:
        corpus = {k: getattr(job.corpus, k) for k in ("read", "kept", "cut", "dropped")}
    else:
        corpus = {}
    as_store = output.suffix == ".lmdb"
    lines = _render_in_order(job, count, workers, as_store=as_store)
    progress.start(f"rendering {output.name}", count)
    try:
        if as_store:
            made = {"command": "synth", "count": count, "corpus": corpus, **job.to_json()}
            with LineStoreWriter(output, job.geometry, job.charset, made=made) as writer:
                for encoded, row in lines:
                    writer.add_encoded(encoded, row)
                    tally.add(encoded.width, row)
                    progress.advance()
        else:
            _write_folder(output, lines, tally, job.geometry, progress)
    finally:
        lines.close()
        progress.finish()
    return SynthResult(
        output=output,
        lines=count,
        seed=job.seed,
        fonts=len(job.faces),
        fonts_left_out=tuple(left_out),
        corpus=corpus,
        languages=tally.languages,
        kinds=tally.kinds,
        damages=tally.damages,
        widths=tally.quantiles(),
        least_seen=tally.least_seen(job.charset),
        seconds=monotonic() - began,
    )


class _Tally:
    """Counts what was rendered, for the report."""

    def __init__(self) -> None:
        self.languages: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.damages: Counter[str] = Counter()
        self.characters: Counter[str] = Counter()
        self.widths: list[int] = []

    def add(self, width: int, row: LineRow) -> None:
        self.languages[row.language] += 1
        self.kinds[row.extra["kind"]] += 1
        self.damages[row.subset] += 1
        self.characters.update(row.text)
        self.widths.append(width)

    def quantiles(self) -> dict[str, int]:
        values = np.percentile(self.widths or [0], [0, 5, 25, 50, 75, 95, 100])
        return {
            name: round(float(v))
            for name, v in zip(
                ("min", "p5", "p25", "p50", "p75", "p95", "max"), values, strict=True
            )
        }

    def least_seen(self, charset: Charset) -> dict[str, int]:
        return dict(
            sorted(
                ((c, self.characters[c]) for c in charset.characters),
                key=lambda item: item[1],
            )[:10]
        )


def _write_folder(
    output: Path,
    lines: Iterator[tuple[EncodedLine, LineRow]],
    tally: _Tally,
    geometry: Geometry,
    progress: Progress,
) -> None:
    if output.exists() and not _may_be_replaced(output):
        raise UsageError(
            f"{output} exists and is not a folder of rendered lines; nothing was deleted: give"
            " another --output"
        )
    with atomic.replacing(output) as folder:
        folder.mkdir()
        with (
            open(folder / "labels.tsv", "w", encoding="utf-8", newline="\n") as labels,
            open(
                folder / "manifest.jsonl", "w", encoding="utf-8", newline="\n"
            ) as manifest,
        ):
            for encoded, row in lines:
                image = folder / row.image
                image.parent.mkdir(parents=True, exist_ok=True)
                image.write_bytes(encoded.png)
                labels.write(f"{row.image}\t{row.text}\n")
                manifest.write(json.dumps(row.to_json(), ensure_ascii=False) + "\n")
                height = int.from_bytes(encoded.png[20:24])  # the PNG header's
                tally.add(geometry.line_width(height, encoded.width), row)
                progress.advance()


def _may_be_replaced(output: Path) -> bool:
    """Whether `output` is an empty folder, or one that synth has written and nobody has put
    anything into: labels.tsv alone stands in many a folder of lines that people have labelled.
    """
    if not output.is_dir():
        return False
    names = {child.name for child in output.iterdir()}
    if names != {"images", "labels.tsv", "manifest.jsonl"}:
        return not names
    try:
        with open(output / "manifest.jsonl", encoding="utf-8") as manifest:
            return str(parse_json(manifest.readline())["id"]).startswith(_ID_PREFIX)
    except (OSError, ValueError, KeyError, TypeError):
        return False


# Processes
# ----------------------------------------

_job: Job | None = None  # a worker's


def _start_worker(job: Job) -> None:
    global _job
    cv2.setNumThreads(1)  # the processes are the parallelism
    _job = job


def _render_chunk(
    start: int, stop: int, as_store: bool
) -> list[tuple[EncodedLine, LineRow]]:
    assert _job is not None
    render = _job.stored_line if as_store else _job.image_line
    return [render(index) for index in range(start, stop)]


def _render_in_order(
    job: Job, count: int, workers: int, *, as_store: bool
) -> Generator[tuple[EncodedLine, LineRow], None, None]:
    """Yield lines 0…count-1 in order, rendered by `workers` processes (1 = in this one), a few
    chunks ahead.
    """
    if workers <= 1 or count <= _CHUNK_LINES:
        render = job.stored_line if as_store else job.image_line
        yield from (render(index) for index in range(count))
        return
    # "spawn" everywhere: forking a process that holds threads (cv2, BLAS) can hang, and Windows has
    # nothing else.
    pool = ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=_start_worker, initargs=(job,)
    )
    ahead: deque[Future[list[tuple[EncodedLine, LineRow]]]] = deque()
    try:
        for start in range(0, count, _CHUNK_LINES):
            ahead.append(
                pool.submit(
                    _render_chunk, start, min(count, start + _CHUNK_LINES), as_store
                )
            )
            if len(ahead) > 2 * workers:
                yield from ahead.popleft().result()
        while ahead:
            yield from ahead.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
