"""charset move: weights whose CTC head reads another charset."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nordocr_cli.artifact.contract import Contract
from nordocr_cli.artifact.probing import read_contract
from nordocr_cli.artifact.shipped import find_weights
from nordocr_cli.atomic import refuse_inputs, sha256_of
from nordocr_cli.charset import Charset, load_charset
from nordocr_cli.errors import UsageError
from nordocr_cli.models.head_transfer import HeadReport, NewRows, plan_move


@dataclass(frozen=True)
class Move:
    """Weights to be read, where they go, and what becomes of each character. `charset_named` is the
    name or file given.
    """

    weights: Path
    output: Path
    charset_named: str
    charset: Charset
    contract: Contract
    new_rows: NewRows
    report: HeadReport

    def to_json(self) -> dict[str, Any]:
        """Return the move as plain JSON values."""
        return {
            "weights": str(self.weights),
            "output": str(self.output),
            "precision": self.contract.precision,
            "num_classes": [self.contract.charset.num_classes, self.charset.num_classes],
            "head": self.report.to_json(),
        }


def plan_charset_move(weights: Path, to: str, output: Path, new_rows: str = "base") -> Move:
    """Read the contract of `weights` and say what `move_charset` would do, without torch.

    Raises UsageError for what is not there, an unknown charset or choice, a charset that the
    weights have already and an output that is the input, ArtifactError for weights without a
    contract.
    """
    if new_rows not in ("base", "fresh"):
        raise UsageError(f"--new {new_rows}: base (á starts from a) or fresh")
    if output.suffix != ".safetensors":
        raise UsageError(f"-o {output}: weights are written as .safetensors")
    source = find_weights(weights)
    refuse_inputs(output, [source])
    contract = read_contract(source)
    charset = load_charset(to)
    if contract.charset.characters == charset.characters:
        raise UsageError(f"{source} reads charset {charset.name!r} already")
    choice: NewRows = "base" if new_rows == "base" else "fresh"
    return Move(
        source,
        output,
        to,
        charset,
        contract,
        choice,
        plan_move(contract.charset, charset, choice),
    )


def move_charset(move: Move) -> None:
    """Write the weights with the head moved, in their own precision; their contract names the new
    charset and the parent.

    Raises ArtifactError when the weights are damaged or have no linear head, DataError when the
    disk is full.
    """
    from nordocr_cli.models.head_transfer import move_head
    from nordocr_cli.models.weights import load_model, save_weights

    # weights that do not fit their own contract are not passed on
    network, contract = load_model(move.weights)
    state, _ = move_head(
        network.state_dict(), contract.charset, move.charset, type(network), move.new_rows
    )
    if contract.profile:
        profile = {**contract.profile, "charset": move.charset_named}
    else:
        profile = {}
    made = replace(
        contract,
        charset=move.charset,
        profile=profile,
        parent_sha256=sha256_of(move.weights),
    )
    save_weights(move.output, state, made)
