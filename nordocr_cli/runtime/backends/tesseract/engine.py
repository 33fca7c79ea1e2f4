"""The two ways to run Tesseract: its library in this process (tesserocr), or its program.

The library keeps a language loaded and reads a line in three quarters of the program's time. Its
wheel contains its own version of Tesseract, whose texts sometimes differ from those of the
installed program (5.5.4 and 5.3.0: 30 of 448 lines, as many right with either). A result therefore
names the version that was used. Language data is that of the installed program, or of
$TESSDATA_PREFIX.
"""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nordocr_cli.errors import DataError, MissingBackendError
from nordocr_cli.extras import install_line
from nordocr_cli.runtime.protocols import Image
from nordocr_cli.variables import TESSDATA_BEST

# Short lists keep all processes busy to the end; longer ones save little start-up.
_IMAGES_A_CALL = 24
_DPI = 300
_TIMEOUT_S = 300
_DATA = ".traineddata"
_MISSING = (
    "the program tesseract is not on PATH; Debian: apt-get install tesseract-ocr tesseract-ocr-swe"
    " tesseract-ocr-nor tesseract-ocr-dan tesseract-ocr-isl"
)


@dataclass(frozen=True)
class Installed:
    """The Tesseract of this machine: its `version` and kind, its `languages`, and the folder of
    their `data`. `data` is None for a program that is too old to print it (before 5).
    """

    version: str
    languages: frozenset[str]
    data: Path | None
    has_library: bool

    @property
    def engine(self) -> "TesseractEngine":
        """What runs it."""
        if self.has_library and self.data:
            return LibraryEngine(self.data)
        return ProgramEngine()


class TesseractEngine(Protocol):
    """Runs Tesseract's LSTM network over images."""

    def tsv(
        self, images: Sequence[Image], languages: str, psm: int, workers: int = 1
    ) -> list[str]:
        """Return Tesseract's output for the images, uint8 (height, width, 3), as texts in its TSV
        format. The pages of each text are numbered from 1. `psm` is the page segmentation mode.
        Raises DataError when Tesseract fails.
        """


def find_tesseract(library: bool = True) -> Installed:
    """Find the installed Tesseract. tesserocr is preferred, unless `library` is False. Raises
    MissingBackendError when neither is installed.
    """
    tesserocr = _import_tesserocr() if library else None
    prefix = os.environ.get("TESSDATA_PREFIX")
    if shutil.which("tesseract") is None:
        if tesserocr is None or not prefix:
            raise MissingBackendError(
                _MISSING + ("; tesserocr needs its language data" if tesserocr else "")
            )
        data: Path | None = Path(prefix)
        languages = {
            file.name.removesuffix(".traineddata")
            for file in Path(prefix).glob("*.traineddata")
        }
    else:
        done = subprocess.run(
            ["tesseract", "--list-langs"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        if done.returncode:
            raise MissingBackendError(
                f"tesseract --list-langs failed: {done.stderr.strip()[-200:]}; install it again"
            )
        first, *names = done.stdout.split("\n")
        quoted = re.search(r'"(.+)"', first)
        data = Path(quoted[1]) if quoted else None
        languages = set(names) - {""}
    if tesserocr is not None and data is not None:
        library = tesserocr.tesseract_version().split("\n")[0]
        version = f"{library} (tesserocr {tesserocr.__version__})"
        return Installed(version, frozenset(languages), data, True)
    done = subprocess.run(
        ["tesseract", "--version"], capture_output=True, text=True, timeout=30, check=True
    )
    return Installed(
        (done.stdout or done.stderr).split("\n")[0], frozenset(languages), data, False
    )


def find_best_tesseract() -> Installed:
    """Return Tesseract with the accurate and slow models of tessdata_best, from the folder
    NORDOCR_TESSDATA_BEST. Raises MissingBackendError without tesserocr or the folder.
    """
    folder = TESSDATA_BEST.get()
    if not folder:
        raise MissingBackendError(
            f"tesseract-best needs the models of tessdata_best: put swe.traineddata and others into"
            f" a folder and set {TESSDATA_BEST.name} to it"
        )
    languages = {file.name.removesuffix(_DATA) for file in Path(folder).glob(f"*{_DATA}")}
    if not languages:
        raise MissingBackendError(
            f"{TESSDATA_BEST.name}={folder}: no {_DATA} files there; it must be a folder of models"
        )
    tesserocr = _import_tesserocr()
    if tesserocr is None:
        raise MissingBackendError(
            f"tesseract-best needs Tesseract as a library: {install_line('tesserocr')}"
        )
    first_line = tesserocr.tesseract_version().split("\n")[0]
    version = f"{first_line} (tesserocr {tesserocr.__version__}), tessdata_best"
    return Installed(version, frozenset(languages), Path(folder), True)


def _import_tesserocr() -> Any:
    try:
        import tesserocr
    except ImportError:
        return None
    return tesserocr


class LibraryEngine:
    """Tesseract in this process. Calls release the GIL, so several images are read at a time. An
    API object reads one image at a time, in the languages that it was made for. Idle objects are
    kept by language, and each worker takes one. An object keeps no data of an image, so the other
    images never change a text.
    """

    def __init__(self, data: Path) -> None:
        self._data = data
        self._idle: dict[tuple[str, int], list[Any]] = {}

    def tsv(
        self, images: Sequence[Image], languages: str, psm: int, workers: int = 1
    ) -> list[str]:
        """Read one image a text; see TesseractEngine."""
        if len(images) == 1 or workers == 1:
            return [self._tsv(image, languages, psm) for image in images]
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda image: self._tsv(image, languages, psm), images))

    def _tsv(self, image: Image, languages: str, psm: int) -> str:
        idle = self._idle.setdefault((languages, psm), [])
        try:
            api = idle.pop()
        except IndexError:
            api = self._open(languages, psm)
        height, width = image.shape[:2]
        channels = 1 if image.ndim == 2 else 3
        try:
            api.SetImageBytes(
                np.ascontiguousarray(image).tobytes(),
                width,
                height,
                channels,
                channels * width,
            )
            api.SetSourceResolution(_DPI)
            read = api.Recognize()
            tsv: str = api.GetTSVText(0)
        except RuntimeError as error:
            raise DataError(
                f"tesseract failed on an image of {height} x {width} px (height x width): {error}"
            ) from error
        if not read:
            raise DataError(
                f"tesseract failed on an image of {height} x {width} px (height x width)"
            )
        idle.append(api)  # not after a failure, when its state is unknown
        return tsv

    def _open(self, languages: str, psm: int) -> Any:
        import tesserocr

        try:
            api = tesserocr.PyTessBaseAPI(
                path=str(self._data), lang=languages, psm=psm, oem=tesserocr.OEM.LSTM_ONLY
            )
        except RuntimeError as error:
            raise MissingBackendError(
                f"tesserocr cannot load {languages} from {self._data}: {error}"
            ) from error
        # Otherwise it writes warnings about tiny images to stderr.
        api.SetVariable("debug_file", os.devnull)
        return api


