"""nordocr: prepare, train, evaluate, export, build, benchmark and compare Nordic text-line
recognizers.
"""

import os

__version__ = "0.1.0"

# Nothing leaves the machine unless the user asks for it. These libraries report usage by default,
# and read the switch when they are imported: so it is set before any of them is.
_NO_TELEMETRY = {
    # ONNX Runtime 1.31 queues events for Microsoft and writes a device id under ~/.cache. Its
    # disable_telemetry_events() comes too late for both.
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # With --wandb the run itself is sent, since the user asked for it; crash reports are not.
    "WANDB_ERROR_REPORTING": "false",
    "DO_NOT_TRACK": "1",
}
for _name, _value in _NO_TELEMETRY.items():
    os.environ.setdefault(_name, _value)

# Read by OpenCV when it is imported: a decompression bomb is refused instead of filling the memory
# (200 megapixels).
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(200_000_000))
