"""PP-OCR's line recognizer, with the model from the rapidocr wheel. It is one model for many
languages, trained by others on other data. Its errors differ from those of this project's networks
and of Tesseract, which makes it useful for a consensus.
"""

import socket
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
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


def load_rapidocr(purpose: str) -> Any:
    """Return the class RapidOCR. For its downloads it imports urllib3, which binds a socket to see
    whether the machine has IPv6; here it does not.

    Raises MissingBackendError, for what `purpose` names, without the module.
    """
    has_ipv6 = socket.has_ipv6
    socket.has_ipv6 = False
    try:
        from rapidocr import RapidOCR
    except ImportError as error:
        raise missing("rapidocr", purpose) from error
    finally:
        socket.has_ipv6 = has_ipv6
    return RapidOCR


def find_rapidocr_model() -> Path:
    """Return the recognition model of the rapidocr wheel. Raises MissingBackendError without it."""
    module = find_spec("rapidocr")
    if module is None or module.origin is None:
        raise missing("rapidocr", "the recognizer rapidocr")
    folder = Path(module.origin).parent / "models"
    models = sorted(folder.glob(_MODELS))
    if not models:
        raise MissingBackendError(
            f"{folder} holds no recognition model of PP-OCR; install the rapidocr wheel again"
        )
    return models[0]


def _open_engine(threads: int | None) -> Any:
    return load_rapidocr("the recognizer rapidocr")(
        params={
            "Global.log_level": "error",
            # Keep results of low confidence too: the caller decides what to trust.
            "Global.text_score": 0.0,
            "EngineConfig.onnxruntime.intra_op_num_threads": threads or -1,
        }
    )
