"""prep on two Ray nodes gives what it gives on threads. Skipped without Ray."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from nordocr_cli.core.prep import engines
from nordocr_cli.core.prep.run import prep
from nordocr_cli.data.split import Split
from nordocr_cli.errors import MissingBackendError, UsageError
from nordocr_cli.extras import install_line
from nordocr_cli.profile import load_profile

PROFILE = load_profile("svtrv2-1024").profile


def lines(folder: Path) -> str:
    """200 lines of ten documents, some of them missing, some outside the charset; a path relative
    to the tests' folder.
    """
    folder.mkdir()
    rows = []
    for index in range(200):
        if index % 19:
            picture = np.random.default_rng(index).integers(
                0, 256, (64, 240, 3), dtype=np.uint8
            )
            cv2.imwrite(str(folder / f"{index}.png"), picture)
        text = "丁" if index % 23 == 5 else f"Rad {index}"
        rows.append({"image": f"{index}.png", "text": text, "source": f"d{index % 10}"})
    (folder / "manifest.jsonl").write_text(
        "\n".join(map(json.dumps, rows)), encoding="utf-8"
    )
    return folder.name


def test_two_nodes_make_the_same_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard
) -> None:
    pytest.importorskip("ray.data")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setattr(engines, "_RAY_SHARD", 20)
    monkeypatch.setattr(engines, "_RAY_ROWS_A_DATASET", 300)  # two data sets
    monkeypatch.chdir(tmp_path)
    sources = [lines(tmp_path / "in"), f"more={lines(tmp_path / 'more')}"]
    local = prep(sources, Path("local/o.lmdb"), PROFILE, split=Split(0.3), threads=1)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        cluster.add_node(num_cpus=1)
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        spread = prep(
            sources,
            Path("ray/o.lmdb"),
            PROFILE,
            split=Split(0.3),
            engine="ray",
            progress=heard,
        )
    finally:
        cluster.shutdown()
    assert spread.content_sha256 == local.content_sha256
    assert (spread.kept, spread.left_out) == (local.kept, local.left_out)
    assert Path(spread.quarantine).read_bytes() == Path(local.quarantine).read_bytes()
    there = {
        "stores": local.stores,
        "quarantine": local.quarantine,
        "problem": local.problem,
        "seconds": local.seconds,
    }
    assert replace(spread, **there) == local
    assert "Ray Data: 20 shards on 2 nodes with 2 cores" in heard.notes


def test_threads_are_not_rays(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--threads belongs to --engine local"):
        prep([tmp_path], tmp_path / "o.lmdb", PROFILE, engine="ray", threads=2)


def test_without_ray_the_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    lines(tmp_path / "in")
    with pytest.raises(MissingBackendError, match=re.escape(install_line("ray"))):
        prep([tmp_path / "in"], tmp_path / "o.lmdb", PROFILE, engine="ray")
    assert not (tmp_path / "o.lmdb").exists()
