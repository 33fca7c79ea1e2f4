import random

import numpy as np
import pytest

from nordocr_cli.data.synth import damage
from nordocr_cli.data.synth.damage import RECIPES


def _page(height: int = 48, width: int = 300) -> np.ndarray:
    """A light page with three dark bars."""
    page = np.full((height, width), 230, np.uint8)
    for left in (40, 120, 200):
        page[height // 4 : 3 * height // 4, left : left + 20] = 40
    return page


OPERATIONS = sorted(
    {step.operation for r in RECIPES.values() for step in r.ink_steps + r.page_steps},
    key=lambda f: f.__name__,
)
STRENGTHS = {
    step.operation: (step.low, step.high)
    for recipe in RECIPES.values()
    for step in recipe.ink_steps + recipe.page_steps
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("shape", [(2, 2), (11, 700), (600, 5000)])
def test_an_operation_keeps_shape_and_type_and_follows_its_seed(
    operation, shape: tuple[int, int]
) -> None:
    page = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    before = page.copy()
    for strength in STRENGTHS[operation]:
        once, again = (operation(page, strength, random.Random(5)) for _ in range(2))
        assert once.shape == shape
        assert once.dtype == np.uint8
        assert (once == again).all()
        assert (page == before).all()


@pytest.mark.parametrize(
    "threshold", [damage.threshold_fixed, damage.threshold_otsu, damage.threshold_adaptive]
)
def test_thresholds_leave_one_bit(threshold) -> None:
    strength = {
        damage.threshold_fixed: 128,
        damage.threshold_otsu: 0,
        damage.threshold_adaptive: 15,
    }[threshold]
    page = threshold(_page(), strength, random.Random(1))
    assert set(np.unique(page)) == {0, 255}
    assert page[24, 50] == 0
    assert page[24, 90] == 255


def test_ink_spreads_thins_and_never_comes_from_nothing() -> None:
    ink = 255 - _page()
    ink[ink < 100] = 0
    thin, same, bold = (
        damage.ink_gain(ink, strength, random.Random(1)).astype(int)
        for strength in (-1.0, 0.0, 1.6)
    )
    assert thin.sum() < same.sum() < bold.sum()
    assert bold[0, 0] == 0
    assert not damage.ink_gain(np.zeros((20, 60), np.uint8), 1.6, random.Random(1)).any()


def test_more_strength_is_more_damage() -> None:
    page = _page(60, 2000)

    def change(operation, strength: float) -> float:
        return float(
            np.abs(operation(page, strength, random.Random(3)).astype(int) - page).mean()
        )

    assert change(damage.jpeg, 12) > change(damage.jpeg, 90)
    ranges = (
        (damage.grain, 2, 20),
        (damage.speckle, 0.5, 9),
        (damage.blur, 0.5, 2),
        (damage.shade, 5, 90),
    )
    for operation, weak, strong in ranges:
        assert change(operation, strong) > 1.5 * change(operation, weak), operation.__name__


def test_weak_bars_take_ink_off_horizontal_strokes_alone() -> None:
    ink = np.zeros((48, 80), np.uint8)
    ink[8:12, 20:60] = 255  # the bar of a T
    ink[8:40, 38:42] = 255  # its stem
    weak = damage.weak_bars(ink, 1.0, _FirstChoice(1))
    bar, stem = weak[8:12, 20:36], weak[14:40, 38:42]
    assert bar.mean() < 30
    assert (stem == 255).all()
    assert not weak[ink == 0].any()


class _FirstChoice(random.Random):
    """Takes the first of each list of choices."""

    def choice(self, sequence):
        return sequence[0]


def test_g4_speckle_leaves_one_bit_and_reaches_paper_and_letters() -> None:
    page = damage.threshold_fixed(_page(60, 2000), 128, random.Random(1))
    specked = damage.g4_speckle(page, 9, random.Random(2))
    assert set(np.unique(specked)) == {0, 255}
    assert (specked[:14] == 0).any()
    assert (specked[20:40, 42:58] == 255).any()
    assert 0.002 < (specked != page).mean() < 0.03


@pytest.mark.parametrize("length", [2, 3, 4])
def test_motion_leaves_white_paper_white(length: int) -> None:
    for width in (96, 100, 237, 511):
        for seed in range(4):
            assert (
                damage.motion(
                    np.full((40, width), 255, np.uint8), length, random.Random(seed)
                )
                == 255
            ).all()


def test_a_step_is_done_as_often_as_its_probability_says() -> None:
    page, step = _page(), damage.DamageStep(damage.grain, 0.3, 5, 5)
    for scale, minimum, maximum in ((1.0, 0.22, 0.38), (0.0, 0, 0), (2.0, 0.52, 0.68)):
        done = (
            sum(
                (step.apply(page, random.Random(seed), 30, scale) != page).any()
                for seed in range(400)
            )
            / 400
        )
        assert minimum <= done <= maximum


def test_recipes_weigh_one_and_hold_levels_that_leave_contrast() -> None:
    assert sum(recipe.weight for recipe in RECIPES.values()) == pytest.approx(1.0)
    for name, recipe in RECIPES.items():
        assert recipe.ink[1] + 20 <= recipe.paper[0], name
