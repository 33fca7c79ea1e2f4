"""A model as a host serves it: padded batches, the host's resampler, its softmax."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.charset import NORDIC
from nordocr_cli.data.resize import pad_batch, read_image, resize_line
from nordocr_cli.decode.ctc import decode_greedy
from nordocr_cli.errors import ArtifactError, DataError, UsageError
from nordocr_cli.geometry import Geometry
from nordocr_cli.profile import load_profile, profile_to_json
from nordocr_cli.runtime.padded import as_served
from nordocr_cli.runtime.recognizers import batch_invariance, open_recognizer

LINES = Path(__file__).parents[2] / "samples" / "lines" / "images"
TABLE = profile_to_json(load_profile("svtrv2-nano").profile)


class Recorder:
    """A runner that keeps what it was given and reads an `a` with a space on both sides."""

    name, backend, replicas, uses_widths = "stub", "stub", (), True

    def __init__(self, contract):
        self.contract, self.given = contract, []

    def run(self, images, widths):
        self.given.append((images, widths))
        frames = images.shape[3] // 4
        logits = np.zeros(
            (len(images), frames, self.contract.charset.num_classes), np.float32
        )
        logits[:, :, 0] = 9
        for frame, character in enumerate(" a "):
            logits[:, frame, 0] = 0
            logits[:, frame, NORDIC.class_of[character]] = 9
        return logits


def contract(**geometry):
    return Contract(NORDIC, Geometry(**geometry), TABLE["model"], TABLE, temperature=2.0)


def crops(*widths):
    return [np.full((32, width, 3), 200, np.uint8) for width in widths]


def test_batches_are_sorted_cut_and_padded_with_white_to_their_widest():
    runner = Recorder(contract())
    readings = as_served(runner, max_batch=2).recognize(crops(400, 40, 100, 80, 60))
    assert [images.shape[3] for images, _ in runner.given] == [60, 100, 400]
    # the host gives no widths: a network with a mask sees the padding too
    assert [widths.tolist() for _, widths in runner.given] == [[60, 60], [100, 100], [400]]
    narrow = runner.given[0][0][0]
    assert (narrow[:, :, 40:] == 255).all()
    assert (narrow[:, :, :40] == 200).all()
    assert [reading.text for reading in readings] == ["a"] * 5


def test_the_hosts_confidence_has_no_temperature_and_its_text_no_spaces_at_the_ends():
    runner = Recorder(contract())
    (reading,) = as_served(runner).recognize(crops(40))
    logits = runner.run(*[runner.given[0][0], None])
    (full,) = decode_greedy(logits, np.array([10]), NORDIC)
    assert full.text == " a "
    assert reading.text == "a"
    assert reading.confidence == pytest.approx(full.confidence)
    assert reading.char_confidences == full.char_confidences[1:2]
    assert reading.spans == full.spans[1:2]


def test_the_resampler_is_the_hosts():
    crop = read_image(next(LINES.iterdir()))
    runner = Recorder(contract())
    as_served(runner).recognize([crop])
    host = replace(Geometry(max_width=1792), resampler="corner-bilinear")
    expected, _ = pad_batch([resize_line(crop, host)], host)
    own, _ = pad_batch([resize_line(crop, Geometry())], Geometry())
    assert np.array_equal(runner.given[0][0], expected)
    assert not np.array_equal(expected, own)


def test_the_batch_size_is_that_of_the_models_engine():
    assert as_served(Recorder(contract())).max_batch == 128
    assert as_served(Recorder(contract()), max_batch=7).max_batch == 7


@pytest.mark.parametrize(
    ("field", "value"),
    [("normalization", "imagenet"), ("pad_value", 0), ("resampler", "cubic")],
)
def test_what_the_host_does_otherwise_is_refused(field, value):
    with pytest.raises(DataError, match=f"geometry.{field} is {value}"):
        as_served(Recorder(contract(**{field: value})))


def test_a_network_that_writes_tokens_is_refused():
    parseq = replace(contract(), model={"name": "parseq", "max_label_length": 8})
    with pytest.raises(UsageError, match="CTC networks only"):
        as_served(Recorder(parseq))


def test_probabilities_declared_as_logits_are_refused():
    class Softmax(Recorder):
        def run(self, images, widths):
            logits = super().run(images, widths)
            exponentials = np.exp(logits)
            return exponentials / exponentials.sum(axis=2, keepdims=True)

    with pytest.raises(ArtifactError, match="output_activation is logits .*0.0213"):
        as_served(Softmax(contract())).recognize(crops(40))


def test_the_check_of_batches_pads_an_onnx_model_for_real(tiny_onnx):
    lines = [read_image(file) for file in sorted(LINES.iterdir())[:12]]
    recognizer = open_recognizer(tiny_onnx, threads=1)
    found = batch_invariance(recognizer, lines)
    assert found["together"], "padding to the widest line changes a network without a mask"
    served = [reading.text for reading in as_served(recognizer.runner).recognize(lines)]
    own = [reading.text for reading in recognizer.recognize(lines)]
    assert served != own
