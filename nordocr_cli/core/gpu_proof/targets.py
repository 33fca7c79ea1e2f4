"""The targets of the proof, judged from what its steps measured."""

from collections.abc import Mapping, Sequence
from typing import Any

_TRAIN_COMPILED = 0.35
_TRAIN_EAGER = 0.20
_DATA_WAIT = 0.05
_LOADER = 1000.0
_INFERENCE = 0.40
_SAME_TEXTS = 0.999


def targets(steps: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return each target with what was measured; `met` is None where nothing was."""
    known = {step["name"]: step["result"] for step in steps if "result" in step}
    speed = known.get("train_speed", {})
    waits = [form["data_wait"] for form in speed.values() if "data_wait" in form]
    wait = max(waits, default=None)
    rows = (
        (
            "training share of peak, compiled",
            _at(speed, "compiled", "share_of_peak"),
            _TRAIN_COMPILED,
        ),
        (
            "training share of peak, eager",
            _at(speed, "eager", "share_of_peak"),
            _TRAIN_EAGER,
        ),
        ("loader batches a second", _at(known, "loader", "batches_per_s"), _LOADER),
        ("inference fp16 share of peak", _network_share(known), _INFERENCE),
        ("engine's texts as ONNX Runtime's", _same_texts(known), _SAME_TEXTS),
    )
    found = [
        {"what": what, "measured": value, "at_least": minimum, "met": _met(value, minimum)}
        for what, value, minimum in rows
    ]
    waiting = None if wait is None else wait < _DATA_WAIT
    found.append(
        {"what": "data wait", "measured": wait, "below": _DATA_WAIT, "met": waiting}
    )
    beats = _at(known, "recipe", "beats_the_shipped")
    found.append({"what": "svtrv2-1024 beats the shipped recognizer on dev", "met": beats})
    return found


def _met(value: float | None, minimum: float) -> bool | None:
    if value is None:
        return None
    return value >= minimum


def _at(value: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value


def _network_share(known: Mapping[str, Any]) -> float | None:
    """The largest share of the peak of the network alone in a 16-bit format."""
    forms = _at(known, "inference", "network") or {}
    shares = [form.get("share_of_peak") for form in forms.values()]
    return max((share for share in shares if share is not None), default=None)


def _same_texts(known: Mapping[str, Any]) -> float | None:
    """Share of lines, 0 to 1, on which an engine reads as the bench's reference does."""
    for name in ("tensorrt", "tensorrt_rtx"):
        for row in _at(known, name, "rows") or ():
            if str(row.get("backend", "")).startswith("tensorrt"):
                return _share_of_texts(row)
    return None


def _share_of_texts(row: Mapping[str, Any]) -> float | None:
    same = row.get("same_text")
    lines = row.get("lines")
    if same is None or not lines:
        return None
    return float(same) / float(lines)
