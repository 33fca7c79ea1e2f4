"""The type of images in memory."""

import numpy as np
from numpy.typing import NDArray

# (height, width, 3) RGB, or (height, width) gray, 0 = black
Pixels = NDArray[np.uint8]