class ProgramEngine:
    """Tesseract's program: one process reads many images. A call with one image costs about 100 ms,
    most of it start-up; a call with a list costs about 25 ms per line.
    """

    def tsv(
        self, images: Sequence[Image], languages: str, psm: int, workers: int = 1
    ) -> list[str]:
        """Read up to 24 images a text; see TesseractEngine."""
        # enough calls to keep every process busy
        size = max(1, min(_IMAGES_A_CALL, -(-len(images) // workers)))
        lists = [
            range(at, min(at + size, len(images))) for at in range(0, len(images), size)
        ]
        with (
            tempfile.TemporaryDirectory(prefix="nordocr-tesseract-") as folder,
            ThreadPoolExecutor(workers) as pool,
        ):
            return list(
                pool.map(
                    lambda ids: self._tsv(images, ids, languages, psm, Path(folder)), lists
                )
            )

    def _tsv(
        self,
        images: Sequence[Image],
        ids: Sequence[int],
        languages: str,
        psm: int,
        folder: Path,
    ) -> str:
        import cv2

        files = [folder / f"{index}.png" for index in ids]
        for file, index in zip(files, ids, strict=True):
            image = images[index]
            pixels = image if image.ndim == 2 else image[..., ::-1]
            _, encoded = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
            file.write_bytes(encoded.tobytes())
        command = [
            "tesseract",
            "stdin",
            "stdout",
            "-l",
            languages,
            "--oem",
            "1",
            "--psm",
            str(psm),
            "--dpi",
            str(_DPI),
            "tsv",
        ]
        tsv = _run(
            command, "".join(f"{file}\n" for file in files).encode(), f"{len(files)} images"
        )
        for file in files:
            file.unlink()
        return tsv


def _run(command: list[str], data: bytes, what: str) -> str:
    # Its OpenMP threads slow it down on line crops: with this limit a page takes 0.9 s instead of
    # 2-4 s.
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    try:
        done = subprocess.run(
            command,
            input=data,
            capture_output=True,
            env=environment,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DataError(
            f"tesseract took more than {_TIMEOUT_S} s for {what}; is the machine out of memory?"
        ) from None
    if done.returncode:
        raise DataError(
            f"tesseract failed ({done.returncode}):"
            f" {done.stderr.decode(errors='replace').strip()[-300:]}"
        )
    return done.stdout.decode("utf-8")
