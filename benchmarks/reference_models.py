"""Other people's networks, run next to ours from where they are installed: nothing of theirs is
copied into this repository.

OpenOCR: a checkout of github.com/Topdu/OpenOCR whose folder is on `sys.path`. transformers: the
installed package.
"""

from typing import Any

from torch import nn

from nordocr_cli.models import svtr, svtrv2
from nordocr_cli.settings import SvtrModel, SvtrV2Model

_MIXERS = {"C": "Conv", "F": "FGlobal", "G": "Global"}


def openocr_network(
    model: SvtrModel | SvtrV2Model, num_classes: int, width: int
) -> nn.Module:
    """Return OpenOCR's network of the same options, with fresh weights, in training mode; SVTR's
    takes lines of `width` alone.

    In evaluation it gives probabilities (N, T, C). Raises ImportError where the checkout is not on
    `sys.path`.
    """
    from openrec.modeling.base_recognizer import BaseRecognizer

    config: dict[str, Any] = {
        "Transform": None,
        "Decoder": {"name": "CTCDecoder", "out_channels": num_classes},
    }
    if isinstance(model, SvtrV2Model):
        size = svtrv2.SVTRV2_SIZES[model.size]
        plain = model.head == "ctc"
        # Their configuration calls the first attention block, which flattens, "FGlobal": one block
        # where we write "FG".
        mixers = [[_MIXERS[m] for m in stage.replace("FG", "F")] for stage in size.stages]
        config["Encoder"] = {
            "name": "SVTRv2LNConvTwo33",
            "use_pos_embed": False,
            "dims": list(size.dims),
            "depths": [len(stage) for stage in mixers],
            "num_heads": [dim // 32 for dim in size.dims],
            "mixer": mixers,
            "sub_k": [[1, 1], [2, 1], [-1, -1]],
            "last_stage": plain,
            "feat2d": not plain,
            "out_channels": 256,
        }
        if not plain:
            config["Decoder"]["name"] = "RCTCDecoder"
    else:
        shape = svtr.SVTR_SIZES[model.size]
        blocks = sum(shape.depths)
        local = "Conv" if shape.convolves else "Local"
        config["Encoder"] = {
            "name": "SVTRNet",
            "img_size": [32, width],
            "out_char_num": width // 4,
            "feature2d": model.head == "rctc",
            "out_channels": model.out_channels,
            "patch_merging": "Conv",
            "embed_dim": list(shape.dims),
            "depth": list(shape.depths),
            "num_heads": [dim // 32 for dim in shape.dims],
            "mixer": [local] * shape.local + ["Global"] * (blocks - shape.local),
            "local_mixer": [[5, 5] if shape.convolves else list(model.local_window)] * 3,
            "last_stage": model.head == "ctc",
            "prenorm": shape.convolves,  # their name for norms behind the residual sums
        }
        if model.head == "rctc":
            config["Decoder"]["name"] = "RCTCDecoder"
    network: nn.Module = BaseRecognizer(config)
    return network
