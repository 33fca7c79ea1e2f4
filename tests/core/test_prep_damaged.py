"""300 damaged images of 12 kinds: prep ends well, and each is kept or named."""

import io
import json
import random
import struct
import subprocess
import sys
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

EACH = 25


def encoded(kind: str, index: int) -> bytes:
    """A noisy line of its own."""
    pixels = np.random.default_rng(index).integers(0, 256, (32, 160, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    options = {"TIFF": {"compression": "tiff_lzw"}}.get(kind, {})
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def kind_of(name: str) -> str:
    return name.rpartition("-")[0]


def cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data) - 1)]


def flipped(data: bytes, rng: random.Random, first: int = 0) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice([1, 3, 30])):
        changed[rng.randrange(first, len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def claiming(data: bytes, width: int, height: int) -> bytes:
    """A PNG that says it is that large, with the right checksum."""
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


DAMAGE = {
    "png-cut": lambda i, rng: cut(encoded("PNG", i), rng),
    "jpeg-cut": lambda i, rng: cut(encoded("JPEG", i), rng),
    "tiff-cut": lambda i, rng: cut(encoded("TIFF", i), rng),
    "webp-cut": lambda i, rng: cut(encoded("WEBP", i), rng),
    "png-bits": lambda i, rng: flipped(encoded("PNG", i), rng, 8),
    "jpeg-bits": lambda i, rng: flipped(encoded("JPEG", i), rng),
    "tiff-bits": lambda i, rng: flipped(encoded("TIFF", i), rng),
    "bmp-head": lambda i, rng: (
        flipped(encoded("BMP", i)[:54], rng) + encoded("BMP", i)[54:]
    ),
    "bomb": lambda i, rng: claiming(
        encoded("PNG", i), *rng.choices([5_000, 70_000, 2**31 - 1], k=2)
    ),
    "no-size": lambda i, rng: claiming(
        encoded("PNG", i), *rng.choice([(0, 32), (160, 0), (0, 0)])
    ),
    "other-file": lambda i, rng: (
        rng.choice([b"", b"GIF89a", b"%PDF-1.7", b"<svg/>", b"\0"])
        + bytes(rng.randrange(9))
    ),
    "noise": lambda i, rng: (
        rng.choice([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0"])
        + rng.randbytes(i % 90)
    ),
}
# Bits may change without anybody being able to tell: those of a JPEG's or TIFF's pixels, and of a
# BMP's head.
MAY_BE_READ = {"jpeg-bits", "tiff-bits", "bmp-head", "tiff-cut"}


def test_300_damaged_images_are_kept_or_named(tmp_path: Path) -> None:
    rng, rows = random.Random(3), []
    for kind, damage in DAMAGE.items():
        for index in range(EACH):
            name = f"{kind}-{index:02d}.png"
            (tmp_path / name).write_bytes(damage(index, rng))
            rows.append({"image": name, "text": "Rad"})
        (tmp_path / f"good-{kind}.png").write_bytes(encoded("PNG", 100 + len(rows)))
        rows.append({"image": f"good-{kind}.png", "text": "Rad"})
    (tmp_path / "manifest.jsonl").write_text(
        "\n".join(map(json.dumps, rows)), encoding="utf-8"
    )
    store = tmp_path / "o.lmdb"
    command = [
        sys.executable,
        "-m",
        "nordocr_cli",
        "prep",
        tmp_path,
        "-o",
        store,
        "-p",
        "svtrv2-1024",
        "--on-bad",
        "skip",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    listed = [
        json.loads(line)
        for line in Path(result["quarantine"]).read_text(encoding="utf-8").splitlines()
    ]
    assert result["read"] == len(rows) == 12 * EACH + 12 == result["kept"] + len(listed)
    named = Counter(item["row"]["image"] for item in listed)
    assert max(named.values()) == 1
    assert not [name for name in named if name.startswith("good-")]
    kept = {row["image"] for row in rows} - set(named)
    assert {kind_of(name) for name in kept if not name.startswith("good-")} <= MAY_BE_READ
    assert len(named) > 12 * EACH * 0.75
    for item in listed:
        assert item["reason"] in ("unreadable-image", "ctc-infeasible")
        assert item["row"]["image"] in item["problem"], item
        if kind_of(item["row"]["image"]) == "bomb":
            problem = item["problem"]
            assert (
                "pixels are more than the limit" in problem or "a side may have" in problem
            )
