"""The checks that every backend runs on a batch before a network reads it."""

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.geometry import Geometry


def require_batch(
    images: NDArray[np.uint8], widths: NDArray[np.int64], geometry: Geometry, what: str
) -> None:
    """Check the input of a network: uint8 images (N, 3, height, W) and their widths (N,). Raises
    ValueError naming `what` and the wrong number. A width that is not a multiple of the stride
    shifts the frames of the complete batch, which no other check detects.
    """
    if (
        images.dtype != np.uint8
        or images.ndim != 4
        or images.shape[1:3] != (3, geometry.height)
        or not len(images)
    ):
        raise ValueError(
            f"{what} takes uint8 (N, 3, {geometry.height}, W) images, not {images.dtype}"
            f" {images.shape}"
        )
    width = images.shape[3]
    if width % geometry.width_multiple or not width:
        raise ValueError(
            f"{what}: batch width {width} is not a multiple of {geometry.width_multiple}"
        )
    if widths.shape != (len(images),) or widths.min() < 1 or widths.max() > width:
        raise ValueError(
            f"{what}: widths {widths.tolist()} do not fit {len(images)} images: one each, from 1 to"
            f" {width}"
        )
