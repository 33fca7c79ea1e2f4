"""A keyed hash over the record of a promotion: whoever deploys a model can check that the record,
and with it the weights' hash, is the one that was written when the gates held.

The hash is HMAC-SHA256 from the standard library. A public-key signature would allow checking
without the secret, but needs another dependency and a key pair to keep; here one team promotes and
deploys, and a shared secret of CI is what there is.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nordocr_cli.errors import ArtifactError, UsageError
from nordocr_cli.limits import read_json
from nordocr_cli.printable import hide

ALGORITHM = "HMAC-SHA256"
_MIN_KEY_CHARACTERS = 16


def read_key(variable: str) -> bytes:
    """Return the key that an environment variable holds. Raises UsageError when it is unset or too
    short to protect anything.
    """
    key = os.environ.get(variable, "")
    if not key:
        raise UsageError(
            f"--sign-key-env {variable}: no such environment variable, or it is empty"
        )
    hide(key)
    if len(key) < _MIN_KEY_CHARACTERS:
        raise UsageError(
            f"--sign-key-env {variable}: a key of at least {_MIN_KEY_CHARACTERS} characters, e.g."
            " from `openssl rand -hex 32`"
        )
    return key.encode()


def sign(record: Mapping[str, Any], key: bytes) -> dict[str, Any]:
    """Return the record with its signature."""
    unsigned = {name: value for name, value in record.items() if name != "signature"}
    return unsigned | {
        "signature": {"algorithm": ALGORITHM, "value": _digest(unsigned, key)}
    }


def verify_promotion(path: Path, key: bytes) -> dict[str, Any]:
    """Return the record of a promotion if its signature holds and the weights are the promoted
    ones. Raises ArtifactError if not.
    """
    from nordocr_cli.atomic import sha256_of

    record: dict[str, Any] = read_json(path, "record of a promotion", error=ArtifactError)
    if isinstance(record, dict):
        signature = record.pop("signature", None)
    else:
        signature = None
    if not isinstance(signature, dict) or signature.get("algorithm") != ALGORITHM:
        raise ArtifactError(
            f"{path} is not signed with {ALGORITHM}; promote with --sign-key-env"
        )
    if not hmac.compare_digest(str(signature.get("value")), _digest(record, key)):
        raise ArtifactError(
            f"{path}: the signature does not hold: the record was changed, or the key is another"
        )
    weights = path.parent / Path(str(record.get("weights"))).name
    if not weights.is_file():
        raise ArtifactError(f"{path}: its weights {weights} are not there")
    if sha256_of(weights) != record.get("sha256"):
        raise ArtifactError(
            f"{weights} are not the weights that {path.name} was written for"
        )
    return record


def _digest(record: Mapping[str, Any], key: bytes) -> str:
    """The keyed hash of the record as JSON with sorted keys and no spaces."""
    text = json.dumps(record, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
