import pytest

from nordocr_cli.errors import UsageError
from nordocr_cli.runtime.backends.tensorrt.gpu_arch import ARCHES, find_arch, parse_arches


@pytest.mark.parametrize(
    "text",
    [
        "sm86",
        "sm_86",
        "SM-86",
        "8.6",
        "86",
        "compute_86",
        "a6000",
        "RTX-A6000",
        "NVIDIA RTX A6000",
        "3090",
    ],
)
def test_every_spelling_of_the_a6000(text):
    assert find_arch(text).name == "sm86"


def test_production_card_and_neighbours():
    assert {
        find_arch(t).name
        for t in ("sm_120", "12.0", "rtx-pro-6000", "RTX 6000 PRO", "5090")
    } == {"sm120"}
    assert find_arch("12.1").name == "sm121"
    assert find_arch("rtx-6000-ada").name == "sm89"


def test_unknown_names_get_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'sm86'"):
        find_arch("s86")
    with pytest.raises(UsageError, match=r"sm80 \(A100\) or sm86 \(RTX A6000\)"):
        find_arch("ampere")
    with pytest.raises(UsageError, match="names no GPU"):
        parse_arches([""])


def test_lists_keep_order_and_drop_doubles():
    assert [arch.name for arch in parse_arches(["sm120,8.6", "a6000", "sm_75"])] == [
        "sm120",
        "sm86",
        "sm75",
    ]


def test_rtx_targets_are_those_of_the_library():
    trt = pytest.importorskip("tensorrt_rtx")
    library = {
        name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")
    }
    assert {arch.name for arch in ARCHES if arch.rtx_bit is not None} == library
