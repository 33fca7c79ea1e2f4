"""The server of a vision-language model: its address and its request parameters.

No network is touched without a URL. Only line crops are sent, to that host alone; a host other than
this machine must be allowed by a flag.
"""

import ipaddress
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from nordocr_cli.addresses import split_address
from nordocr_cli.compare.answers import Question
from nordocr_cli.errors import UsageError
from nordocr_cli.printable import hide

_LONGEST_TIMEOUT_S = 86_400.0
# With three requests of ten failing, one line of 15,000 fails eight times in a row.
TRIES = 8
BACKOFF_S = 0.5
_COMPLETIONS = "/chat/completions"
_TOKEN_LIMIT = "auto"  # as a value of --vlm-param: the limit that max_tokens would have


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server: `url` with or without `/v1`, the model's name, and the request
    parameters.

    `tries` a line, `timeout_s` each; at most `requests_per_s` and `max_requests` in all (None: no
    bound); `price` is what 1,000 tokens in and out cost. `params` change the request: a value
    replaces or adds a parameter, None removes it.
    """

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    workers: int = 8
    timeout_s: float = 30.0
    requests_per_s: float | None = None
    max_requests: int | None = None
    price: tuple[float, float] | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    tries: int = TRIES
    backoff_s: float = BACKOFF_S

    def __post_init__(self) -> None:
        if self.key:
            hide(self.key)  # no message may repeat it

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where completions may be, the likelier first. Servers answer 404 at the wrong one."""
        if self.url.endswith(_COMPLETIONS):
            return (self.url,)
        last = urlsplit(self.url).path.rstrip("/").rpartition("/")[2]
        plain = self.url + _COMPLETIONS
        if last.startswith("v") and last[1:2].isdigit():
            return (plain,)
        versioned = f"{self.url}/v1{_COMPLETIONS}"
        if last:
            return (plain, versioned)
        return (versioned, plain)

    def params_of(self, question: Question) -> dict[str, Any]:
        """Return the request's parameters for a question."""
        params: dict[str, Any] = dict(question.params)
        limit = params["max_tokens"]
        for name, value in self.params.items():
            if value is None:
                params.pop(name, None)
            else:
                params[name] = limit if value == _TOKEN_LIMIT else value
        return params


def endpoint(
    url: str,
    model: str | None,
    key_env: str | None = None,
    *,
    allow_remote: bool = False,
    price: str | None = None,
    params: Sequence[str] = (),
    **bounds: Any,
) -> Endpoint:
    """Check what the user gave; `bounds` are the other fields of Endpoint.

    Raises UsageError for a URL that is none or leads to another machine without `allow_remote`, a
    missing model name, an unset key variable, and a price or parameter that is not one.
    """
    parts = split_address(url, "--vlm-url")
    if parts.query or parts.fragment:
        raise UsageError(
            "--vlm-url: give the plain address; a key comes from the variable that --vlm-key-env"
            " names"
        )
    _require_times(bounds.get("timeout_s"), bounds.get("requests_per_s"))
    if not model:
        raise UsageError("--vlm-url needs --vlm-model, the name of the model on the server")
    if not _is_this_machine(str(parts.hostname)) and not allow_remote:
        raise UsageError(
            f"{parts.hostname} is another machine: the document's lines would be sent there;"
            " --vlm-allow-remote allows it"
        )
    if key_env is not None and not os.environ.get(key_env):
        raise UsageError(
            f"--vlm-key-env {key_env}: no such environment variable, or it is empty"
        )
    return Endpoint(
        url=url.rstrip("/"),
        model=model,
        key=os.environ[key_env] if key_env else None,
        price=_parse_price(price) if price else None,
        params=dict(map(_parse_param, params)),
        **bounds,
    )


def _require_times(timeout_s: float | None, requests_per_s: float | None) -> None:
    """Raise UsageError for a time that no socket takes: NaN, and more than a day."""
    if timeout_s is not None and not 0 < timeout_s <= _LONGEST_TIMEOUT_S:
        raise UsageError(
            f"--vlm-timeout {timeout_s:g}: at most {_LONGEST_TIMEOUT_S:g} seconds"
        )
    if requests_per_s is not None and not requests_per_s > 0:
        raise UsageError(f"--vlm-rps {requests_per_s:g}: give a number above 0")


def _is_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parse_price(text: str) -> tuple[float, float]:
    try:
        tokens_in, _, tokens_out = text.partition(",")
        price = float(tokens_in), float(tokens_out or tokens_in)
    except ValueError:
        price = (-1.0, -1.0)
    if not all(0 <= part < float("inf") for part in price):
        raise UsageError(
            f"--vlm-price {text!r}: expected the price of 1,000 tokens in and out, e.g. 0.15,0.60"
        )
    return price


def _parse_param(text: str) -> tuple[str, Any]:
    """Read `KEY=VALUE`; `none` removes the key, other values are JSON or plain text."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(
            f"--vlm-param {text!r}: expected KEY=VALUE, e.g. seed=none or"
            " max_completion_tokens=auto"
        )
    if key.strip() in ("model", "messages"):
        raise UsageError(
            f"--vlm-param {text!r}: {key.strip()} is not a parameter to change"
        )
    if value.strip() == "none":
        return key.strip(), None
    try:
        parsed = json.loads(value)
    except ValueError:
        return key.strip(), value.strip()
    except RecursionError:
        raise UsageError(f"--vlm-param {key}: its JSON is nested too deeply") from None
    return key.strip(), parsed
