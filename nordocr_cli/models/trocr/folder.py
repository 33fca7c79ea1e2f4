"""The folder of a pretrained TrOCR, as transformers saves it: found, and judged by its JSON files
before it is loaded.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nordocr_cli.atomic import sha256_of
from nordocr_cli.errors import ArtifactError, MissingBackendError, UsageError
from nordocr_cli.extras import install_line, missing
from nordocr_cli.geometry import NORMALIZATIONS, Geometry
from nordocr_cli.limits import read_json
from nordocr_cli.settings import TrocrModel

WEIGHTS = "model.safetensors"
# What of a hub's repository is fetched: no pickles, no other program's weights.
_FETCHED = ["*.json", "*.txt", "*.model", WEIGHTS]
_ENCODERS = ("vit", "deit")
_KEY = "model.pretrained"


@dataclass(frozen=True)
class TrocrFolder:
    """A folder that holds a TrOCR. `image_size` is (height, width) of the encoder's input in
    pixels, `positions` the most tokens that its decoder can write, `vocabulary` their number of
    kinds, `normalization` how its pixels are to be normalized.
    """

    path: Path
    image_size: tuple[int, int]
    positions: int
    vocabulary: int
    normalization: str

    def require_lengths(self, model: TrocrModel) -> None:
        """Raise UsageError when the profile's texts are longer than the decoder's positions."""
        for key in ("max_target_length", "generation_max_length"):
            needed = getattr(model, key)
            if needed > self.positions:
                raise UsageError(
                    f"model.{key} {needed} is beyond the {self.positions} positions of {self.path};"
                    " set it to fewer"
                )

    def require_geometry(self, geometry: Geometry) -> None:
        """Raise UsageError when lines would be normalized differently than in the folder's own
        training.
        """
        if geometry.normalization != self.normalization:
            raise UsageError(
                f"{self.path} was trained on pixels normalized as {self.normalization!r}; set"
                f" geometry.normalization so, it is {geometry.normalization!r}"
            )

    def require_sha256(self, expected: str) -> str:
        """Return the SHA-256 of the weights. Raises ArtifactError when it is not `expected` ("":
        any).
        """
        found = sha256_of(self.path / WEIGHTS)
        if expected not in ("", found):
            raise ArtifactError(
                f"{self.path / WEIGHTS} is another pretrained network than these weights were"
                f" trained on: sha256 {found[:12]}…, not {expected[:12]}…"
            )
        return found


def find_folder(model: TrocrModel, weights_folder: Path | None = None) -> Path:
    """Return the folder that `model.pretrained` means: a folder, or a name on the Hugging Face hub,
    whose files come from its cache or are fetched. Empty means `weights_folder`, the folder of the
    weights file. A folder that was moved is also found there, under the name `pretrained`.

    Raises UsageError when there is none, MissingBackendError without the extra or when the hub
    cannot be reached.
    """
    if not model.pretrained:
        if weights_folder is None:
            raise UsageError(
                f"{_KEY} is empty: name the folder of a TrOCR, or its name on the hub"
                " (microsoft/trocr-base-printed)"
            )
        return weights_folder
    named = Path(model.pretrained)
    if named.is_dir():
        return named
    if weights_folder is not None and (weights_folder / "pretrained").is_dir():
        return weights_folder / "pretrained"
    owner, slash, name = model.pretrained.partition("/")
    if (
        named.exists()
        or not (owner and slash and name)
        or "/" in name
        or owner in (".", "..", "~")
    ):
        if weights_folder:
            there = f"; put the folder, or a link to it, at {weights_folder / 'pretrained'}"
        else:
            there = ""
        raise UsageError(
            f"{_KEY}: no folder {named}, and no name on the hub either"
            f" (microsoft/trocr-base-printed is one){there}"
        )
    return _fetched(model.pretrained)


def _fetched(name: str) -> Path:
    require_extra()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=_FETCHED))
    except RepositoryNotFoundError as error:
        raise UsageError(
            f"{_KEY}: neither a folder nor a public network of the hub is named {name!r}"
        ) from error
    except Exception as error:  # whatever the network between here and the hub raises
        raise MissingBackendError(
            f"{_KEY}: {name} is not on this machine and cannot be fetched ({type(error).__name__})."
            f" Where there is a network: hf download {name} --local-dir trocr; then --set"
            f" {_KEY}=trocr"
        ) from error


def require_trocr_folder(model: TrocrModel, geometry: Geometry, _fresh: bool) -> None:
    """Check the folder of a pretrained TrOCR by its JSON files, where it is on this machine. Raises
    UsageError or ArtifactError.
    """
    if not Path(model.pretrained).is_dir():
        return
    folder = read_folder(Path(model.pretrained))
    folder.require_lengths(model)
    folder.require_geometry(geometry)


def require_extra() -> None:
    """Raise MissingBackendError, with the install line, where transformers or peft is not
    installed.
    """
    try:
        import peft  # noqa: F401
        import transformers
    except ImportError as error:
        raise MissingBackendError(
            f"TrOCR needs transformers and peft ({error}): {install_line('trocr')}"
        ) from error
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # what matters is checked, and said by us


def require_quantization(model: TrocrModel) -> None:
    """Raise MissingBackendError where the pretrained weights cannot be quantized: without CUDA, or
    without bitsandbytes.
    """
    import torch

    if not torch.cuda.is_available():
        raise MissingBackendError(f"no CUDA device here: {model.required_by}")
    try:
        import bitsandbytes  # noqa: F401
    except ImportError as error:
        raise missing("bitsandbytes", f"model.load_in = {model.load_in!r}") from error


def read_folder(path: Path) -> TrocrFolder:
    """Return what the folder holds, by its JSON files. Raises ArtifactError when it is no TrOCR or
    has a pickle for weights.
    """
    config = _json(path / "config.json", f"{_KEY}: {path} is no folder of transformers")
    encoder = config.get("encoder") or {}
    decoder = config.get("decoder") or {}
    kinds = config.get("model_type"), encoder.get("model_type"), decoder.get("model_type")
    if (
        kinds[0] != "vision-encoder-decoder"
        or kinds[1] not in _ENCODERS
        or kinds[2] != "trocr"
    ):
        if kinds[0] != "vision-encoder-decoder":
            holds = kinds[0]
        else:
            holds = f"{kinds[1]} with {kinds[2]}"
        raise ArtifactError(
            f"{_KEY}: {path} holds another network ({holds!r}); a TrOCR is a vision-encoder-decoder"
            f" of {' or '.join(_ENCODERS)} with trocr"
        )
    if not (path / WEIGHTS).is_file():
        pickles = sorted(file.name for file in path.glob("*.bin"))
        if pickles:
            why = f": {pickles[0]} is a pickle, which can run code, and is not read"
        else:
            why = ""
        raise ArtifactError(
            f"{_KEY}: {path} has no {WEIGHTS}{why}. Ask for it as safetensors, or make it where you"
            " trust the file:"
            " VisionEncoderDecoderModel.from_pretrained(FOLDER).save_pretrained(FOLDER)"
        )
    side = encoder.get("image_size", 384)
    height, width = (side, side) if isinstance(side, int) else side
    return TrocrFolder(
        path=path,
        image_size=(int(height), int(width)),
        positions=int(decoder.get("max_position_embeddings", 512)),
        vocabulary=int(decoder.get("vocab_size", 50265)),
        normalization=_normalization(path),
    )


def _normalization(path: Path) -> str:
    """The name of the processor's normalization. Raises ArtifactError for one that has none
    here.
    """
    processor = path / "processor_config.json"
    if processor.is_file():
        settings = _json(processor, "").get("image_processor")
    else:
        settings = None
    file = path / "preprocessor_config.json"
    settings = settings or _json(
        file, f"{_KEY}: {path} does not define how its images are prepared"
    )
    mean = settings.get("image_mean")
    std = settings.get("image_std")
    for name, (expected_mean, expected_scale) in NORMALIZATIONS.items():
        expected = [value / 255 for value in (*expected_mean, *expected_scale)]
        found = [*mean, *std] if mean and std else []
        if len(found) == len(expected) and all(
            abs(a - b) < 1e-3 for a, b in zip(found, expected, strict=True)
        ):
            return name
    raise ArtifactError(
        f"{file}: image_mean {mean} and image_std {std} are none of {', '.join(NORMALIZATIONS)}"
    )


def _json(path: Path, otherwise: str) -> dict[str, Any]:
    if not path.exists():
        raise ArtifactError(f"{otherwise}: it has no {path.name}")
    value = read_json(path, "JSON file", error=ArtifactError)
    if not isinstance(value, dict):
        raise ArtifactError(f"{path} is not readable JSON (no table)")
    return value
