"""TrOCR: transformers' vision transformer and language decoder, pretrained on text lines (Li et al.
2021, arXiv 2109.10282), and peft's LoRA adapters on it.

What is saved of it is what trains: the adapters alone, a few megabytes, or with rank 0 everything.
The pretrained network stays where it is, named in the weights' contract by its folder and its hash.
transformers and peft are an extra, so they are imported late.
"""

import copy
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import Charset
from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.models.base import LineNetwork
from nordocr_cli.models.trocr.adapter import ADAPTER, lora_config, save_adapter
from nordocr_cli.models.trocr.folder import (
    WEIGHTS,
    TrocrFolder,
    find_folder,
    read_folder,
    require_extra,
    require_quantization,
)
from nordocr_cli.models.trocr.tokenizer import TokenizerAdapter
from nordocr_cli.progress import Progress
from nordocr_cli.records import LineRow, Recognition
from nordocr_cli.settings import TrocrModel

_IGNORED = -100  # a label that no loss counts
_MIN_CHARACTER_PX = (
    8  # half a patch of the encoder: two narrower characters share one patch
)
# shares its weights with the embeddings of the tokens: an adapter there could not be merged
_HEAD = "output_projection"


@dataclass(frozen=True)
class Adapted:
    """The linear layers that one pattern matched and no earlier one, in the encoder and in the
    decoder, and the parameters of their adapters.
    """

    pattern: str
    encoder: int
    decoder: int
    parameters: int


