"""Every size that a profile can name: how large it is, its frames at every width, its gradients,
and that it sees no padding.

What learns, is exported and goes through a file is tested on small networks of each kind, in
test_battery.py and the files of the kinds: sizes differ in numbers alone.
"""

import pytest
import torch

from nordocr_cli.geometry import out_length
from nordocr_cli.models.registry import build_model
from nordocr_cli.profile import load_profile
from nordocr_cli.settings import (
    MambaModel,
    ParseqModel,
    SvtrModel,
    SvtrV2Model,
    SvtrV2NanoModel,
)

SIZES = {
    "svtrv2-nano": (SvtrV2NanoModel(name="svtrv2-nano"), 2_070_870),
    "svtrv2-nano, 1 row": (
        SvtrV2NanoModel(name="svtrv2-nano", depths=(2, 3, 4), attention_rows=1),
        2_570_838,
    ),
    "svtrv2 tiny rctc": (SvtrV2Model(name="svtrv2", size="tiny"), 5_136_222),
    "svtrv2 small rctc": (SvtrV2Model(name="svtrv2", size="small"), 11_263_182),
    "svtrv2 base rctc": (SvtrV2Model(name="svtrv2", size="base"), 19_767_486),
    "svtrv2 tiny ctc": (
        SvtrV2Model(name="svtrv2", size="tiny", head="ctc"),
        4_183_008 + 256 * 256 + 257 * 126,
    ),
    "svtrv2 small ctc": (
        SvtrV2Model(name="svtrv2", size="small", head="ctc"),
        9_145_296 + 384 * 256 + 257 * 126,
    ),
    "svtrv2 base ctc": (SvtrV2Model(name="svtrv2", size="base", head="ctc"), 17_780_286),
    "svtr tiny": (SvtrModel(name="svtr", size="tiny", out_channels=192), 4_188_510),
    "svtr small": (SvtrModel(name="svtr", size="small", out_channels=192), 8_494_478),
    "svtr base": (SvtrModel(name="svtr", size="base"), 22_725_182),
    "svtr large": (SvtrModel(name="svtr", size="large", out_channels=384), 38_902_558),
    "mamba": (load_profile("mamba-320").profile.model, 36_127_358),
    "mamba one way": (
        MambaModel(name="mamba", bidirectional=False, use_lora=False, adapter_rank=0),
        28_393_406,
    ),
    "parseq tiny": (ParseqModel(name="parseq", size="tiny"), 6_099_006),
    "parseq small": (ParseqModel(name="parseq"), 23_994_366),
}
CTC = [name for name in SIZES if not name.startswith("parseq")]


@pytest.mark.parametrize("name", SIZES)
def test_number_of_parameters_and_frames(name):
    """Without a number being computed, on torch's meta device."""
    model, parameters = SIZES[name]
    with torch.device("meta"):
        network = build_model(model, 126).eval()
        # whose scan has no meta form; test_mamba.py has its frames
        for width in (4, 60, 1792) if model.name != "mamba" else ():
            frames = out_length(width) if name in CTC else 129
            assert network(torch.empty(2, 3, 32, width)).shape == (2, frames, 126)
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("name", [name for name in CTC if "mamba" not in name])
def test_the_loss_reaches_every_parameter_and_padding_no_line(name):
    with torch.device("meta"):
        network = build_model(SIZES[name][0].model_copy(update={"drop_path": 0.0}), 126)
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for key, tensor in network.state_dict().items():
            if tensor.ndim > 1:
                tensor.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
            elif tensor.is_floating_point():
                scale = key.endswith("running_var") or (
                    "norm" in key and key.endswith("weight")
                )
                tensor.normal_(mean=float(scale), std=0.1, generator=generator)
    lines, widths = torch.randn(2, 3, 32, 24, generator=generator), torch.tensor([24, 10])
    network(lines, widths).log_softmax(2)[..., ::7].sum().backward()
    assert [
        key for key, p in network.named_parameters() if p.grad is None or not p.grad.any()
    ] == []
    network.eval()
    with torch.no_grad():
        together, alone = (
            network(lines, widths)[1, :3],
            network(lines[1:, :, :, :10], widths[1:])[0],
        )
        assert torch.allclose(together, alone, atol=1e-4)
        # without widths padding is pixels
        assert (network(lines)[1, :3] - alone).abs().max() > 1e-2
