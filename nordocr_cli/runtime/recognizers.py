"""Recognizers: line crops in, text out."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.data.resize import pad_batch, resize_line
from nordocr_cli.data.text_band import tightened
from nordocr_cli.decode.autoregressive import greedy_decoder
from nordocr_cli.decode.beam import BEAM_WIDTH, decode_beam
from nordocr_cli.decode.language import (
    SHIPPED_MODEL,
    LanguageFiles,
    LanguageModel,
    shipped_language_model,
)
from nordocr_cli.decode.probabilities import require_declared_activation
from nordocr_cli.decode.rescoring import decode_with_language
from nordocr_cli.errors import UsageError
from nordocr_cli.records import Recognition
from nordocr_cli.runtime.backends.tesseract.engine import find_best_tesseract
from nordocr_cli.runtime.backends.tesseract.recognizer import TesseractRecognizer
from nordocr_cli.runtime.device import parse_device
from nordocr_cli.runtime.padded import DecodeFunction, as_served, padded
from nordocr_cli.runtime.protocols import Image, Recognizer, Runner
from nordocr_cli.runtime.runners import (
    RunnerOptions,
    open_runner,
    require_runnable,
    runner_of_network,
)
from nordocr_cli.runtime.specs import (
    AS_SERVED,
    AUTO,
    LANGUAGE,
    Spec,
    parse_decoder,
    parse_spec,
    require_options,
    resolved_decoder,
)

if TYPE_CHECKING:
    from nordocr_cli.runtime.backends.torch.runner import LoadedNetwork

# Maximum size of a padded batch: lines times batch width, in columns of pixels. 16 lines of 1024
# px, or 64 of 256.
MAX_BATCH_COLUMNS = 16_384
_A_FEW = 7  # a batch with one line of 1792 px still holds this many


class RunnerRecognizer:
    """A network with the preprocessing and decoding of its contract; see Recognizer.

    A line's text never depends on its neighbours. A runner that masks padding receives lines of
    similar width together; one that does not receives lines of exactly the same width.
    """

    def __init__(
        self,
        runner: Runner,
        max_batch_columns: int = MAX_BATCH_COLUMNS,
        decode: DecodeFunction | None = None,
    ) -> None:
        self.runner = runner
        self.decode = decode or greedy_decoder(runner.contract.decoding)
        self.name = runner.name
        self._max_batch_columns = max_batch_columns

    def recognize(
        self, crops: Sequence[Image], languages: Sequence[str] = ()
    ) -> list[Recognition]:
        """Read the crops; see Recognizer. One network reads all languages."""
        contract = self.runner.contract
        tight = [tightened(crop, contract.geometry) for crop in crops]
        lines = [resize_line(crop, contract.geometry) for crop in tight]  # (height, w, 3)
        readings: list[Recognition] = [Recognition("")] * len(lines)
        batches = list(self.batches([line.shape[1] for line in lines]))

        def read(batch: tuple[int, list[int]], runner: Runner) -> None:
            width, members = batch
            images, widths = pad_batch(
                [lines[index] for index in members], contract.geometry, width
            )
            logits = runner.run(images, widths)  # (N, T, C)
            # Each line is decoded over its own frames only, since the frames of the padding are
            # meaningless.
            frames = np.array([contract.out_length(int(w)) for w in widths])
            require_declared_activation(logits[0], int(frames[0]), contract, self.name)
            found = self.decode(
                logits,
                frames,
                contract.charset,
                contract.output_activation,
                contract.temperature,
            )
            for index, reading in zip(members, found, strict=True):
                readings[index] = self.calibrated(reading)

        replicas = self.runner.replicas if len(batches) > 1 else ()
        if replicas:
            with ThreadPoolExecutor(len(replicas)) as pool:
                # Wide lines first: a wide line that starts last would leave the other cores idle.
                done = [
                    pool.submit(read, batch, replicas[i % len(replicas)])
                    for i, batch in enumerate(reversed(batches))
                ]
                try:
                    for future in done:
                        future.result()
                finally:  # interrupted, or one failed: cancel what has not started
                    pool.shutdown(wait=False, cancel_futures=True)
        else:
            for batch in batches:
                read(batch, self.runner)
        return readings

    def calibrated(self, reading: Recognition) -> Recognition:
        """Return a reading whose confidence is how often such a line is exact, where the contract
        holds what was fitted; else the reading as decoded.
        """
        curve = self.runner.contract.line_confidence
        if curve is None or not reading.confidence:
            return reading
        return replace(reading, confidence=curve.of(reading.confidence, len(reading.text)))

    def batches(self, widths: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Yield (batch width, line numbers) for lines of the given widths in pixels, narrow ones
        first. A network without a mask sees padding as pixels, and every column of padding changes
        the result of attention. Its lines are therefore never padded and share a batch only with
        lines of exactly the same width. On a CPU that costs nothing (303 lines: 10.5 s, padded to
        multiples of 64 px 12.0 s). It gives the texts of the masked network: 303 of 303 are the
        same, 24 when padded.
        """
        batch: list[int] = []
        for index in sorted(range(len(widths)), key=lambda i: widths[i]):
            if batch:
                full = (len(batch) + 1) * widths[index] > self._max_batch_columns
                if full or (
                    not self.runner.uses_widths and widths[batch[-1]] != widths[index]
                ):
                    yield widths[batch[-1]], batch
                    batch = []
            batch.append(index)
        if batch:
            yield widths[batch[-1]], batch