class TrOcr(LineNetwork):
    """A pretrained TrOCR with its tokenizer and its adapters; `options` is the model table that
    finds the same network again.
    """

    own_tokens = True
    options: TrocrModel

    @classmethod
    def create(
        cls,
        options: TrocrModel,
        num_classes: int,
        charset: Charset | None = None,
        weights_folder: Path | None = None,
    ) -> Self:
        """Build the network. Raises ValueError without the charset of the labels."""
        if charset is None:
            raise ValueError(
                "TrOCR has a tokenizer of its own: give the charset of its labels"
            )
        return cls(options, charset, weights_folder)

    def __init__(
        self, model: TrocrModel, charset: Charset, weights_folder: Path | None = None
    ) -> None:
        """`weights_folder` is the folder of the weights file to load, if any. Raises the errors of
        finding, checking and loading the pretrained network.
        """
        super().__init__(model)
        self.folder: TrocrFolder = read_folder(find_folder(model, weights_folder))
        self.folder.require_lengths(model)
        require_extra()
        found = {"pretrained_sha256": self.folder.require_sha256(model.pretrained_sha256)}
        if Path(model.pretrained).is_dir() and model.pretrained:
            found["pretrained"] = str(Path(model.pretrained).resolve())
        self.options = model.model_copy(update=found)
        self.charset = charset
        # `weights_folder` is given where weights are read: their base is then in full precision.
        load_in = "fp32" if weights_folder else model.load_in
        if load_in != "fp32":
            require_quantization(model)
        network = _load(self.folder.path, load_in)
        self.pieces = TokenizerAdapter(self.folder.path, network, self.folder.vocabulary)
        _set_tokens(network, self.pieces)
        self.adapted: tuple[Adapted, ...] = ()
        if model.lora_rank:
            self.adapted, names = match_layers(network, model)
            network = _with_adapters(network, model, names)
        self.network = network
        # Parameters once each: the head of the decoder may be its embeddings by another name.
        own = {
            name
            for name, _ in self.named_parameters()
            if "lora_" in name or not model.lora_rank
        }
        self.own: frozenset[str] = frozenset(own if model.pretrained else ())
        self.register_state_dict_post_hook(_only_own)
        self.register_load_state_dict_post_hook(_own_alone_may_miss)

    def forward(self, images: Tensor, widths: Tensor | None, tokens: Tensor) -> Tensor:
        """Return logits (N, L, V) of what follows each of `tokens` int64 (N, L), for normalized
        images (N, 3, H, W).

        Each line is stretched from its own `widths` int64 (N,), or from W without them, to the
        encoder's input.
        """
        squares = stretched_lines(images, widths, self.folder.image_size)
        return self.network(
            pixel_values=squares, decoder_input_ids=tokens, use_cache=False
        ).logits

    def loss(
        self,
        images: Tensor,
        widths: Tensor | None,
        targets: Tensor,
        lengths: Tensor,
        masked: bool = True,
    ) -> Tensor:
        """Return the loss (), in nats a token, of a batch's labels; see `LineNetwork.loss`. Padding
        is always masked.
        """
        texts = [
            self.charset.decode(classes.tolist())
            for classes in targets.cpu().split(lengths.tolist())
        ]
        given, expected = (
            side.to(images.device) for side in self.shifted(texts)
        )  # (N, L) each
        logits = self(images, widths, given)  # (N, L, V)
        return F.cross_entropy(
            logits.float().flatten(0, 1), expected.flatten(), ignore_index=_IGNORED
        )

    def shifted(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return what the decoder is given and what it is to answer, int64 (N, L) each: the
        beginning and the tokens; the tokens and the end. The padding of the answers is ignored by
        the loss.
        """
        ids = self.pieces.encode(texts)
        expected = nn.utils.rnn.pad_sequence(
            [torch.tensor(own) for own in ids], batch_first=True, padding_value=_IGNORED
        )
        given = torch.cat(
            [torch.full((len(ids), 1), self.pieces.start), expected[:, :-1]], 1
        )
        return given.masked_fill(given == _IGNORED, self.pieces.pad), expected

    @torch.no_grad()
    def read(
        self,
        images: Tensor,
        widths: Tensor | None,
        charset: Charset | None = None,
        beam_width: int = 1,
    ) -> list[Recognition]:
        """Return the text of each line of a batch: by the best token each time, or with a beam by
        the best of so many texts.

        The confidence is the geometric mean of the tokens' probabilities, the end's among them.
        Characters have none of their own, as a token writes several. The text comes from the
        tokenizer, so `charset` is not used. Nothing of the folder's own settings for generation is
        used: its penalties on repeats would damage numbers.
        """
        from transformers import GenerationConfig
        from transformers.modeling_outputs import BaseModelOutput

        squares = stretched_lines(images, widths, self.folder.image_size)
        memory = self.network.get_encoder()(
            pixel_values=squares
        ).last_hidden_state  # (N, M, dim)
        settings = GenerationConfig(
            max_length=self.options.generation_max_length,
            num_beams=beam_width,
            do_sample=False,
            use_cache=True,
            decoder_start_token_id=self.pieces.start,
            pad_token_id=self.pieces.pad,
            eos_token_id=self.pieces.end,
        )
        # (N, L)
        found = self.network.generate(
            encoder_outputs=BaseModelOutput(memory), generation_config=settings
        )
        return self._readings(memory, found)

    def _readings(self, memory: Tensor, found: Tensor) -> list[Recognition]:
        """Texts and confidences of generated tokens int64 (N, L), which begin with the beginning; a
        second look gives greedy and beam search the same confidence.
        """
        given = found[:, :-1]
        predicted = found[:, 1:]
        # (N, L - 1, V)
        logits = self.network(
            encoder_outputs=(memory,), decoder_input_ids=given, use_cache=False
        ).logits
        # (N, L - 1)
        chosen = logits.gather(2, predicted[..., None])[
            ..., 0
        ].float() - logits.float().logsumexp(2)
        # 1 behind the first end
        ended = (predicted == self.pieces.end).cumsum(1) - (
            predicted == self.pieces.end
        ).long()
        read = (ended == 0).float()
        confidences = ((chosen * read).sum(1) / read.sum(1).clamp(min=1)).exp().tolist()
        texts = [
            self.pieces.decode(ids[mask > 0].tolist())
            for ids, mask in zip(predicted, read, strict=True)
        ]
        return [
            Recognition(text, confidence if text else 0.0)
            for text, confidence in zip(texts, confidences, strict=True)
        ]

    def label_problem(self, text: str) -> str:
        """Return why a label cannot be learned unchanged, "" when it can."""
        count = len(self.pieces.encode([text])[0])
        if count > self.options.max_target_length:
            limit = self.options.max_target_length
            return f"needs {count} tokens, model.max_target_length is {limit}"
        if self.pieces.comes_back(text):
            return ""
        return f"cannot be written by the tokenizer, which makes {text!r} something else"

    def label_problems(self, rows: Iterable[LineRow], progress: Progress) -> list[str]:
        """Return one sentence for each label that is too long in tokens or that the tokenizer
        cannot write; warn of lines whose characters become too narrow in the encoder's input.
        """
        height, width = self.folder.image_size
        readable = width // _MIN_CHARACTER_PX
        problems = []
        lines = too_long = 0
        for row in rows:
            lines += 1
            too_long += len(row.text) > readable
            problem = self.label_problem(row.text)
            if problem:
                problems.append(f"row {row.id!r} {problem}")
        if too_long and not problems:
            progress.warn(
                f"{too_long:,} of {lines:,} lines have more than {readable} characters: in an image"
                f" of {height}x{width} px each of them is less than {_MIN_CHARACTER_PX} px wide and"
                " is read badly. svtrv2-nano reads long lines"
            )
        return problems

    def require_geometry(self, geometry: Geometry) -> None:
        """Check the normalization of the pixels. Raises UsageError."""
        self.folder.require_geometry(geometry)

    def lines(self) -> list[str]:
        """Return what trains and what is frozen, line by line."""
        trained = sum(p.numel() for p in self.parameters() if p.requires_grad)
        frozen = self._size() - trained
        width = max((len(row.pattern) for row in self.adapted), default=0)
        rows = [
            f"LoRA {row.pattern:{width}} {row.encoder:>4} layers of the encoder, {row.decoder:>4}"
            f" of the decoder, {row.parameters:>10,} parameters"
            for row in self.adapted
        ]
        return [
            *rows,
            (
                f"trains {trained:,} parameters ({trained / (trained + frozen):.1%}); {frozen:,}"
                " are frozen"
            ),
        ]

    def _size(self) -> int:
        """Number of parameters; quantized ones are packed, so peft counts them."""
        if self.adapted:
            return int(self.network.get_nb_trainable_parameters()[1])
        return sum(p.numel() for p in self.parameters())

    def facts(self) -> dict[str, Any]:
        """Return what the pretrained network is and what adapts it as plain JSON values."""
        return {
            "folder": str(self.folder.path),
            "sha256": self.options.pretrained_sha256,
            "tokens": {
                "start": self.pieces.start,
                "pad": self.pieces.pad,
                "end": self.pieces.end,
            },
            "unwritable": self.pieces.unwritable(self.charset),
            "adapted": [asdict(row) for row in self.adapted],
        }

    def load_pretrained(self, progress: Progress) -> None:
        """Report what was loaded, what its tokenizer can write, and what trains; the pretrained
        weights are there since the network was built. Raises UsageError where nothing trains.
        """
        if not self.own:
            raise UsageError(
                "model.pretrained is empty: these weights have nothing of their own to train"
            )
        height, width = self.folder.image_size
        progress.note(
            f"{self.folder.path}: lines become {height}x{width} px, at most {self.folder.positions}"
            f" tokens; begin {self.pieces.start}, pad {self.pieces.pad}, end {self.pieces.end}"
        )
        (progress.warn if self.pieces.unwritable(self.charset) else progress.note)(
            self.pieces.coverage(self.charset)
        )
        for line in self.lines():
            progress.note(line)

    def require_same_base(self, model: Mapping[str, Any], what: str) -> None:
        """Raise ArtifactError when weights with this model table belong to another pretrained
        network.
        """
        if not model.get("pretrained"):
            raise ArtifactError(
                f"{what} has nothing of its own to load; start from its folder: --set"
                " model.pretrained=FOLDER"
            )
        if model.get("pretrained_sha256") != self.options.pretrained_sha256:
            raise ArtifactError(
                f"{what} was trained on another pretrained network: {model.get('pretrained')},"
                f" sha256 {str(model.get('pretrained_sha256'))[:12]}…, not"
                f" {self.options.pretrained_sha256[:12]}… of {self.folder.path}"
            )

    @classmethod
    def save_extras(
        cls, folder: Path, state: Mapping[str, Tensor], contract: Contract
    ) -> list[Path]:
        """Write the adapters as peft reads them, where there are any."""
        written = save_adapter(folder / ADAPTER, state, contract)
        if written:
            return [folder / ADAPTER]
        return []

    def merged(self) -> nn.Module:
        """Return a copy as a plain VisionEncoderDecoderModel, the adapters added to the weights
        that they adapt.
        """
        network: Any = copy.deepcopy(self.network)
        if self.adapted:
            return network.merge_and_unload(safe_merge=True)
        return network


def require_trocr(network: LineNetwork) -> TrOcr:
    """Return a network that must be a TrOCR. Raises TypeError for any other one."""
    if not isinstance(network, TrOcr):
        raise TypeError(f"a TrOCR is needed, not {network.options.name}")
    return network


@torch.no_grad()
def difference(model: TrOcr, merged: nn.Module) -> float:
    """Return the largest difference of a logit between a network with adapters and its merged
    copy, on noise.
    """
    height, width = model.folder.image_size
    draw = torch.Generator().manual_seed(1)
    images = torch.rand(2, 3, height, width, generator=draw) * 2 - 1  # (2, 3, H, W)
    # (2, L)
    tokens = torch.randint(
        model.folder.vocabulary, (2, min(16, model.folder.positions)), generator=draw
    )
    with_adapters = model(images, None, tokens)
    return float(
        (
            merged(pixel_values=images, decoder_input_ids=tokens, use_cache=False).logits
            - with_adapters
        )
        .abs()
        .max()
    )


def stretched_lines(images: Tensor, widths: Tensor | None, size: tuple[int, int]) -> Tensor:
    """Scale the first `widths` columns int64 (N,), or all W, of images (N, 3, H, W) to `size`
    (height, width): linear, and where they shrink over as many pixels as they shrink by, as
    Pillow's and torch's antialiased bilinear do.
    """
    _, _, height, columns = images.shape
    # bf16 has 8 bits for a sum of 256 gray levels
    with torch.autocast(images.device.type, enabled=False):
        if widths is None:
            own = torch.full((1,), columns, device=images.device)
        else:
            own = widths
        across = _shares(own.float(), columns, size[1])  # (1 or N, W, width)
        # (1, H, height)
        down = _shares(
            torch.full((1,), float(height), device=images.device), height, size[0]
        )
        return down[0].T @ (images.float() @ across[:, None])  # (N, 3, height, width)


def _shares(own: Tensor, pixels: int, size: int) -> Tensor:
    """Which share each of `pixels` has in each of `size` new ones, (N, pixels, size), when the
    first `own` (N,) are scaled.
    """
    scale = (own / size)[:, None, None]  # (N, 1, 1)
    centres = (torch.arange(size, device=own.device) + 0.5) * scale  # (N, 1, size)
    places = (torch.arange(pixels, device=own.device) + 0.5)[
        None, :, None
    ]  # (1, pixels, 1)
    weight = (1 - (places - centres).abs() / scale.clamp(min=1)).clamp(min=0) * (
        places < own[:, None, None]
    )
    return weight / weight.sum(1, keepdim=True)


def match_layers(
    network: nn.Module, model: TrocrModel
) -> tuple[tuple[Adapted, ...], list[str]]:
    """Return what each of the target patterns matches, and the names of all the layers that they
    match.

    A pattern is a run of whole parts of a layer's dotted name, `*` matches anything. Raises
    UsageError naming each pattern that matches no linear layer and what there is to match.
    """
    linear = {
        name: layer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.Linear) and _HEAD not in name
    }
    rows = []
    names = []
    idle = []
    for pattern in model.lora_target_modules:
        matched = [name for name in linear if fnmatchcase(f".{name}.", f"*.{pattern}.*")]
        if not matched:
            idle.append(repr(pattern))
        new = [name for name in matched if name not in names]
        parameters = sum(
            model.lora_rank * (linear[name].in_features + linear[name].out_features)
            for name in new
        )
        encoder = sum(name.startswith("encoder.") for name in new)
        rows.append(Adapted(pattern, encoder, len(new) - encoder, parameters))
        names += new
    if idle:
        raise UsageError(
            f"model.lora_target_modules: {', '.join(idle)} matches no linear layer of this network;"
            f" its encoder has {_last_parts(linear, 'encoder')},"
            f" its decoder {_last_parts(linear, 'decoder')}"
        )
    return tuple(rows), names


def _last_parts(names: Iterable[str], side: str) -> str:
    """The last parts of the dotted names that start with `side`, as a list for a message."""
    parts = {name.rpartition(".")[2] for name in names if name.startswith(side)}
    return ", ".join(sorted(parts))


def _load(folder: Path, load_in: str = "fp32") -> Any:
    """The network of a folder, in fp32 or with quantized linear layers. Raises ArtifactError for
    weights that are damaged or not those of its config.json: what has no weights would be random.
    """
    from transformers import VisionEncoderDecoderModel

    try:
        network, found = VisionEncoderDecoderModel.from_pretrained(
            folder,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below
            use_safetensors=True,
            dtype=torch.float32,
            local_files_only=True,
            **_quantization(load_in),
        )
    # configuration and weights that do not go together raise almost anything
    except Exception as error:
        raise ArtifactError(
            f"{folder} cannot be loaded ({type(error).__name__}: {error})"
        ) from error
    network.encoder.pooler = None  # nobody reads it, and released folders leave it out
    wrong = {
        "missing": [
            name for name in found["missing_keys"] if not name.startswith("encoder.pooler.")
        ],
        "of another shape": [entry[0] for entry in found["mismatched_keys"]],
        "of layers that config.json does not have": [
            name for name in found["unexpected_keys"] if ".layer" in name
        ],
    }
    problems = [
        f"{len(names)} tensors are {what}, e.g. {min(names)}"
        for what, names in wrong.items()
        if names
    ]
    if problems:
        raise ArtifactError(f"{folder / WEIGHTS}: {'; '.join(problems)}")
    return network


def _quantization(load_in: str) -> dict[str, Any]:
    """The arguments of from_pretrained that quantize the linear layers, none for fp32. The head
    shares its weights with the embeddings and stays as it is.
    """
    if load_in == "fp32":
        return {}
    from transformers import BitsAndBytesConfig

    if load_in == "8bit":
        config = BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=[_HEAD])
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
            llm_int8_skip_modules=[_HEAD],
        )
    if torch.cuda.is_available():
        device: int | str = torch.cuda.current_device()
    else:
        device = "cpu"
    return {"quantization_config": config, "device_map": {"": device}}


def _set_tokens(network: Any, pieces: TokenizerAdapter) -> None:
    """Write the token ids where transformers looks for them: what merge-lora saves generates as it
    does here.
    """
    for place in (network.config, network.config.decoder, network.generation_config):
        place.decoder_start_token_id = pieces.start
        place.pad_token_id = pieces.pad
        place.eos_token_id = pieces.end


def _with_adapters(network: Any, model: TrocrModel, names: Sequence[str]) -> Any:
    """The network frozen, with an adapter on each of the layers `names`."""
    from peft import get_peft_model

    with warnings.catch_warnings():
        # peft asks transformers by an old name
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
        return get_peft_model(network, lora_config(model, names))


def _only_own(
    module: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: Any
) -> None:
    """Leave out of a state dict what the pretrained folder holds."""
    assert isinstance(module, TrOcr)
    for name in [
        name
        for name in state
        if name.startswith(prefix) and name.removeprefix(prefix) not in module.own
    ]:
        del state[name]


def _own_alone_may_miss(module: nn.Module, keys: Any) -> None:
    """What the pretrained folder holds is not missing."""
    assert isinstance(module, TrOcr)
    keys.missing_keys[:] = [name for name in keys.missing_keys if name in module.own]
