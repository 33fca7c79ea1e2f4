"""Settings that a fine-tuning derives from the labels and the amount of data: charset, length,
learning rate and batch size.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nordocr_cli.charset import CHARSETS, NORDIC, NORDIC_EXT, Charset, describe_character
from nordocr_cli.errors import DataError
from nordocr_cli.profile import Profile
from nordocr_cli.settings import Train

# So many passes over one's own lines, by their number. Few lines are repeated often; rendered lines
# in every step keep the network from memorizing them.
_PASSES = ((100, 40), (500, 25), (2_000, 12), (10_000, 5))
_PASSES_OF_MANY = 2
_MIN_STEPS = 40
_LR_SHARE = 0.6  # of the profile's rate: half-way weights need less than fresh ones
_LR_SHARE_OF_FEW = 0.3
_FEW_LINES = 100
_BATCH_SIZE = 32  # lines a step: many small steps are better than few large ones here
_EVALUATIONS = 6
# Parts of the change from the start to the trained weights that are tried, the largest first.
SHARES = (1.0, 0.75, 0.5, 0.25)
# Ordinary lines may be read with a CER that is higher by so much of it, and by a few errors among
# the 9,000 characters of 300 lines.
_ORDINARY_TOLERANCE, _FEW_ERRORS = 0.1, 0.0005
# More new characters than this are another script, which no fine-tuning of this kind teaches.
_MAX_NEW_CHARACTERS = 40
_FEW_NEW_CHARACTERS = 10  # signs, not an alphabet


@dataclass(frozen=True)
class CharsetChoice:
    """The charset of a fine-tuning. `name` is the name of a built-in charset, "" for a new one;
    `new` are the characters that the recognizer did not have before.
    """

    charset: Charset
    name: str
    new: str


def choose_charset(own: Charset, characters: Mapping[str, int]) -> CharsetChoice:
    """Choose the charset that covers `characters` (each with its number of occurrences): the
    recognizer's charset, a built-in one that contains it, or its charset with the missing
    characters added.

    Raises DataError where so many characters are new, or most of the text is of new ones, that the
    labels are in another script.
    """
    missing = sorted(character for character in characters if character not in own.class_of)
    if not missing:
        return CharsetChoice(own, own.name if own.name in CHARSETS else "", "")
    for built_in in (NORDIC, NORDIC_EXT):
        holds_own = not built_in.missing(own.characters)
        if holds_own and not built_in.missing("".join(missing)):
            return CharsetChoice(built_in, built_in.name, "".join(missing))
    new_share = sum(characters[each] for each in missing) / sum(characters.values())
    mostly_new = len(missing) > _FEW_NEW_CHARACTERS and new_share > 0.5
    if len(missing) > _MAX_NEW_CHARACTERS or mostly_new:
        shown = ", ".join(map(describe_character, missing[:3]))
        raise DataError(
            f"the labels hold {len(missing)} characters that {own.name!r} does not have ({shown}"
            " …): another script needs a recognizer of its own, trained with `nordocr train`"
        )
    new = "".join(missing)
    return CharsetChoice(Charset("finetuned", own.characters + new), "", new)


def choose_training(
    profile: Profile, lines: int, rendered_share: float
) -> tuple[Train, int]:
    """Return the training settings and the number of steps for `lines` labelled lines, when the
    share `rendered_share` of each step is rendered lines.
    """
    passes = next((count for limit, count in _PASSES if lines < limit), _PASSES_OF_MANY)
    train = profile.train
    lines_seen = lines * passes / (1 - rendered_share)
    steps = max(_MIN_STEPS, math.ceil(lines_seen / _BATCH_SIZE))
    share = _LR_SHARE_OF_FEW if lines < _FEW_LINES else _LR_SHARE
    update = {
        "lr": float(f"{train.lr * share:.3g}"),
        "lr_batch": train.lr_batch or train.batch_size * train.accumulate,
        "batch_size": _BATCH_SIZE,
        "batch_by_arch": {},
        "accumulate": 1,
        "warmup_ratio": 0.1,
        # The average must forget the start within the run.
        "ema_decay": round(1 - 10 / max(steps, 20), 4),
        "guidance": "none",
        "eval_every": max(20, steps // _EVALUATIONS),
        "save_every": max(10, steps // (3 * _EVALUATIONS)),
        "log_every": max(1, min(20, steps // 20)),
    }
    return train.model_copy(update=update), steps


def keeps_ordinary(before: float | None, after: float | None) -> bool:
    """Whether ordinary lines with a CER of `before` at the start, and `after` now, count as read
    the same. Lines without characters cannot tell, and do.
    """
    if before is None or after is None:
        return True
    return after <= before * (1 + _ORDINARY_TOLERANCE) + _FEW_ERRORS