@dataclass(frozen=True)
class TextSearch:
    """How a decoder searches for the text: `beam` keeps `beam_width` texts, `language` and `beam`
    use the language model `lm` in place of the contract's. Raises UsageError for a beam without
    texts.
    """

    beam_width: int = BEAM_WIDTH
    lm: LanguageFiles | None = None

    def __post_init__(self) -> None:
        if self.beam_width < 1:
            raise UsageError(
                f"a beam of {self.beam_width} texts reads nothing; the usual width is {BEAM_WIDTH}"
            )


def open_recognizer(
    spec: str | Path,
    *,
    backend: str = "auto",
    device: str = "auto",
    threads: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    decoder: str = AUTO,
    search: TextSearch = TextSearch(),
    compiled: bool = False,
) -> Recognizer:
    """Open the recognizer that `spec` names: `tesseract`, `tesseract:swe+nor`, or the path of a
    model (see open_runner).

    `decoder` is `auto`, which reads with the language model that the contract names, else
    greedily; `greedy`; `language` for the language model where the contract names none; `beam` for
    a search that keeps several texts (CTC's prefixes, or TrOCR's own); or PARSeq's decoding mode:
    `ar`, `nar`, `ar+1` (see parse_decoder). `search` holds the settings of `language` and `beam`.
    `compiled` lets torch compile the network. Raises UsageError for an unknown decoder or one that
    this model does not have, and what open_runner and TesseractRecognizer raise.
    """
    named = parse_spec(spec)
    require_options(named, precision, decoder, compiled)
    if named.path is None:
        # in bench the device is meant for the networks; here it only has to be valid
        parse_device(device)
        return _open_program(named, threads)
    runner_options = RunnerOptions(device, threads, precision, decoder, compiled)
    if named.backend == "torch":
        from nordocr_cli.runtime.backends.torch.runner import load_network

        require_runnable(named, backend, runner_options)
        loaded = load_network(named.path, device, threads)
        if loaded.contract.decoding == "seq2seq":
            return _trocr_recognizer(loaded, runner_options, search)
        runner = runner_of_network(loaded, runner_options)
    else:
        runner = open_runner(named.path, backend, device, threads)
    return _recognizer_of(runner, decoder, search)


def _trocr_recognizer(
    loaded: "LoadedNetwork", options: RunnerOptions, search: TextSearch
) -> Recognizer:
    from nordocr_cli.runtime.backends.torch.trocr import TrocrRecognizer

    decoder = options.decoder
    if parse_decoder(decoder):
        raise UsageError(
            f"{loaded.name} is a TrOCR, which decodes greedily or with a beam; --decoder"
            f" {decoder} is PARSeq's"
        )
    if options.compiled or search.lm:
        raise UsageError(
            f"{loaded.name} is a TrOCR; --compile and --lm are not for it: it has a language model"
            " of its own"
        )
    beam_width = search.beam_width if decoder == "beam" else 1
    return TrocrRecognizer(loaded, options.precision, beam_width)


