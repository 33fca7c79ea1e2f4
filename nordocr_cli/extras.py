"""Which optional library belongs to which extra of the package, and the line that installs it.

The plain install reads documents. Everything else is an extra, so that a reading machine stays
small; a command that needs a missing library ends with exit code 5 and this line.
"""

import logging
import os
import tempfile
from pathlib import Path

from nordocr_cli.errors import MissingBackendError

# Module as it is imported → extra that brings it.
EXTRA_OF = {
    "torch": "train",
    "onnx": "train",
    "onnxscript": "train",
    "onnxsim": "train",
    "tensorboard": "train",
    "matplotlib": "train",
    "scipy": "train",
    "transformers": "trocr",
    "tokenizers": "trocr",
    "peft": "trocr",
    "bitsandbytes": "quantized",
    "mamba_ssm": "mamba",
    "tensorrt_rtx": "rtx",
    "tensorrt": "tensorrt",
    "tesserocr": "tesserocr",
    "rapidocr": "rapidocr",
    "fastapi": "serve",
    "uvicorn": "serve",
    "python_multipart": "serve",
    "ray": "ray",
    "pyarrow": "parquet",
    "wandb": "wandb",
    "jiwer": "dev",
}

_MATPLOTLIB_FOLDER = "MPLCONFIGDIR"
_PACKAGE = Path(__file__).resolve().parent


def is_clone() -> bool:
    """Return whether the package runs from a clone of the repository, not from an installation."""
    return (_PACKAGE.parent / "pyproject.toml").is_file()


def install_line(extra: str) -> str:
    """Return the command that installs an extra, for a clone or an installed package."""
    if is_clone():
        return f"pip install -e '.[{extra}]'"
    return f"pip install 'nordocr-cli[{extra}]'"


def missing(module: str, purpose: str = "this command") -> MissingBackendError:
    """Return the error for an optional library that cannot be imported.

    `purpose` is what needs it, as the subject of the message.
    """
    extra = EXTRA_OF[module]
    error = MissingBackendError(
        f"{purpose} needs {module}, which is not installed: {install_line(extra)}"
    )
    error.hint = install_line(extra)
    return error


def load_matplotlib(purpose: str) -> None:
    """Import matplotlib with its list of fonts. Call this before anything else of it is imported.

    matplotlib would leave the list in the home folder of the user, unless MPLCONFIGDIR names
    another place. Here it goes into a folder that is removed at once: it stays in memory.

    Raises MissingBackendError, for what `purpose` names, without matplotlib.
    """
    chosen = os.environ.get(_MATPLOTLIB_FOLDER)
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns that the list may take a moment
    with tempfile.TemporaryDirectory(prefix="nordocr-fonts-") as folder:
        os.environ[_MATPLOTLIB_FOLDER] = chosen or folder
        try:
            import matplotlib.font_manager  # noqa: F401
        except ImportError as error:
            raise missing("matplotlib", purpose) from error
        finally:
            os.environ.pop(_MATPLOTLIB_FOLDER)
            log.setLevel(level)
    if chosen:
        os.environ[_MATPLOTLIB_FOLDER] = chosen


def from_import_error(error: ImportError) -> MissingBackendError | None:
    """Return the error for a failed import, or None if the module is not an optional one."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF:
        return None
    return missing(module)
