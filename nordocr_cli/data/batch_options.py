"""How line stores become batches. No torch."""

from collections.abc import Sequence
from dataclasses import dataclass

from nordocr_cli.settings import Augment


@dataclass(frozen=True)
class BatchOptions:
    """How lines become batches.

    - `budget_px`: lines times width in pixels of a full batch; a line wider than the budget is a
      batch of its own.
    - `shuffle`: the order of the lines is drawn again for each epoch, `augment` changes them, and
      the share 1 - `mask_share` of the batches is not masked. Without, the order is fixed and every
      batch masked. `seed` makes all of it repeatable.
    - `only`: use these global line indices and no others.
    - `ratios`: one a store, mix the stores. An epoch still has as many lines as they have together,
      drawn by these weights, and over the epochs each line of a store comes equally often. Without
      ratios every line comes once in every epoch.
    - `share`: (rank of this process, processes). At the same time each process takes another batch
      of similar width.
    - `label_limit`: characters of the longest label of a network that writes tokens; None: labels
      must fit the CTC frames of their lines.
    - `line_px`: what each line takes of the budget where the network scales all lines to one size;
      None: its padded width.
    - `workers`: threads that fill batches ahead; 0 fills them in the calling thread. `pin`: batches
      lie in pinned memory, for a GPU.
    """

    budget_px: int
    seed: int = 0
    shuffle: bool = False
    augment: Augment | None = None
    mask_share: float = 1.0
    workers: int = 2
    pin: bool = False
    only: Sequence[int] | None = None
    ratios: Sequence[float] | None = None
    share: tuple[int, int] = (0, 1)
    label_limit: int | None = None
    line_px: int | None = None
