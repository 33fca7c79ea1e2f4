"""prep is killed (SIGKILL) at many moments: there are the old stores or the new ones afterwards,
each of them whole.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.skipif(os.name == "nt", reason="fork and SIGKILL")

MOMENTS = 60
# Each run is a fork that kills itself when the main thread calls its n-th C function, or the k-th
# of those that change folders.
PROGRAM = """
import json, os, random, signal, sys
from pathlib import Path
from nordocr_cli.core.data import verify_store
from nordocr_cli.core.prep.run import prep
from nordocr_cli.data.split import Split
from nordocr_cli.data.store import LineStore
from nordocr_cli.profile import load_profile

folder, moments = Path(sys.argv[1]), int(sys.argv[2])
profile = load_profile("svtrv2-1024").profile
stores = [folder / "out" / "o.lmdb", folder / "out" / "o_val.lmdb"]
changing = (os.replace, os.link, os.mkdir, os.rmdir, os.unlink, os.truncate)
# SIGKILL keeps what the kernel has buffered, and waiting for the disk would be most of the test.
os.fsync = lambda descriptor: None

def run(source, kill_at=None, kind=""):
    calls = {"call": 0, "change": 0}
    def watch(frame, event, what):
        if event in ("c_call", "c_return"):
            calls["call"] += 1
            calls["change"] += what in changing
            if kill_at is not None and calls[kind] == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        sys.setprofile(watch)
        prep([folder / source], stores[0], profile, split=Split(0.3), threads=2)
        sys.setprofile(None)
        os.write(writer, json.dumps(calls).encode())
        os._exit(0)
    os.close(writer)
    status = os.waitpid(child, 0)[1]
    counted = os.read(reader, 1000)
    os.close(reader)
    return os.WTERMSIG(status), json.loads(counted or "{}")

def contents():
    found = []
    for store in stores:
        with LineStore(store) as opened:
            assert verify_store(store).damaged == ()
            found.append(opened.header.content_sha256)
    return found

whole, counts = {}, {}
for source in ("a", "b"):
    signalled, counts = run(source)
    assert signalled == 0 and counts["change"] > 10 and counts["call"] > 500, counts
    whole[source] = contents()
rng, seen, there = random.Random(1), {"old": 0, "new": 0, "mixed": 0}, whole["b"]
kinds = [("change", k) for k in range(1, counts["change"] + 1)]
kinds += [("call", rng.randrange(1, counts["call"])) for _ in range(moments - len(kinds))]
for kind, kill_at in kinds:
    old, new = (whole["a"], whole["b"]) if there[0] == whole["a"][0] else (whole["b"], whole["a"])
    run("b" if new == whole["b"] else "a", kill_at, kind)
    there = contents()
    assert all(found in both for found, both in zip(there, zip(old, new))), (kind, kill_at)
    seen["old" if there == old else "new" if there == new else "mixed"] += 1
left = [name for name in os.listdir(folder / "out") if name.startswith(".")]
run("a")
print(json.dumps({**seen, "left": len(left), "after": sorted(os.listdir(folder / "out"))}))
"""


def lines(folder: Path, seed: int) -> None:
    folder.mkdir()
    rows = []
    for index in range(24):
        image = np.random.default_rng((seed, index)).integers(
            0, 256, (32, 120, 3), dtype=np.uint8
        )
        cv2.imwrite(str(folder / f"{index}.png"), image)
        rows.append(
            json.dumps(
                {"image": f"{index}.png", "text": f"Rad {index}", "source": f"d{index % 6}"}
            )
        )
    (folder / "manifest.jsonl").write_text("\n".join(rows), encoding="utf-8")


def test_killed_at_any_moment_the_old_stores_or_the_new_ones_are_there(
    tmp_path: Path,
) -> None:
    lines(tmp_path / "a", 1)
    lines(tmp_path / "b", 2)
    command = [sys.executable, "-c", PROGRAM, tmp_path, str(MOMENTS)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["old"] >= 10, found
    assert found["new"] >= 3, found
    assert found["left"] >= 1, found
    # the next run removes what the killed ones left, however young it is
    assert found["after"] == ["o.lmdb", "o_val.lmdb"]
