#!/usr/bin/env python3
"""Draw nordocr_cli/data/synth/letter_shapes.png again: the median shape of every letter.

python scripts/letter_shapes.py --fonts fonts.tsv
"""

import argparse
from pathlib import Path

import cv2
import numpy as np

from nordocr_cli.charset import NORDIC
from nordocr_cli.data.synth.fonts import find_faces, open_face
from nordocr_cli.data.synth.letter_shapes import LETTERS, SHAPES, letter_shape


def main() -> None:
    """Read the faces, take the median of each letter, write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--fonts", type=Path, help="folder or list of fonts; default: the system's"
    )
    faces, _ = find_faces(parser.parse_args().fonts, NORDIC)
    drawn = [
        [letter_shape(open_face(face), letter) for letter in LETTERS] for face in faces
    ]
    median = np.median(np.array(drawn), axis=0)  # (letters, SHAPE_PX, SHAPE_PX)
    cv2.imwrite(str(SHAPES), np.hstack(list(median)).astype(np.uint8))
    print(f"{SHAPES}: {len(LETTERS)} letters, the median of {len(faces)} faces")


if __name__ == "__main__":
    main()
