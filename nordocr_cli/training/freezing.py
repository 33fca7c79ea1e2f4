"""What trains and what is frozen, by patterns on the names of the parameters."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from nordocr_cli.errors import UsageError

# torchvision's ResNet in an nn.Sequential numbers its parts: 0-3 are the stem, 4-7 are layer1 to
# layer4. Recipes that wrap it so name `backbone.7` for layer4.
_SEQUENTIAL_NAMES = {
    f"backbone.{number + 3}": f"backbone.layer{number}" for number in range(1, 5)
}


@dataclass(frozen=True)
class Trained:
    """What one pattern lets train: `tensors` and `parameters` that no earlier pattern matched, and
    how many tensors it shares with earlier ones.
    """

    pattern: str
    tensors: int
    parameters: int
    shared: int


@dataclass(frozen=True)
class Freezing:
    """What trains, pattern by pattern; `frozen` counts parameters, `norms` the BatchNorms that keep
    their statistics.
    """

    rows: tuple[Trained, ...]
    frozen: int
    norms: int

    @property
    def parameters(self) -> int:
        """Number of parameters that train, each counted once."""
        return sum(row.parameters for row in self.rows)

    def lines(self) -> list[str]:
        """Return the table, line by line."""
        width = max(len(row.pattern) for row in self.rows)
        shown = [
            f"trains {row.pattern:{width}} {row.parameters:>12,} in {row.tensors} tensors"
            + (f" ({row.shared} more are counted above)" if row.shared else "")
            for row in self.rows
        ]
        share = self.parameters / (self.parameters + self.frozen)
        total = f"trains {self.parameters:,} parameters ({share:.1%}); {self.frozen:,} are frozen"
        return [
            *shown,
            total
            + (f", {self.norms} BatchNorms keep their statistics" if self.norms else ""),
        ]

    def to_json(self) -> dict[str, Any]:
        """Return the table as plain JSON values."""
        return asdict(self)


class FrozenBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm that stays in evaluation mode: with frozen weights and moving statistics the
    features would drift.
    """

    def train(self, mode: bool = True) -> "FrozenBatchNorm2d":
        """Stay in evaluation mode."""
        super().train(False)
        return self


def freeze(network: nn.Module, patterns: Sequence[str]) -> Freezing | None:
    """Let only the parameters train whose name a pattern matches; return what that is, None without
    patterns: all trains.

    A pattern is a run of whole parts of a dotted name, anywhere in it, `*` standing for anything:
    `adapter`, `backbone.layer4`, `mamba.*.lora_*`. `backbone.4` to `backbone.7` are understood as
    `backbone.layer1` to `backbone.layer4`, and the table shows this. A BatchNorm without a
    parameter that trains keeps its statistics. Raises UsageError naming each pattern that matches
    nothing and what there is to match.
    """
    if not patterns:
        return None
    named = dict(network.named_parameters())
    trained: set[str] = set()
    rows = []
    idle = []
    for pattern in patterns:
        matched = _matching(named, pattern)
        alias = _SEQUENTIAL_NAMES.get(pattern)
        shown = pattern
        if not matched and alias:
            matched = _matching(named, alias)
            shown = f"{pattern} (understood as {alias})"
        if not matched:
            idle.append(repr(pattern))
        new = matched - trained
        rows.append(
            Trained(
                shown,
                len(new),
                sum(named[name].numel() for name in new),
                len(matched - new),
            )
        )
        trained |= matched
    if idle:
        parts = sorted({".".join(name.split(".")[:2]) for name in named})
        raise UsageError(
            f"train.trainable: {', '.join(idle)} matches no parameter of this network; it has"
            f" {', '.join(parts)}"
        )
    for name, parameter in named.items():
        parameter.requires_grad_(name in trained)
    norms = [
        module
        for module in network.modules()
        if isinstance(module, nn.BatchNorm2d)
        and not any(p.requires_grad for p in module.parameters())
    ]
    for norm in norms:
        norm.__class__ = FrozenBatchNorm2d
        norm.eval()
    frozen = sum(
        parameter.numel() for name, parameter in named.items() if name not in trained
    )
    return Freezing(tuple(rows), frozen, len(norms))


def _matching(names: Iterable[str], pattern: str) -> set[str]:
    """The names that hold `pattern` as a run of whole parts."""
    return {name for name in names if fnmatchcase(f".{name}.", f"*.{pattern}.*")}
