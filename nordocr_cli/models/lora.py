"""Low-rank adaptation of linear layers: a frozen matrix learns through a product of two low-rank
matrices, which is merged into it at the end.
"""

from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nordocr_cli.models.kernels.linear import Linear, linear

Network = TypeVar("Network", bound=nn.Module)


class LoraLinear(nn.Linear):
    """A linear layer plus lora_b lora_a, of rank `rank`. It begins as the plain layer, as lora_b is
    zero.
    """

    def __init__(
        self, in_features: int, out_features: int, rank: int, bias: bool = True
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self.lora_a = nn.Parameter(torch.empty(rank, in_features))
        self.lora_b = nn.Parameter(torch.zeros(out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=5**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Map (…, in_features) to (…, out_features)."""
        return linear(x, self.weight, self.bias) + F.linear(
            F.linear(x, self.lora_a), self.lora_b
        )

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """Return the plain layer that computes the same."""
        plain = Linear(
            self.in_features,
            self.out_features,
            self.bias is not None,
            self.weight.device,
            self.weight.dtype,
        )
        plain.weight.copy_(self.weight + self.lora_b @ self.lora_a)
        if self.bias is not None:
            plain.bias.copy_(self.bias)
        return plain


def merge_lora(network: Network) -> Network:
    """Replace every LoraLinear inside `network` by its plain layer, and return it."""
    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, LoraLinear):
                setattr(module, name, child.merged())
    return network
