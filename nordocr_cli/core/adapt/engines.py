"""The engines whose agreement makes labels: our recognizer, PP-OCR and Tesseract where they are
installed, and a vision-language model where a server is named.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from nordocr_cli.errors import MissingBackendError, UsageError
from nordocr_cli.extras import install_line
from nordocr_cli.records import Box, Recognition
from nordocr_cli.runtime.backends.rapidocr.recognizer import load_rapidocr

if TYPE_CHECKING:
    from nordocr_cli.compare.endpoint import Endpoint
    from nordocr_cli.runtime.protocols import Image, Recognizer

OWN = "nordocr"
PPOCR = "ppocr"
TESSERACT = "tesseract"
VLM = "vlm"
_TESSERACT_HEIGHT_PX = 64


def installed_engines(
    requested: Sequence[str] = (), *, at_least_one: bool = True
) -> tuple[str, ...]:
    """Return the engines besides our own that are requested and installed; all where none are
    requested. Raises UsageError for an engine that adapt does not know, and MissingBackendError
    when a requested one is missing, and with `at_least_one` when there is none: a single engine
    agrees with itself.
    """
    unknown = [name for name in requested if name not in (PPOCR, TESSERACT)]
    if unknown:
        raise UsageError(
            f"--engine {unknown[0]}: the engines besides our own are {PPOCR} and {TESSERACT}; a"
            " vision-language model is named with --vlm-url"
        )
    found = []
    if find_spec("rapidocr") is not None:
        found.append(PPOCR)
    if _has_tesseract():
        found.append(TESSERACT)
    missing = [name for name in requested if name not in found]
    if missing or (at_least_one and not found):
        what = ", ".join(missing) or "a second engine"
        raise MissingBackendError(
            f"adapt takes as labels what independent engines agree on, and {what} is not installed:"
            f" {install_line('rapidocr')}, or install Tesseract (Debian: apt-get install"
            " tesseract-ocr)"
        )
    return tuple(name for name in found if not requested or name in requested)


def open_labelling_engine(
    name: str, model: Path, languages: str | None, device: str, threads: int | None
) -> "Recognizer":
    """Open an engine: `model` is our recognizer, `languages` Tesseract's (e.g. swe+nor)."""
    from nordocr_cli.runtime.recognizers import open_recognizer

    if name == OWN:
        return open_recognizer(model, device=device, threads=threads)
    if name == TESSERACT:
        spec = f"tesseract:{languages}" if languages else "tesseract"
        return EnlargingRecognizer(open_recognizer(spec, threads=threads))
    return PpocrRecognizer(threads)


class VlmRecognizer:
    """A vision-language model on a server; see Recognizer. Each answer is recorded in `answers`, so
    that an interrupted reading asks only for the rest. A line without an answer reads as nothing.

    Raises what `compare.vlm.ask` raises, when it reads.
    """

    name = VLM

    def __init__(self, server: "Endpoint", answers: Path) -> None:
        from nordocr_cli.compare.answers import AnswerFile

        self._server = server
        self._answers = AnswerFile(answers, server.model)

    def recognize(
        self, crops: "Sequence[Image]", languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops; see Recognizer."""
        from nordocr_cli.compare.answers import question
        from nordocr_cli.compare.vlm import ask

        questions = [
            question(crop, 0, Box(0, 0, crop.shape[1], crop.shape[0])) for crop in crops
        ]
        found = ask(questions, self._answers, self._server)
        return [
            Recognition(answer.text if answer.status == "ok" else "", None)
            for answer in found.answers
        ]


class EnlargingRecognizer:
    """Gives a recognizer low crops enlarged to 64 px: Tesseract is made for print at 300 dpi, and
    reads lines of 40 px better when they are enlarged. See Recognizer.
    """

    def __init__(self, recognizer: "Recognizer") -> None:
        self._recognizer = recognizer
        self.name = recognizer.name

    def recognize(
        self, crops: "Sequence[Image]", languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops; see Recognizer."""
        return self._recognizer.recognize([_enlarged(crop) for crop in crops], languages)


class PpocrRecognizer:
    """PP-OCR's line recognizer, from the wheel `rapidocr`; see Recognizer."""

    backend = "onnxruntime"
    name = "ppocr"

    def __init__(self, threads: int | None = None) -> None:
        self._engine: Any = load_rapidocr("the recognizer ppocr")(
            params={
                "EngineConfig.onnxruntime.intra_op_num_threads": threads or 1,
                "EngineConfig.onnxruntime.inter_op_num_threads": 1,
                "Global.text_score": 0.0,
                "Global.log_level": "error",
            }
        )

    def recognize(
        self, crops: "Sequence[Image]", languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops; see Recognizer."""
        readings = []
        for crop in crops:
            bgr = np.ascontiguousarray(crop[..., ::-1])
            found = self._engine(bgr, use_det=False, use_cls=False, use_rec=True)
            texts = found.txts or ("",)
            scores = found.scores or (0.0,)
            readings.append(Recognition(texts[0], float(scores[0])))
        return readings


def _enlarged(crop: "Image") -> "Image":
    height, width = crop.shape[:2]
    if height >= _TESSERACT_HEIGHT_PX:
        return crop
    size = max(1, round(width * _TESSERACT_HEIGHT_PX / height)), _TESSERACT_HEIGHT_PX
    return np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_CUBIC))


def _has_tesseract() -> bool:
    from nordocr_cli.runtime.backends.tesseract.engine import find_tesseract

    try:
        find_tesseract()
    except MissingBackendError:
        return False
    return True
