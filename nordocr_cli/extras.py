"""Which optional library belongs to which extra of the package, and the line that installs it.

The plain install reads documents. Everything else is an extra, so that a reading machine stays
small; a command that needs a missing library ends with exit code 5 and this line.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

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

# Variable of matplotlib that names its settings, and what the file is called in a folder.
_SETTINGS = "MATPLOTLIBRC"
_SETTINGS_FILE = "matplotlibrc"
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
    """Import the parts of matplotlib that draw into memory. Call this before anything else of it is
    imported.

    The user's matplotlibrc and list of fonts are read where they are. Nothing is written, unless
    MPLCONFIGDIR names a folder for it: a list of fonts that is missing is made in memory.

    Raises MissingBackendError, for what `purpose` names, without matplotlib.
    """
    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)  # it warns that making the list may take a moment
    try:
        with _nothing_written_by_matplotlib():
            import matplotlib.backends.backend_agg
            import matplotlib.figure
            import matplotlib.font_manager  # noqa: F401
    except ImportError as error:
        raise missing("matplotlib", purpose) from error
    finally:
        log.setLevel(level)


@contextmanager
def _nothing_written_by_matplotlib() -> Iterator[None]:
    """Import matplotlib in this block without its making folders for settings and fonts."""
    chosen = os.environ.get("MPLCONFIGDIR")
    if chosen and os.path.isdir(chosen) and os.access(chosen, os.W_OK):
        yield
        return

    # matplotlib makes the folder of a settings file that it has to look for.
    named = os.environ.get(_SETTINGS)
    os.environ[_SETTINGS] = str(_matplotlib_settings())
    try:
        import matplotlib
        from matplotlib import cbook
    finally:
        del os.environ[_SETTINGS]
        if named is not None:
            os.environ[_SETTINGS] = named

    cache = str(_matplotlib_folder("XDG_CACHE_HOME", ".cache"))
    with (
        _replaced(matplotlib, "get_cachedir", lambda: cache),
        _replaced(cbook, "_lock_path", _refuse_to_write),
    ):
        yield


@contextmanager
def _replaced(
    module: ModuleType, name: str, function: Callable[..., Any]
) -> Iterator[None]:
    """Replace a function of a module in this block, unless its version has no such function."""
    kept = getattr(module, name, None)
    if kept is None:
        yield
        return
    setattr(module, name, function)
    try:
        yield
    finally:
        setattr(module, name, kept)


def _matplotlib_settings() -> Path:
    """Return the file that matplotlib would read its settings from; they are its own where the user
    has none. Raises ImportError without matplotlib.
    """
    module = find_spec("matplotlib")
    if module is None or module.origin is None:
        raise ImportError("no module matplotlib", name="matplotlib")
    candidates = [_matplotlib_folder("XDG_CONFIG_HOME", ".config") / _SETTINGS_FILE]
    named = os.environ.get(_SETTINGS)
    if named:
        candidates = [Path(named), Path(named, _SETTINGS_FILE), *candidates]
    own = Path(module.origin).parent / "mpl-data" / _SETTINGS_FILE
    return next((path for path in candidates if path.is_file()), own)


def _matplotlib_folder(variable: str, default: str) -> Path:
    """Return the folder of matplotlib that is named by a variable of XDG, or is below a folder
    `default` of the user. It need not exist.
    """
    chosen = os.environ.get("MPLCONFIGDIR")
    if chosen:
        return Path(chosen)
    home = Path(os.path.expanduser("~"))
    if not sys.platform.startswith(("linux", "freebsd")):
        return home / ".matplotlib"
    return Path(os.environ.get(variable) or home / default, "matplotlib")


def _refuse_to_write(path: object) -> NoReturn:
    """Stand in for the lock that matplotlib takes before it writes its list of fonts. matplotlib
    goes on without the file.
    """
    raise OSError(f"{path} is not written")


def from_import_error(error: ImportError) -> MissingBackendError | None:
    """Return the error for a failed import, or None if the module is not an optional one."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF:
        return None
    return missing(module)
