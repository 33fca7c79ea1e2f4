"""Finding weights: a file, the folder of a run, or a recognizer that ships with the package."""

from pathlib import Path

from nordocr_cli.errors import UsageError, nearest
from nordocr_cli.variables import cache_folder

# The recognizers that ship with the package, and the one that is used where none is named.
SHIPPED = Path(__file__).parents[1] / "weights"
DEFAULT_MODEL = "nordocr-default"
_BEST = "best.safetensors"
_MODEL_SUFFIXES = (".safetensors", ".onnx")


def added_models_folder() -> Path:
    """Return the folder of recognizers that `models get` added. It need not exist."""
    return cache_folder() / "models"


def find_weights(path: Path) -> Path:
    """Return the model file that `path` names: itself, `best.safetensors` of a run folder, or a
    recognizer by name that ships with the package or was added with `models get`
    (`nordocr-default`, or `nordocr-default.onnx`). What exists at `path` goes first.

    Raises UsageError when there is none.
    """
    is_bare_name = path.parent == Path()
    try:
        exists = path.exists()
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        raise UsageError(f"no model {str(path)[:80]!r}… ({error})") from None
    if is_folder:
        return _best_of_run(path)
    if exists:
        return path
    added = _added(path) if is_bare_name else None
    if added is not None:
        return added
    if is_bare_name and path.name.startswith(DEFAULT_MODEL):
        return _shipped(path)

    hint = ""
    if is_bare_name:
        ships = [file.stem for file in SHIPPED.iterdir() if file.suffix == ".safetensors"]
        hint = f", and no recognizer of that name ships; {nearest(path.name, ships)}"
    raise UsageError(f"no file or run folder {path}{hint}")


def _best_of_run(folder: Path) -> Path:
    best = folder / _BEST
    if best.is_file():
        return best
    raise UsageError(f"{folder} holds no {_BEST}; is it the folder of a run?")


def _added(name: Path) -> Path | None:
    """The file of a recognizer in the cache folder; weights go before ONNX."""
    endings = ("",) if name.suffix in _MODEL_SUFFIXES else _MODEL_SUFFIXES
    candidates = [added_models_folder() / f"{name.name}{ending}" for ending in endings]
    return next((file for file in candidates if file.is_file()), None)


def _shipped(name: Path) -> Path:
    file = SHIPPED / (name.name if name.suffix else f"{name.name}.safetensors")
    if file.is_file():
        return file
    names = sorted(
        file.name for file in SHIPPED.iterdir() if file.suffix in _MODEL_SUFFIXES
    )
    raise UsageError(
        f"no recognizer {name.name!r} ships with nordocr; those that do: {', '.join(names)}"
    )
