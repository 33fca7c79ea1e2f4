"""PP-OCR's line recognizer, with the model from the rapidocr wheel. It is one model for many
languages, trained by others on other data. Its errors differ from those of this project's networks
and of Tesseract, which makes it useful for a consensus.
"""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import sha256_of
from nordocr_cli.errors import MissingBackendError
from nordocr_cli.extras import missing
from nordocr_cli.records import Recognition, finite
from nordocr_cli.runtime.protocols import Image

_MODELS = "PP-OCR*_rec_*.onnx"


class RapidOcrRecognizer:
    """Reads crops as single lines with PP-OCR. One model reads all languages, so `languages` are
    ignored.

    `threads` are those of ONNX Runtime (None: all cores). Raises MissingBackendError when rapidocr
    or its model is not installed; nothing is downloaded.
    """

    name = "rapidocr"
    backend = "rapidocr"

    def __init__(self, threads: int | None = None) -> None:
        self._model = find_rapidocr_model()
        self._engine = _open_engine(threads)

    def recognize(
        self, crops: Sequence[Image], languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops; see Recognizer."""
        return [self._read(crop) for crop in crops]

    def about(self) -> dict[str, Any]:
        """Return what to record in results about the program: version, model and its hash."""
        return {
            "version": f"rapidocr {version('rapidocr')}",
            "model": self._model.name,
            "model_sha256": sha256_of(self._model),
        }

    def _read(self, crop: Image) -> Recognition:
        # (height, width, 3) BGR, as OpenCV has it
        found = self._engine(crop[..., ::-1], use_det=False, use_cls=False, use_rec=True)
        if not found.txts:
            return Recognition("", 0.0)
        score = float(found.scores[0])
        return Recognition(str(found.txts[0]), finite(score))


def find_rapidocr_model() -> Path:
    """Return the recognition model of the rapidocr wheel. Raises MissingBackendError without it."""
    try:
        import rapidocr
    except ImportError as error:
        raise missing("rapidocr", "the recognizer rapidocr") from error

    folder = Path(str(rapidocr.__file__)).parent / "models"
    models = sorted(folder.glob(_MODELS))
    if not models:
        raise MissingBackendError(
            f"{folder} holds no recognition model of PP-OCR; install the rapidocr wheel again"
        )
    return models[0]


def _open_engine(threads: int | None) -> Any:
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "error",
            # Keep results of low confidence too: the caller decides what to trust.
            "Global.text_score": 0.0,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
        }
    )