def _recognizer_of(runner: Runner, decoder: str, search: TextSearch) -> Recognizer:
    if decoder in ("beam", LANGUAGE) and runner.contract.decoding != "ctc":
        raise UsageError(
            f"{runner.name} is autoregressive; --decoder {decoder} is for CTC networks: leave it"
            " out"
        )
    if decoder == AS_SERVED:
        return as_served(runner)
    if decoder != "beam":
        model = search.lm.open_model(runner.contract.charset) if search.lm else None
        return RunnerRecognizer(
            runner, decode=contract_decoder(runner.contract, decoder, model)
        )
    language = search.lm.open(runner.contract.charset) if search.lm else None
    decode = partial(decode_beam, beam_width=search.beam_width, language=language)
    return RunnerRecognizer(runner, decode=decode)


def contract_of(recognizer: Recognizer) -> Contract | None:
    """Return the contract of the network that reads; None for other programs."""
    runner = getattr(recognizer, "runner", recognizer)
    contract: Contract | None = getattr(runner, "contract", None)
    return contract


def contract_decoder(
    contract: Contract, decoder: str = AUTO, language: LanguageModel | None = None
) -> DecodeFunction:
    """Return what decodes a network's output with `auto`, `greedy` or `language` (see
    resolved_decoder). `language` is a language model of one's own in place of the contract's; where
    the contract names none either, it is the one that ships.

    Raises ArtifactError for a name that this version does not have.
    """
    if resolved_decoder(decoder, contract) != LANGUAGE:
        return greedy_decoder(contract.decoding)
    if language is None:
        name = contract.language_model or SHIPPED_MODEL
        language = shipped_language_model(name, contract.charset)
    return partial(decode_with_language, language=language)


def _open_program(named: Spec, threads: int | None) -> Recognizer:
    if named.backend == "rapidocr":
        from nordocr_cli.runtime.backends.rapidocr.recognizer import RapidOcrRecognizer

        return RapidOcrRecognizer(threads)
    if named.best:
        return TesseractRecognizer(
            named.languages, threads, find_best_tesseract(), name="tesseract-best"
        )
    return TesseractRecognizer(named.languages, threads)


def batch_invariance(
    recognizer: Recognizer,
    crops: Sequence[Image],
    languages: Sequence[str] = (),
    seed: int = 1,
    *,
    as_host: bool = True,
) -> dict[str, list[int]]:
    """Return the numbers of the crops whose text differs from reading them alone: all `together`,
    next to the `widest`, and in `random` batches. Empty lists mean no difference. With `as_host` a
    network without a mask, such as an ONNX model, is run as a host runs it: each batch is padded to
    its widest line. RunnerRecognizer never pads such a network, so it shows no difference.
    """
    if not crops:
        return {"together": [], "widest": [], "random": []}

    batched = recognizer
    if (
        as_host
        and isinstance(recognizer, RunnerRecognizer)
        and _sees_padding(recognizer.runner)
    ):
        batched = padded(recognizer.runner, recognizer.decode)

    def texts(numbers: Sequence[int]) -> list[str]:
        read = batched.recognize(
            [crops[i] for i in numbers],
            [languages[i] for i in numbers] if languages else (),
        )
        return [reading.text for reading in read]

    everything = range(len(crops))
    shuffled = np.random.default_rng(seed).permutation(len(crops)).tolist()
    widest = max(everything, key=lambda i: crops[i].shape[1] / crops[i].shape[0])
    batches = {
        "together": [list(everything)],
        "widest": [
            [*everything[at : at + _A_FEW], widest] for at in range(0, len(crops), _A_FEW)
        ],
        "random": [
            shuffled[at : at + 2 * _A_FEW] for at in range(0, len(crops), 2 * _A_FEW)
        ],
    }
    alone = [texts([i])[0] for i in everything]

    def differing(batch: list[int]) -> set[int]:
        together = zip(batch, texts(batch), strict=True)
        return {i for i, text in together if text != alone[i]}

    return {
        name: sorted(set().union(*map(differing, lists))) for name, lists in batches.items()
    }


def _sees_padding(runner: Runner) -> bool:
    return not runner.uses_widths and runner.contract.decoding == "ctc"
