"""The command against a reader that fails three times in ten, killed as it asks:
benchmarks/vlm_faults.py in small.
"""

import importlib.util
import os
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "vlm_faults.py"


@pytest.fixture(scope="module")
def vlm_faults():
    spec = importlib.util.spec_from_file_location("vlm_faults", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
@pytest.mark.tesseract
def test_nothing_is_lost_and_nothing_asked_twice(vlm_faults, tmp_path):
    found = vlm_faults.measure(
        tmp_path, lines=16, kills=1, tesseract_share=0.2, timeout_s=2.0, seed=3
    )
    assert (found.lost, found.repeated, found.kills) == (0, 0, 1)
    assert found.same_result
    assert found.most_in_flight <= 8
    assert sum(found.faults.values()) > 0
    assert found.read_by_tesseract > 0
