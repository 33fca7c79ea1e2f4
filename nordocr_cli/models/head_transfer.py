"""A head for another charset: the classifier's rows move by character, and class 0 (the blank of
CTC, the end of an autoregressive network) stays. The rows of a network's class embedding move too.

A character that the head does not know starts from its base letter (á from a, by Unicode NFD), or
as in a fresh network.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from nordocr_cli.charset import BLANK, Charset
from nordocr_cli.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

    from nordocr_cli.models.base import LineNetwork

NewRows = Literal["base", "fresh"]

# Nats by which a row copied from a base letter starts below it: until it is trained, the head reads
# the base letter as before.
_BELOW_BASE = 3.0
_SEED = 1


@dataclass(frozen=True)
class HeadReport:
    """What becomes of each character: rows `kept`, `dropped`, new `from_base` (character, base
    letter), `fresh`.
    """

    from_charset: str
    to_charset: str
    kept: str
    dropped: str
    from_base: tuple[tuple[str, str], ...]
    fresh: str

    def rows(self) -> list[tuple[str, str]]:
        """Return what happens and to which characters, a pair a row."""
        counted = {"kept": self.kept, "dropped": self.dropped, "new, fresh": self.fresh}
        shown = [
            (f"{what} ({len(characters)})", characters or "none")
            for what, characters in counted.items()
        ]
        copied = " ".join(f"{new}←{base}" for new, base in self.from_base)
        return [
            *shown[:2],
            (f"new, from a base letter ({len(self.from_base)})", copied or "none"),
            shown[2],
        ]

    def line(self) -> str:
        """Return the report in one line."""
        moved = f"head moved from charset {self.from_charset} to {self.to_charset}: "
        return (
            moved
            + "; ".join(f"{what}: {characters}" for what, characters in self.rows()[1:])
            + f"; {len(self.kept)} kept"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values."""
        return asdict(self)


def plan_move(
    from_charset: Charset, to_charset: Charset, new_rows: NewRows = "base"
) -> HeadReport:
    """Return what `move_head` would do with each character, without torch."""
    kept = "".join(c for c in to_charset.characters if c in from_charset.class_of)
    new = [c for c in to_charset.characters if c not in from_charset.class_of]
    if new_rows == "base":
        bases = {c: unicodedata.normalize("NFD", c)[0] for c in new}
    else:
        bases = {}
    from_base = tuple(
        (c, base) for c, base in bases.items() if base in from_charset.class_of
    )
    return HeadReport(
        from_charset=from_charset.name,
        to_charset=to_charset.name,
        kept=kept,
        dropped="".join(to_charset.missing(from_charset.characters)),
        from_base=from_base,
        fresh="".join(c for c in new if c not in dict(from_base)),
    )


def move_head(
    state: "Mapping[str, Tensor]",
    from_charset: Charset,
    to_charset: Charset,
    network: "type[LineNetwork]",
    new_rows: NewRows = "base",
) -> "tuple[dict[str, Tensor], HeadReport]":
    """Return `state`, weights of `network`, with the rows of its classifier in the order of
    `to_charset`, and what became of each character.

    All other tensors are the given ones; dtypes stay. The same call gives the same fresh rows.
    Raises ArtifactError when there is no linear classifier of `from_charset`'s classes.
    """
    import torch

    report = plan_move(from_charset, to_charset, new_rows)
    name = network.classifier_name
    _require_classifier(state, name, from_charset)
    # (C, d), (C,)
    weight = state[f"{name}.weight"]
    bias = state[f"{name}.bias"]

    classes = to_charset.num_classes
    bound = weight.shape[1] ** -0.5  # of torch's own initialization of a linear layer
    generator = torch.Generator().manual_seed(_SEED)

    def uniform(*shape: int) -> "Tensor":
        return torch.empty(*shape).uniform_(-bound, bound, generator=generator)

    new_weight = uniform(classes, weight.shape[1]).to(weight)
    new_bias = uniform(classes).to(bias)

    sources = dict(zip(report.kept, report.kept, strict=True)) | dict(report.from_base)
    to_rows = [BLANK, *(to_charset.class_of[character] for character in sources)]
    from_rows = [BLANK, *(from_charset.class_of[source] for source in sources.values())]
    new_weight[to_rows] = weight[from_rows]
    new_bias[to_rows] = bias[from_rows]
    copied = [to_charset.class_of[character] for character, _ in report.from_base]
    new_bias[copied] -= _BELOW_BASE
    moved = {**state, f"{name}.weight": new_weight, f"{name}.bias": new_bias}

    embedding = state.get(network.class_embedding)
    if embedding is not None:
        rows = torch.empty(classes, embedding.shape[1])
        rows = rows.normal_(std=float(embedding.std()), generator=generator).to(embedding)
        rows[to_rows] = embedding[from_rows]
        # Rows of what is no class, such as the beginning.
        special = embedding[len(weight) :]
        moved[network.class_embedding] = torch.cat([rows, special])
    return moved, report


def _require_classifier(state: "Mapping[str, Tensor]", name: str, charset: Charset) -> None:
    weight = state.get(f"{name}.weight")
    bias = state.get(f"{name}.bias")
    if (
        weight is None
        or bias is None
        or weight.ndim != 2
        or len(weight) != charset.num_classes
        or len(bias) != charset.num_classes
    ):
        raise ArtifactError(
            f"no linear head of {charset.num_classes} classes ({name}) in these weights; only such"
            " a head moves between charsets"
        )
