"""nordocr: prepare, train, evaluate, export, build, benchmark and compare Nordic text-line
recognizers.
"""

import os

__version__ = "0.1.0"

# Read by OpenCV when it is imported: a decompression bomb is refused instead of filling the memory
# (200 megapixels).
os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(200_000_000))
