"""The weights of the text detector."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import nordocr_cli

PACKAGE = Path(nordocr_cli.__file__).parent
MODELS = sorted(PACKAGE.rglob("*.onnx"))


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_shipped_weights_hold_no_subnormal_numbers(path: Path) -> None:
    """Processors compute with them many times slower, and they change nothing."""
    smallest = np.finfo(np.float32).tiny
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32:
            continue
        is_subnormal = (values != 0) & (np.abs(values) < smallest)
        assert not is_subnormal.any(), tensor.name
