"""OpenOCR's own trainer, from a checkout of github.com/Topdu/OpenOCR, on our lines: its data set,
sampler, network and loop as they are. Needs torchvision, PyYAML and tqdm as well.

Its configuration is the authors' svtrv2_tiny_rctc.yml but for what lines need (the characters, long
texts, widths to 1024 px), batches of as many pixels as ours, two loading processes, no metric
during training, and no augmentation, as imgaug does not run with NumPy 2.
"""

import logging
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from nordocr_cli.charset import Charset

CONFIG = "configs/rec/svtrv2/svtrv2_tiny_rctc.yml"
HEIGHT = 32
LONGEST = 200  # characters
EPOCHS = 10_000  # never reached
LOADERS = 2


class _Over(Exception):
    """The seconds of a round are over."""


class OpenOcr:
    """Its trainer, that can be run for some seconds at a time."""

    def __init__(
        self,
        checkout: Path,
        lmdb: Path,
        work: Path,
        charset: Charset,
        budget_px: int,
        max_width: int,
        amp: bool,
    ) -> None:
        sys.path.insert(0, str(checkout))
        from tools.engine.trainer import Trainer

        characters = work / "characters.txt"
        characters.write_text(
            "".join(f"{c}\n" for c in charset.characters if c != " "), encoding="utf-8"
        )
        config = yaml.safe_load((checkout / CONFIG).read_text(encoding="utf-8"))
        config["Global"] |= {
            "device": "gpu" if torch.cuda.is_available() else "cpu",
            "epoch_num": EPOCHS,
            "output_dir": str(work),
            "print_batch_step": 1 << 30,
            "cal_metric_during_train": False,
            "character_dict_path": str(characters),
            "max_text_length": LONGEST,
            "use_space_char": " " in charset.characters,
            "use_amp": amp,
        }
        data = config["Train"]["dataset"]
        data["data_dir_list"] = [str(lmdb)]
        encode = {
            "CTCLabelEncode": {
                "character_dict_path": str(characters),
                "use_space_char": True,
                "max_text_length": LONGEST,
            }
        }
        data["transforms"] = [
            step if "CTCLabelEncode" not in step else encode
            for step in data["transforms"]
            if "PARSeqAugPIL" not in step
        ]
        config["Train"]["sampler"] |= {
            "first_bs": budget_px // 128,
            "max_ratio": max_width // HEIGHT,
            "max_bs": 1 << 30,
        }
        config["Train"]["loader"] |= {
            "max_ratio": max_width // HEIGHT,
            "num_workers": LOADERS,
            "batch_size_per_card": budget_px // 128,
        }
        config["Eval"] = None
        random.seed(0)
        np.random.seed(0)
        logging.disable(logging.INFO)
        self.trainer = Trainer(_Config(config), mode="train")
        self.loader = self.trainer.train_dataloader
        self.trainer.train_dataloader = self
        self.dataset = self.loader.dataset  # its loop asks for it
        self._batches = self._endless()
        self._until = 0.0
        self.lines, self.waited_s = 0, 0.0

    def run(self, seconds: float) -> tuple[int, float, float]:
        """Let its loop run for `seconds`, to the end of a step: (lines, seconds, seconds of waiting
        for data).
        """
        self.lines, self.waited_s, began = 0, 0.0, time.monotonic()
        self._until = began + seconds
        with suppress(_Over):
            self.trainer.train()
        return self.lines, time.monotonic() - began, self.waited_s

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        while True:
            before = time.monotonic()
            if before > self._until:
                raise _Over
            batch = next(self._batches)
            self.waited_s += time.monotonic() - before
            yield batch
            self.lines += len(batch[0])  # its loop asks for the next one: the step is done

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from self.loader

    def close(self) -> None:
        """End its loading processes."""
        self._batches.close()  # type: ignore[attr-defined]  # a generator


class _Config:
    """What its trainer takes from its configuration object."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        self.cfg = cfg

    def print_cfg(self, _say: Any) -> None:
        """Say nothing."""

    def save(self, path: str, cfg: dict[str, Any]) -> None:
        """Save it next to what the trainer writes."""
        Path(path).write_text(yaml.safe_dump(cfg), encoding="utf-8")
