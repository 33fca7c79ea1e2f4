"""The adapters of a TrOCR on their own, as peft reads them: a folder of settings and a small
.safetensors.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.atomic import replacing
from nordocr_cli.settings import TrocrModel

ADAPTER = "adapter"
# What our names have in front of peft's own, and what peft's have within.
_OURS = "network."
_PEFTS = ".default."


def lora_config(model: TrocrModel, names: Sequence[str]) -> Any:
    """Return peft's settings of the adapters of the layers `names`."""
    from peft import LoraConfig

    return LoraConfig(
        r=model.lora_rank,
        lora_alpha=model.lora_alpha,
        lora_dropout=model.lora_dropout,
        target_modules=list(names),
        bias="none",
    )


def save_adapter(folder: Path, state: Mapping[str, Tensor], contract: Contract) -> bool:
    """Write the adapters among the weights `state` to `folder`; return whether there were any.

    `PeftModel.from_pretrained(VisionEncoderDecoderModel.from_pretrained(…), folder)` then reads as
    ours does.
    """
    tensors = {
        name.removeprefix(_OURS).replace(_PEFTS, "."): tensor.contiguous()
        for name, tensor in state.items()
        if "lora_" in name
    }
    if contract.model.get("name") != "trocr" or not tensors:
        return False
    model = TrocrModel.model_validate(dict(contract.model))
    layers = sorted(
        {name.split(".lora_")[0].removeprefix("base_model.model.") for name in tensors}
    )
    settings = lora_config(model, layers)
    settings.base_model_name_or_path = model.pretrained
    settings.inference_mode = True
    # in their order; peft keeps a set, which is written in another one each time
    settings.target_modules = layers
    with replacing(folder) as temporary:
        temporary.mkdir()
        (temporary / "adapter_model.safetensors").write_bytes(
            save(tensors, metadata={"format": "pt"})
        )
        settings.save_pretrained(temporary)
    return True
