"""The lines of a manifest with their original crops, in the shape in which a line store gives its
own.
"""

from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from nordocr_cli.atomic import sha256_of
from nordocr_cli.data.manifest import read_manifest, resolve_image
from nordocr_cli.data.notes import squash_ratio
from nordocr_cli.data.resize import image_size, read_image, read_image_bytes, resize_line
from nordocr_cli.geometry import Geometry
from nordocr_cli.records import LineRow


class ManifestLines(AbstractContextManager["ManifestLines"]):
    """A manifest, open for reading: `len(lines)`, `.widths` int32 (n,), `.image(i)`, `.row(i)`; i
    counts from 0.

    With a `geometry`, `.image(i)` is the crop as that geometry makes it (height, widths[i], 3);
    without, the crop as it is, and `.widths` are what the usual geometry would make of it,
    unsquashed. Raises DataError for a row that cannot be used and for an image that is missing,
    damaged, or outside the manifest's folder.
    """

    def __init__(self, path: Path, geometry: Geometry | None = None) -> None:
        self.path = Path(path)
        self.geometry = geometry
        self._rows = read_manifest(self.path)
        self._images = [Path(resolve_image(self.path.parent, row.image)) for row in self._rows]
        sizes = [image_size(read_image_bytes(image), str(image)) for image in self._images]
        measure = geometry.line_width if geometry else Geometry().natural_width
        self.widths: NDArray[np.int32] = np.array(
            [measure(*size) for size in sizes], dtype=np.int32
        )
        self._squash_ratios = [geometry.squash_ratio(*size) if geometry else 1.0 for size in sizes]

    def __len__(self) -> int:
        return len(self._rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def __enter__(self) -> Self:
        return self

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return line `index` as uint8 (height, width, 3) RGB."""
        crop = read_image(self._images[index])
        return resize_line(crop, self.geometry) if self.geometry else crop

    def row(self, index: int) -> LineRow:
        """Return the row of line `index`; `extra` says where the geometry squashes it, as in a line
        store.
        """
        row, ratio = self._rows[index], self._squash_ratios[index]
        return (
            replace(row, extra={**row.extra, "squash_ratio": ratio * squash_ratio(row)})
            if ratio > 1.0
            else row
        )

    def identity(self) -> dict[str, Any]:
        """Return what was read, for a result: the hash is the manifest's, the images are not in
        it.
        """
        geometry = self.geometry.to_json() if self.geometry else None
        return {
            "path": str(self.path),
            "lines": len(self),
            "content_sha256": sha256_of(self.path),
            "geometry": geometry,
        }
